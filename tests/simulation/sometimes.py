"""Interesting states that a campaign must have been in, or its silence says nothing.

`MUST_REACH` names each once, with the place that counts it. What can be seen from the hooks
that invariants have is counted by `Watch`, which runs among them and judges nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from cluster.state import LEADER
from statemachine import Accepted, Claim, Code, Grant, Recorded, Refused
from tests.simulation.invariants.rule import Invariant
from tests.simulation.stories import IN_PROGRESS, TERMINAL, Listener, TaskStory

if TYPE_CHECKING:
    from cluster.engine import Engine
    from tests.simulation.nodes import SimNode
    from tests.simulation.world import World

_ENGINE: Final = "world.collect, from the engine's own counts"
_NEMESIS: Final = "nemesis"
_CLIENTS: Final = "clients and workers, from their answers"
_WATCH: Final = "Watch, from the log and the engines"

MUST_REACH: Final[Mapping[str, str]] = MappingProxyType(
    {
        # consensus
        "divergent tail cut": _ENGINE,
        "leader deposed with uncommitted entries": _ENGINE,
        "snapshot sent": _ENGINE,
        "snapshot installed": _ENGINE,
        "snapshot installed during a partition": _WATCH,
        "leadership transferred": _WATCH,
        "check-quorum step-down": _WATCH,
        "disk stall step-down": _WATCH,
        "two nodes at once believe that they lead": _WATCH,
        # membership
        "learner added": _WATCH,
        "learner promoted": _WATCH,
        "voter removed": _WATCH,
        "leader removed": _WATCH,
        "membership changed under partition": _WATCH,
        # memory and disks
        "node quarantined as amnesiac": _WATCH,
        "memory recovered": _ENGINE,
        "wiped node filled again": _WATCH,
        "disk wiped": _NEMESIS,
        "unsynced writes lost": _NEMESIS,
        "all nodes down at once": _NEMESIS,
        "killed within a turn": "nodes",
        "disk full on the leader": _NEMESIS,
        "bit flip detected": _WATCH,
        "flip in the last second": _NEMESIS,
        "clock jump on the leader": _NEMESIS,
        # what clients are told
        "UNKNOWN_OUTCOME answered": _CLIENTS,
        "submit repeated until it was answered": _CLIENTS,
        "stale read answered": _CLIENTS,
        "QUEUE_FULL": _CLIENTS,
        "duplicate submit answered with the first answer": _WATCH,
        "conflicting submit refused": _WATCH,
        "claim repeated and told of the same lease": _WATCH,
        "result repeated and answered alike": _WATCH,
        "stale token refused": _WATCH,
        # lives of tasks
        "lease expired": _WATCH,
        "lease expired during failover": _WATCH,
        "silent worker's session ended": _WATCH,
        "lease lost by registering again": _WATCH,
        "dead letter by lost leases": _WATCH,
        "dead letter by failures": _WATCH,
        "delayed task became due after failover": _WATCH,
        "cancel raced a claim": _WATCH,
        "task retired": _WATCH,
    }
)
"""Name -> who counts it."""

_RACE_S: Final = 0.2


class Watch(Listener, Invariant):
    """Counts what is interesting."""

    name = "watch"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._ledger = world.history.ledger
        self._ledger.listeners.append(self)
        self._leaders: dict[int, int] = {}
        """Node -> term it leads."""
        self._newest = (0, 0, 0.0)
        """Term, node, and true time since when, of the newest leader."""
        self._handing_over = 0
        """Term whose leader has asked another node to stand."""
        self._installed: dict[tuple[int, int], int] = {}
        self._amnesiac: dict[int, bool] = {}
        """Node -> whether it had nothing at all when it was found to be amnesiac."""
        self._members: tuple[int, tuple[int, ...], tuple[int, ...]] = (-1, (), ())
        """Index, voters and learners of the newest configuration seen."""
        self._errors: dict[int, int] = {}

    # ------------------------------------------------------------------------ engines

    def stepped(self, node: SimNode) -> None:
        engine = node.engine
        if engine is None:
            return
        led = self._leaders.get(node.node_id)
        if engine.role == LEADER:
            if led != engine.term:
                self._took_office(node, engine)
            elif engine.transfer_asked:
                self._handing_over = engine.term
        elif led is not None:
            del self._leaders[node.node_id]
            if led == engine.term:
                stalled = engine.disk_stalled()
                self.world.reached("disk stall step-down" if stalled else "check-quorum step-down")
        if engine.amnesiac is not (node.node_id in self._amnesiac):
            self._memory(node, engine)
        if engine.snapshots_installed:
            self._snapshot_installed(node, engine)
        if engine.log.configuration_index > self._members[0]:
            self._members_changed(engine.log.configuration_index, engine.configuration)

    def _snapshot_installed(self, node: SimNode, engine: Engine) -> None:
        installed, process = engine.snapshots_installed, (node.node_id, node.life)
        if self._installed.get(process) != installed:
            self._installed[process] = installed
            if self.world.network.cut:
                self.world.reached("snapshot installed during a partition")

    def _leading(self, node: SimNode, engine: Engine, led: int | None) -> None:
        if engine.role == LEADER:
            if led != engine.term:
                self._took_office(node, engine)
            elif engine.transfer_asked:
                self._handing_over = engine.term
            return
        del self._leaders[node.node_id]
        if led == engine.term:
            stalled = engine.disk_stalled()
            self.world.reached("disk stall step-down" if stalled else "check-quorum step-down")

    def stopped(self, node: SimNode) -> None:
        self._leaders.pop(node.node_id, None)
        self._amnesiac.pop(node.node_id, None)

    def _took_office(self, node: SimNode, engine: Engine) -> None:
        if self._leaders:
            self.world.reached("two nodes at once believe that they lead")
        if self._handing_over == engine.term - 1 and self._newest[1] != node.node_id:
            self.world.reached("leadership transferred")
        self._leaders[node.node_id] = engine.term
        if engine.term > self._newest[0]:
            self._newest = (engine.term, node.node_id, self.world.now)

    def _memory(self, node: SimNode, engine: Engine) -> None:
        if engine.amnesiac:
            self._amnesiac[node.node_id] = engine.log.last_index == 0
            self.world.reached("node quarantined as amnesiac")
        elif self._amnesiac.pop(node.node_id):
            self.world.reached("wiped node filled again")

    def _members_changed(self, index: int, configuration: Any) -> None:
        world = self.world
        before, voters, learners = self._members
        self._members = (index, configuration.voters, configuration.learners)
        if before < 0 or (voters, learners) == self._members[1:]:
            return
        if self.world.network.cut:
            world.reached("membership changed under partition")
        if set(configuration.learners) - set(learners):
            world.reached("learner added")
        if set(configuration.voters) & set(learners):
            world.reached("learner promoted")
        for removed in set(voters) - set(configuration.voters):
            world.reached("voter removed")
            if self._newest[1] == removed or self._handed_over_by(removed):
                world.reached("leader removed")

    def _handed_over_by(self, node_id: int) -> bool:
        """Whether a node led just before the newest leader, and handed over to it."""
        node = self.world.nodes[node_id]
        handed_over = self._handing_over == self._newest[0] - 1
        return handed_over and node.engine is not None and node.engine.counted_leader[0] > 0

    def sampled(self) -> None:
        for node in self.world.nodes.values():
            errors = len(node.start_errors)
            if errors > self._errors.get(node.node_id, 0):
                self._errors[node.node_id] = errors
                if "damaged" in node.start_errors[-1] or "checksum" in node.start_errors[-1]:
                    self.world.reached("bit flip detected")

    # ---------------------------------------------------------------------------- log

    def submitted(self, story: TaskStory | None, task_id: bytes, reply: object) -> None:
        del task_id
        if story is None:
            return
        if isinstance(reply, Accepted):
            self.world.reached("duplicate submit answered with the first answer")
        elif isinstance(reply, Refused) and reply.code == Code.CONFLICT:
            self.world.reached("conflicting submit refused")

    def granted(
        self, story: TaskStory | None, command: Claim, grant: Grant, *, again: bool
    ) -> None:
        del story, command, grant
        if again:
            self.world.reached("claim repeated and told of the same lease")

    def pending(self, story: TaskStory) -> None:
        if story.kind.delay_ms and not story.attempt and self._newest[2] > story.submitted_at:
            self.world.reached("delayed task became due after failover")

    def reported(self, story: TaskStory | None, command: Any, reply: object) -> None:
        if isinstance(reply, Refused) and reply.code == Code.LEASE_LOST:
            self.world.reached("stale token refused")
        elif isinstance(reply, Recorded) and story is not None:
            if story.state != IN_PROGRESS or story.token != command.token:
                self.world.reached("result repeated and answered alike")
            elif reply.state == "dead_letter":
                self.world.reached("dead letter by failures")

    def cancelled(self, story: TaskStory | None, reply: object) -> None:
        if (
            isinstance(reply, Refused)
            and story is not None
            and story.state == IN_PROGRESS
            and self._ledger.now - story.leased_at < _RACE_S
        ):
            self.world.reached("cancel raced a claim")

    def lost(self, story: TaskStory, why: str) -> None:
        world = self.world
        if story.lost + 1 > story.kind.policy.lost_max:
            world.reached("dead letter by lost leases")
        if why == "registered again":
            world.reached("lease lost by registering again")
        elif why == "expired":
            world.reached("lease expired")
            if story.leased_at < self._newest[2]:
                world.reached("lease expired during failover")

    def session_expired(self, session: int) -> None:
        del session
        self.world.reached("silent worker's session ended")

    def retired(self, story: TaskStory) -> None:
        assert story.state in TERMINAL
        self.world.reached("task retired")
