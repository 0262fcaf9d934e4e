"""Acting on vitals: who is told, what is logged, when a node gives up leading or stops.

Between `cluster.vitals`, which only knows, and the replica, which owns the connections, the
engine and the disk.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple, Protocol

from cluster.events import Ready
from cluster.interface import Machine
from cluster.messages import Message, PreVote, TimeoutNow, VoteRequest
from cluster.vitals import Disagreement, Report, Vitals

_HANDOVER_S = 5.0
"""Between two attempts to hand leadership over; each stops proposals for a moment."""
_CERTAIN = 3
"""Reports in a row that must agree on a clock being off: one may have been under way long."""

_log = logging.getLogger(__name__)


class CheckupUser(Protocol):
    """The replica."""

    def voters(self) -> tuple[int, ...]:
        """The voters of the configuration in force."""

    def say_report(self, report: Report) -> None:
        """Tell every connected peer."""

    def give_up_leading(self) -> bool:
        """Begin to hand leadership over; False when this node does not lead."""

    def diverged(self, text: str) -> None:
        """Record durably that this node's state is wrong, and end for good."""


class Alarms(NamedTuple):
    """What an operator should look at, as of now.

    Attributes:
        skew_ms: How far the own clock is ahead of the time stamped with.
        far_off: This node does not lead because of it.
        disagreement: Nodes have different states, and who; "" while all agree.
        low_disks: Nodes short of disk space.
    """

    skew_ms: int
    far_off: bool
    disagreement: str
    low_disks: tuple[int, ...]


class Checkup:
    """Looks at the vitals once per interval and at each checkpoint.

    Args:
        node_id: This node.
        machine: Whose digests are compared.
        wall_ms: The wall clock.
        interval_s: Between two reports.
        user: The replica.

    Attributes:
        vitals: What is known.
        far_off: This node's clock is so wrong that it must not lead.
    """

    def __init__(
        self,
        node_id: int,
        machine: Machine,
        *,
        wall_ms: Callable[[], int],
        interval_s: float,
        user: CheckupUser,
    ) -> None:
        self.vitals = Vitals(node_id, wall_ms)
        self.far_off = False
        self._node_id = node_id
        self._machine = machine
        self._interval_s = interval_s
        self._user = user
        self._noted = 0
        """Entry of the last checkpoint that was compared."""
        self._due_at = float("-inf")
        self._handover_at = float("-inf")
        self._seen: dict[str, int] = {}
        self._said: frozenset[int] = frozenset()
        self._disagreement: Disagreement | None = None

    def alarms(self, now: float) -> Alarms:
        """Return what an operator should look at."""
        vitals = self.vitals
        skew_ms = vitals.skew_ms(now)
        text = self._disagreement.text if self._disagreement else ""
        return Alarms(skew_ms, self.far_off, text, vitals.low_disks())

    def tick(self, now: float) -> None:
        """Report when it is due, and look at the clocks."""
        self.applied()
        if now < self._due_at:
            return
        self._due_at = now + self._interval_s
        self.vitals.voters = self._user.voters()
        self._user.say_report(self.vitals.report())
        self._look_at_clocks(now)

    def soon(self) -> None:
        """Report at the next tick: somebody new listens."""
        self._due_at = float("-inf")

    def applied(self) -> None:
        """Compare the machine's checkpoint, if it has made one since the last time."""
        index, digest = self._machine.digest_chain
        if index > self._noted:
            self._noted = index
            disagreement = self.vitals.note_checkpoint(index, digest)
            self._user.say_report(self.vitals.report())
            self._judge(disagreement)

    def hear(self, peer: int, report: Report, now: float) -> None:
        """Take a peer's report."""
        self._judge(self.vitals.hear(peer, report, now))

    def forget(self, peer: int) -> None:
        """Drop what a peer said; a node that has stopped disagrees no more."""
        self.vitals.forget(peer)
        self._disagreement = None

    def admits(self, message: Message) -> bool:
        """Whether a message may come in: one far off is not made to stand by a leader."""
        return not (self.far_off and isinstance(message, TimeoutNow))

    def restrain(self, ready: Ready) -> None:
        """Take out of a step what a node far off must not ask for: votes.

        It gives its own vote as ever. To the others it is as if the requests were lost.
        """
        if self.far_off:
            ready.messages = [
                item for item in ready.messages if not isinstance(item[1], PreVote | VoteRequest)
            ]
            ready.held = [
                item for item in ready.held if not isinstance(item[2], PreVote | VoteRequest)
            ]

    def _judge(self, disagreement: Disagreement | None) -> None:
        if disagreement is None:
            return
        known, self._disagreement = self._disagreement, disagreement
        if disagreement.halt:
            self._user.diverged(disagreement.text)
        elif known is None or known[2:] != disagreement[2:]:  # not for each checkpoint again
            _log.error("%s", disagreement.text)

    def _look_at_clocks(self, now: float) -> None:
        apart = self.vitals.apart(now)
        certain = frozenset(node for node in apart if self._holds(f"apart {node}"))
        for key in [key for key in self._seen if key.startswith("apart ")]:
            if int(key.removeprefix("apart ")) not in apart:
                del self._seen[key]
        for node in sorted(certain - self._said):
            _log.error(
                "the clock of node %d is %.1f s %s the median of the voters' clocks: correct it",
                node,
                abs(apart[node]) / 1000,
                "ahead of" if apart[node] > 0 else "behind",
            )
        for node in sorted(self._said - certain):
            _log.info("the clock of node %d is right again", node)
        self._said = certain
        self._look_at_own(now)

    def _look_at_own(self, now: float) -> None:
        was = self.far_off
        if not self.vitals.is_far_off(now):
            self._seen.pop("far off", None)
            self.far_off = False
            return
        self.far_off = self._holds("far off")
        if self.far_off and not was:
            _log.error(
                "the clock of node %d is so wrong that it will not lead until it is right",
                self._node_id,
            )
        if self.far_off and now >= self._handover_at and self._user.give_up_leading():
            self._handover_at = now + _HANDOVER_S

    def _holds(self, what: str) -> bool:
        self._seen[what] = self._seen.get(what, 0) + 1
        return self._seen[what] >= _CERTAIN
