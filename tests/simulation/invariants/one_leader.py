"""One leader per term (election safety, Raft 5.2).

In each term at most one process of one node ever leads. A node that crashed does not lead
the same term again either: it would do so without what it had not made durable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.state import LEADER
from tests.simulation.invariants.rule import OFFICE, Invariant

if TYPE_CHECKING:
    from tests.simulation.nodes import SimNode
    from tests.simulation.world import World


class OneLeader(Invariant):
    """Election safety."""

    name = "one leader per term"
    looks_at = OFFICE

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._leaders: dict[int, tuple[int, int]] = {}
        """Term -> node and life of its leader."""

    def stepped(self, node: SimNode) -> None:
        engine = node.engine
        if engine is None or engine.role != LEADER:
            return
        leader = (node.node_id, node.life)
        known = self._leaders.setdefault(engine.term, leader)
        if known != leader:
            self.fail(f"nodes {known[0]} and {node.node_id} both lead term {engine.term}")
