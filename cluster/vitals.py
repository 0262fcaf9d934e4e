"""What nodes tell each other of themselves besides the log: clocks, digests, disks.

Three dangers are watched for here, none of which consensus sees:

- A leader whose wall clock is wrong would push the cluster's time ahead for good. So a node
  stamps with a time that a right clock has reached, and one that is far off while a quorum agrees
  on the time does not lead.
- A machine that computes something else than the others gives wrong answers in good order.
  So the digests of equal checkpoints are compared, and a minority stops.
- A disk that fills up stops a node. So the others can tell.

Sans I/O: whoever drives it hands in both clocks and carries out what comes back.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from cluster.messages import PeerProtocolError

DIGEST_MAX_BYTES = 64
APART_MS = 2_000
"""Clocks this far from the median are worth an alarm."""
FAR_OFF_MS = 60_000
"""A node this far from the median does not lead."""

_NUMBER_MAX = 2**63 - 1
_SAMPLES = 8
_CHECKPOINTS_KEPT = 256


class Report(NamedTuple):
    """What one node says of itself, once a second and at each checkpoint.

    Attributes:
        wall_ms: Its wall clock, milliseconds since the Unix epoch.
        digest_index: Entry of its last checkpoint, 0 before the first.
        digest: The machine's digest as of that entry, at most 64 bytes.
        disk_low: It is short of disk space.
    """

    wall_ms: int
    digest_index: int
    digest: bytes
    disk_low: bool

    def to_list(self) -> list[object]:
        """Return the wire form, without the kind of the frame."""
        return [self.wall_ms, self.digest_index, self.digest, self.disk_low]

    @classmethod
    def from_list(cls, form: list[object]) -> Report:
        """Read the wire form.

        Raises:
            PeerProtocolError: It is not a report.
        """
        if len(form) != 4:
            raise PeerProtocolError("a report has 4 elements")
        wall_ms, digest_index, digest, disk_low = form
        if type(wall_ms) is not int or not 0 <= wall_ms <= _NUMBER_MAX:
            raise PeerProtocolError("a report's clock is out of range")
        if type(digest_index) is not int or not 0 <= digest_index <= _NUMBER_MAX:
            raise PeerProtocolError("a report's index is out of range")
        if type(digest) is not bytes or len(digest) > DIGEST_MAX_BYTES:
            raise PeerProtocolError("a report's digest is no digest")
        if type(disk_low) is not bool:
            raise PeerProtocolError("a report's disk is neither low nor not")
        return cls(wall_ms, digest_index, digest, disk_low)


class Disagreement(NamedTuple):
    """Nodes hold different states at the same entry.

    Attributes:
        halt: A quorum agrees, and this node is not of it: it must stop.
        text: Who differs from whom, and where.
        others: Who differs from this node.
        agreed: A quorum agrees.
    """

    halt: bool
    text: str
    others: tuple[int, ...] = ()
    agreed: bool = False


class _Peer:
    """What was heard from one peer over its present connection."""

    __slots__ = ("digests", "disk_low", "offset_ms", "offsets_ms")

    def __init__(self) -> None:
        self.offsets_ms: deque[int] = deque(maxlen=_SAMPLES)
        self.offset_ms = 0
        self.digests: dict[int, bytes] = {}
        self.disk_low = False


class Vitals:
    """This node's vitals and those of its peers.

    Args:
        node_id: This node.
        wall_ms: This node's wall clock, milliseconds since the Unix epoch.

    Attributes:
        voters: Whose clocks and digests count; learners are only told of.
        disk_low: This node is short of disk space.
    """

    def __init__(self, node_id: int, wall_ms: Callable[[], int]) -> None:
        self.voters: tuple[int, ...] = (node_id,)
        self.disk_low = False
        self._node_id = node_id
        self._own_wall_ms = wall_ms
        self._peers: dict[int, _Peer] = {}
        self._own: dict[int, bytes] = {}
        self._latest = (0, b"")

    def report(self) -> Report:
        """Return what this node says of itself now."""
        return Report(max(0, self._own_wall_ms()), *self._latest, self.disk_low)

    def hear(self, peer: int, report: Report, now: float) -> Disagreement | None:
        """Take a report.

        Args:
            peer: Who sent it.
            report: What it says.
            now: The monotonic clock as it came, seconds.
        """
        told = self._peers.setdefault(peer, _Peer())
        told.offsets_ms.append(report.wall_ms - int(now * 1000))
        # A report that was long under way makes a clock look slow: the largest one counts.
        told.offset_ms = max(told.offsets_ms)
        told.disk_low = report.disk_low
        if report.digest_index == 0:
            return None
        _keep(told.digests, report.digest_index, report.digest)
        return self._compare(report.digest_index)

    def forget(self, peer: int) -> None:
        """Drop what a peer said: it is not connected any more."""
        self._peers.pop(peer, None)

    # Clocks.

    def wall_ms(self, now: float) -> int:
        """Return the time this node stamps with: one that a right clock has reached.

        Of 2f+1 voters f clocks may be wrong, so of those heard the one with f others above
        it counts: the median when all are heard, the lower one of two out of three. Time
        that lags catches up, time that ran ahead never returns.

        Args:
            now: The monotonic clock, seconds.

        Returns:
            Milliseconds since the Unix epoch; 0, with which nothing is stamped, while fewer than a
            quorum of clocks are known.
        """
        half = len(self.voters) // 2
        clocks = sorted(self._clocks(now).values(), reverse=True)
        return clocks[half] if len(clocks) > half else 0

    def skew_ms(self, now: float) -> int:
        """How far this node's own clock is ahead of the median of those known."""
        return self._own_wall_ms() - _middle(self._clocks(now).values())

    def apart(self, now: float) -> dict[int, int]:
        """Voters whose clocks are 2 s and more off the median, with how far ahead they are."""
        clocks = self._clocks(now)
        middle = _middle(clocks.values())
        return {
            node: clock - middle
            for node, clock in sorted(clocks.items())
            if abs(clock - middle) >= APART_MS
        }

    def is_far_off(self, now: float) -> bool:
        """Whether a quorum without this node agrees on the time, and this node does not.

        Where no quorum agrees nobody is far off: a time that is in doubt must not keep
        every voter from leading. Where one does, it can elect a leader of its own as a rule;
        where it does not for a while, `cluster.driver` lets this node stand.
        """
        clocks = self._clocks(now)
        middle = _middle(clocks.values())
        if abs(self._own_wall_ms() - middle) < FAR_OFF_MS:
            return False
        agreed = sum(abs(clock - middle) < FAR_OFF_MS for clock in clocks.values())
        return agreed >= self._quorum

    def _clocks(self, now: float) -> dict[int, int]:
        now_ms = int(now * 1000)
        clocks = {
            peer: told.offset_ms + now_ms
            for peer, told in self._peers.items()
            if peer in self.voters
        }
        if self._node_id in self.voters or not clocks:
            clocks[self._node_id] = self._own_wall_ms()
        return clocks

    # Digests.

    def note_checkpoint(self, index: int, digest: bytes) -> Disagreement | None:
        """Take note of this node's own digest as of an entry."""
        self._latest = (index, digest)
        _keep(self._own, index, digest)
        return self._compare(index)

    @property
    def checkpoint(self) -> int:
        """Entry of the last checkpoint noted, 0 before the first."""
        return self._latest[0]

    def _compare(self, index: int) -> Disagreement | None:
        mine = self._own.get(index)
        if mine is None:
            return None
        said = {
            peer: told.digests[index] for peer, told in self._peers.items() if index in told.digests
        }
        others = sorted(peer for peer, digest in said.items() if digest != mine)
        if not others:
            return None
        said[self._node_id] = mine
        counts = Counter(digest for node, digest in said.items() if node in self.voters)
        digest, count = counts.most_common(1)[0] if counts else (mine, 0)
        agreed = count >= self._quorum
        if agreed and digest != mine:
            majority = [node for node in self.voters if said.get(node) == digest]
            text = (
                f"the state of node {self._node_id} at entry {index} is not the one "
                f"{_named(majority)} agree on"
            )
            return Disagreement(True, text, tuple(others), agreed)
        verdict = (
            "and a quorum agrees with this node"
            if agreed
            else "and no quorum is known to agree: none of them can be told to be right"
        )
        text = (
            f"at entry {index} the state of {_named(others)} is not the one of node "
            f"{self._node_id}, {verdict}"
        )
        return Disagreement(False, text, tuple(others), agreed)

    # Disks.

    def low_disks(self) -> tuple[int, ...]:
        """Nodes that are short of disk space, this one included."""
        low = {peer for peer, told in self._peers.items() if told.disk_low}
        return tuple(sorted(low | ({self._node_id} if self.disk_low else set())))

    @property
    def _quorum(self) -> int:
        return len(self.voters) // 2 + 1


def _keep(digests: dict[int, bytes], index: int, digest: bytes) -> None:
    digests[index] = digest
    if len(digests) > _CHECKPOINTS_KEPT:
        del digests[next(iter(digests))]


def _middle(clocks: Iterable[int]) -> int:
    ordered = sorted(clocks)
    return ordered[(len(ordered) - 1) // 2]


def _named(nodes: Iterable[int]) -> str:
    names = [f"node {node}" for node in nodes]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
