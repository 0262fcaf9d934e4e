"""Log matching (Raft 5.3).

If two logs hold an entry of the same index and term, the entries are the same, and so are
all before them. By induction it is enough that an index and a term determine the entry and
the term of the entry before it. What a step added is compared at once; every log as a
whole now and then, in case something in its middle was replaced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.invariants.rule import END, Invariant

if TYPE_CHECKING:
    from cluster.engine import Engine
    from tests.simulation.nodes import SimNode
    from tests.simulation.world import World

_WHOLE_EVERY = 10
"""Samples between two looks at whole logs."""


class LogMatching(Invariant):
    """Equal index and term, equal log up to there."""

    name = "log matching"
    looks_at = END

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._known: dict[tuple[int, int], tuple[bytes, int]] = {}
        """(index, term) -> entry and the term before it."""
        self._ends: dict[int, tuple[int, int]] = {}
        """Node -> index and term of the end of its log when it was last looked at."""
        self._samples = 0

    def stepped(self, node: SimNode) -> None:
        engine = node.engine
        if engine is None:
            return
        log = engine.log
        end, term = self._ends.get(node.node_id, (0, 0))
        _, last_index, last_term = log.entries[-1]
        if last_index == end and last_term == term:
            return
        self._ends[node.node_id] = (last_index, last_term)
        # The old end is still there with its term, or what replaced it begins further back.
        first = end + 1 if log.term_at(end) == term else log.base_index + 1
        self._look(node.node_id, engine, max(first, log.base_index + 1))

    def sampled(self) -> None:
        self._samples += 1
        if self._samples % _WHOLE_EVERY == 0:
            self.finished()

    def finished(self) -> None:
        for node in self.world.nodes.values():
            if node.engine is not None:
                self._look(node.node_id, node.engine, node.engine.log.base_index + 1)

    def _look(self, node_id: int, engine: Engine, first: int) -> None:
        entries, base, known = engine.log.entries, engine.log.base_index, self._known
        before = entries[first - 1 - base][2]
        for at in range(first - base, len(entries)):
            entry, index, term = entries[at]
            held = known.get((index, term))
            if held is None:
                known[index, term] = (entry, before)
            # The entry at the boundary may have lost its term with its record.
            elif held[0] != entry or (held[1] != before and at > 1):
                self.fail(
                    f"node {node_id} holds another entry of index {index}, term {term} "
                    f"(terms before: {held[1]} and {before})"
                )
            before = term
