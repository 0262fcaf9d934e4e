"""Progress after healing (L1, L2, L4).

Once the network is whole, the disks have room and all nodes run, there is a leader, every
accepted task comes to its end, and all members stand where the leader stood a moment ago.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from cluster.state import LEADER
from tests.simulation.invariants.outsiders import voters_of
from tests.simulation.invariants.rule import Invariant

if TYPE_CHECKING:
    from cluster.engine import Engine
    from tests.simulation.world import World


LAG_S: Final = 3.0
"""How far a healthy member may be behind."""


class Progress(Invariant):
    """The cluster gets well."""

    name = "progress after healing"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._goals: deque[tuple[float, int]] = deque()
        """What the leader had committed at the last samples, the oldest `LAG_S` old."""

    def _leader(self) -> Engine | None:
        engines = [node.engine for node in self.world.nodes.values()]
        leaders = [engine for engine in engines if engine is not None and engine.role == LEADER]
        return max(leaders, key=lambda engine: engine.term, default=None)

    def sampled(self) -> None:
        leader = self._leader()
        now, goals = self.world.now, self._goals
        goals.append((now, leader.commit_index if leader is not None else 0))
        while len(goals) > 1 and goals[1][0] <= now - LAG_S:
            goals.popleft()

    def finished(self) -> None:
        live = self.world.history.ledger.live
        if live:
            stories = [story.describe() for story in list(live.values())[:3]]
            self.fail(f"{len(live)} accepted tasks have not ended: {', '.join(stories)}")
        leader = self._leader()
        if leader is None:
            self.fail("there is no leader")
        for member in voters_of(leader):
            engine = self.world.nodes[member].engine
            goal = self._goals[0][1]
            if engine is None or engine.applied_index < goal:
                at = "down" if engine is None else f"at {engine.applied_index}"
                self.fail(f"member {member} is {at}, {LAG_S} s ago {goal} was committed")
