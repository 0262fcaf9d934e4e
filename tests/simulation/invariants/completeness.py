"""Leader completeness and commit safety (Raft 5.4).

What is committed at an index is committed there for good, on every node. A leader of a
later term holds all of it: since logs match, it is enough that it holds the last entry
that was committed in an earlier term.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.state import LEADER
from tests.simulation.invariants.rule import COMMIT, OFFICE, Invariant

if TYPE_CHECKING:
    from tests.simulation.nodes import SimNode
    from tests.simulation.world import World


class LeaderCompleteness(Invariant):
    """Committed is committed."""

    name = "leader completeness"
    looks_at = OFFICE | COMMIT

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._committed: dict[int, tuple[bytes, int, int]] = {}
        """Index -> entry, index and term, once any node takes it for committed."""
        self._last: dict[int, int] = {}
        """Term -> largest index known as committed in it."""
        self._seen: dict[tuple[int, int], int] = {}
        """Node and life -> commit index up to which its log was looked at."""
        self._leads: dict[int, int] = {}
        """Node -> term that it was last seen to lead."""

    def stepped(self, node: SimNode) -> None:
        engine = node.engine
        if engine is None:
            return
        log, node_id, term = engine.log, node.node_id, engine.term
        process = (node_id, node.life)
        if engine.role == LEADER and self._leads.get(node_id) != term:
            self._leads[node_id] = term
            self._check_leader(node)
        seen = self._seen.get(process, 0)
        if engine.commit_index <= seen:
            return
        committed, entries, base = self._committed, log.entries, log.base_index
        for index in range(max(seen, base) + 1, engine.commit_index + 1):
            found = entries[index - base]
            known = committed.setdefault(index, found)
            if known != found:
                self.fail(
                    f"node {node_id} commits at {index} an entry of term {found[2]}, "
                    f"where one of term {known[2]} is committed"
                )
        self._seen[process] = engine.commit_index
        if engine.commit_index > self._last.get(term, 0):
            self._last[term] = engine.commit_index

    def _check_leader(self, node: SimNode) -> None:
        engine = node.engine
        assert engine is not None
        log = engine.log
        last = max((at for term, at in self._last.items() if term < engine.term), default=0)
        if last <= log.base_index or last not in self._committed:
            return
        if log.term_at(last) != self._committed[last][2]:
            self.fail(
                f"node {node.node_id} leads term {engine.term} without entry {last}, "
                f"committed in an earlier term"
            )
