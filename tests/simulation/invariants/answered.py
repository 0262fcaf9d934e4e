"""Every caller is answered, once (L5 and the engine's contract).

Whoever proposes to the engine or asks it for a barrier hears of it: in a cluster that is
well nothing stays under way in a broker. A client's request is answered exactly once while
its connection lives, and with nothing that it did not ask for.

A leader that hears its followers and can commit nothing, since one has to be sent a snapshot
and another has lost its memory, keeps what it proposed under way, however long that takes:
whoever asked was told before that the outcome is not known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.state import LEADER
from node.proposer import Batch
from tests.simulation.invariants.rule import Invariant

if TYPE_CHECKING:
    from tests.simulation.nodes import SimNode
    from tests.simulation.world import World

PATIENCE_S = 5.0
"""What is under way for longer, in a cluster that is well, was forgotten."""
ANSWER_S = 10.0
"""A request that a running process has had for so long was forgotten: without a majority it
would have said so (L5). Generous, since disks and messages may be slow meanwhile."""


class EveryCallerAnswered(Invariant):
    """Nobody waits for ever."""

    name = "every caller answered"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._since: dict[object, float] = {}
        """What is under way in a broker, and since when it has been seen there."""
        self._ends: dict[object, int] = {}
        """A proposal that is under way for long, and an index behind which it cannot be."""

    def sampled(self) -> None:
        troubles = self.world.history.troubles
        if troubles:
            self.fail(troubles[0])
        for name, line in self.world.history.lines.items():
            for number in line.late(self.world.now, ANSWER_S):
                self.fail(f"node {line.node_id} does not answer request {number} of {name}")
        before, self._since = self._since, {}
        for node in self.world.nodes.values():
            broker = node.broker
            if broker is None:
                continue
            now = self.world.now
            for one in (*broker.proposer._in_flight, *broker._barriers._under_way):
                since = self._since[one] = now if node.paused else before.get(one, now)
                if now - since > ANSWER_S and not self._may_be_committed_yet(node, one):
                    self.fail(f"node {node.node_id} never heard of {one}")

    def _may_be_committed_yet(self, node: SimNode, one: object) -> bool:
        """Whether it is an entry of a leader that has not applied all it had when last asked."""
        engine = node.engine
        if engine is None or engine.role != LEADER or not isinstance(one, Batch):
            return False
        return engine.applied_index < self._ends.setdefault(one, engine.log.last_index)

    def finished(self) -> None:
        self.sampled()
        late = [one for one, since in self._since.items() if self.world.now - since > PATIENCE_S]
        if late:
            self.fail(f"{len(late)} proposals and barriers were never heard of: {late[:3]}")
