"""Members are as the log says (Raft thesis 4.1).

Each node counts by the latest configuration in its log, and takes back one that was cut
from it. A configuration that one node has committed at an index, every node has there or
has not reached. A leader has one change open at a time, and begins none before an entry of
its own term is committed.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from typing import TYPE_CHECKING

from cluster.configuration import Configuration
from cluster.state import LEADER
from tests.simulation.invariants.rule import COMMIT, MEMBERS, OFFICE, Invariant

if TYPE_CHECKING:
    from cluster.engine import Engine
    from tests.simulation.nodes import SimNode
    from tests.simulation.world import World


class Configurations(Invariant):
    """The log says who counts."""

    name = "members as the log says"
    looks_at = OFFICE | COMMIT | MEMBERS

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._committed: dict[int, Configuration] = {}
        self._indexes: list[int] = []
        self._newest = -1
        """The last of them: whoever counts by it cannot be behind."""
        self._seen: dict[int, tuple[int, int, int]] = {}
        """Node -> life, term and index of the configuration that was looked at last."""

    def stepped(self, node: SimNode) -> None:
        engine = node.engine
        if engine is None:
            return
        index = engine.log.configuration_index
        self._check_commit(node, engine, index)
        seen = (node.life, engine.term, index)
        before = self._seen.get(node.node_id)
        if seen != before:
            self._seen[node.node_id] = seen
            self._check_log(node, engine, index)
            if before is not None and before[:2] == seen[:2]:
                self._check_change(node, engine, before[2], index)

    def _check_commit(self, node: SimNode, engine: Engine, index: int) -> None:
        if index and index <= engine.commit_index:
            known = self._committed.get(index)
            if known is None:
                self._committed[index] = engine.configuration
                insort(self._indexes, index)
                self._newest = self._indexes[-1]
            elif known != engine.configuration:
                self.fail(f"node {node.node_id} counts otherwise at {index}: {known}")
        if index == self._newest:
            return
        at = bisect_right(self._indexes, engine.commit_index)
        if at and index < self._indexes[at - 1]:
            self.fail(
                f"node {node.node_id}, at {engine.commit_index}, counts by the configuration of "
                f"{index} and not by that of {self._indexes[at - 1]}"
            )

    def _check_log(self, node: SimNode, engine: Engine, index: int) -> None:
        log = engine.log
        if index > log.base_index:
            entry = log.entries[index - log.base_index][0]
            if Configuration.from_entry(entry) != engine.configuration:
                self.fail(f"node {node.node_id} does not count as its entry {index} says")
        elif not index and engine.configuration.voters:
            counted = engine.configuration.voters, engine.configuration.learners
            founded = (*range(1, self.world.options.nodes + 1),)
            if counted not in {(tuple(sorted(node.founders)), ()), (founded, ())}:
                self.fail(f"node {node.node_id} counts {counted}, and its log names nobody else")

    def _check_change(self, node: SimNode, engine: Engine, before: int, index: int) -> None:
        if engine.role != LEADER or index <= before:
            return
        if before > engine.commit_index:
            self.fail(f"leader {node.node_id} has two changes open: {before} and {index}")
        if engine.commit_index < engine.noop_index:
            self.fail(f"leader {node.node_id} changes members at {index} before its own commit")
