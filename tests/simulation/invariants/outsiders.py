"""Who may not vote does not count (S7, membership).

A node that cannot prove its own log (an amnesiac), a learner and a removed node neither
stand nor lead, and an amnesiac gives no vote. What a leader takes for committed is durable
on a majority of the voters, counted without amnesiacs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cluster.state import FOLLOWER, LEADER
from tests.simulation.invariants.rule import COMMIT, MEMBERS, OFFICE, Invariant

if TYPE_CHECKING:
    from cluster.engine import Engine
    from tests.simulation.nodes import SimNode
    from tests.simulation.world import World


def voters_of(engine: Engine) -> Sequence[int]:
    """The voters of the configuration that a node has in force."""
    configuration = getattr(engine, "configuration", None)
    voters: Sequence[int] = engine.voters if configuration is None else configuration.voters
    return voters


class Outsiders(Invariant):
    """Only voters count."""

    name = "only voters count"
    looks_at = OFFICE | COMMIT | MEMBERS

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._began: dict[tuple[int, int], int] = {}
        """Node and life -> term that the process found on its disk."""
        self._past: dict[int, Engine] = {}
        """Node -> the engine of its last process with its memory: what it has confirmed may
        still count, for a leader that reads it later.
        """
        self._led: dict[int, tuple[int, int]] = {}
        """Node -> term it led last, and the commit index that was looked at last."""

    def stopped(self, node: SimNode) -> None:
        if node.engine is not None and not node.engine.amnesiac:
            self._past[node.node_id] = node.engine

    def stepped(self, node: SimNode) -> None:
        engine = node.engine
        if engine is None:
            return
        began = self._began.setdefault((node.node_id, node.life), engine.term)
        if engine.role != FOLLOWER:
            if engine.amnesiac:
                self.fail(f"node {node.node_id} stands or leads without its memory")
            if node.node_id not in voters_of(engine):
                self.fail(f"node {node.node_id} stands or leads and is no voter")
        if engine.amnesiac and engine.term > began and engine.voted_for is not None:
            self.fail(f"node {node.node_id} votes for {engine.voted_for} without its memory")
        if engine.role == LEADER:
            term, commit_index = self._led.get(node.node_id, (0, 0))
            self._led[node.node_id] = (engine.term, engine.commit_index)
            # What it knew to be committed when it came to lead was counted by others.
            if term == engine.term and engine.commit_index > commit_index:
                self._check_commit(node, engine)

    def _check_commit(self, node: SimNode, engine: Engine) -> None:
        index = engine.commit_index
        term = engine.log.term_at(index)
        voters = voters_of(engine)
        holders = [voter for voter in voters if self._holds(voter, index, term)]
        if len(holders) <= len(voters) // 2:
            self.fail(
                f"node {node.node_id} commits entry {index}, which is durable on "
                f"{holders} of {list(voters)} only"
            )

    def _holds(self, voter: int, index: int, term: int | None) -> bool:
        present = self.world.nodes[voter].engine if voter in self.world.nodes else None
        for engine in (present, self._past.get(voter)):
            if engine is None or engine.amnesiac:
                continue
            if engine.durable_index >= index and engine.log.term_at(index) in {term, None}:
                return True
        return False
