"""State machine safety (Raft 5.4.3, S7): the same entry at the same index, with the same outcome.

Every node that applies an index applies the same bytes there and gets the same replies and
hints, whether it led, followed, or read its log again after a restart. A process applies in
rising order and nothing twice.

The first to apply an index shows it to the ledger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.invariants.rule import Invariant

if TYPE_CHECKING:
    from statemachine import Outcome
    from tests.simulation.nodes import SimNode
    from tests.simulation.world import World


class SameEntries(Invariant):
    """State machine safety."""

    name = "same entry, same outcome"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._applied: dict[int, tuple[bytes, Outcome]] = {}
        self._at: dict[int, tuple[int, int]] = {}
        """Node -> life and the last index applied in it."""
        self._ledger = world.history.ledger

    def applied(self, node: SimNode, index: int, entry: bytes, outcome: Outcome) -> None:
        life, before = self._at.get(node.node_id, (0, 0))
        if life == node.life and index <= before:
            self.fail(f"node {node.node_id} applies {index} after {before}")
        self._at[node.node_id] = (node.life, index)
        known = self._applied.get(index)
        if known is None:
            self._applied[index] = (entry, outcome)
            if index <= self._ledger.index:
                self.fail(f"entry {index} is new, after entry {self._ledger.index}")
            self._ledger.take(index, entry, outcome, self.world.now)
        elif known[0] != entry:
            self.fail(f"node {node.node_id} applies another entry at {index}")
        elif known[1] != outcome:
            self.fail(
                f"node {node.node_id} gets another outcome at {index}: {outcome} where it was "
                f"{known[1]}"
            )
