"""What must hold in every history, checked as it happens."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from cluster.state import LEADER

if TYPE_CHECKING:
    from tests.simulation.node import SimNode
    from tests.simulation.world import World


class Violation(Exception):  # noqa: N818  # what was found, not who erred
    """The cluster did what it must never do."""


class Checks:
    """The observer: it sees every node and keeps the cluster's one true history."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.leaders: dict[int, int] = {}
        self.committed: dict[int, tuple[int, bytes]] = {}
        self.committed_in: dict[int, int] = {}
        self.applied: dict[int, bytes] = {}
        self.acked: dict[int, int] = {}
        self.acked_index = 0
        self.answers: Counter[str] = Counter()
        self._seen_commit: dict[int, int] = {}

    def fail(self, text: str) -> None:
        self.world.trace("VIOLATION", text)
        raise Violation(text)

    def forget_node(self, node_id: int) -> None:
        """A new process starts: its commit index starts over."""
        self._seen_commit.pop(node_id, None)

    def after_step(self, node: SimNode) -> None:
        """Election safety, leader completeness and commit safety after any step."""
        engine = node.engine
        assert engine is not None
        if engine.role == LEADER and self.leaders.get(engine.term) != node.node_id:
            self._new_leader(node)
        log = engine.log
        seen = self._seen_commit.get(node.node_id, log.base_index)
        for index in range(max(seen, log.base_index) + 1, engine.commit_index + 1):
            entry, _, term = log.entries[index - log.base_index]
            known = self.committed.setdefault(index, (term, entry))
            self.committed_in.setdefault(index, engine.term)
            if known != (term, entry):
                self.fail(f"commit safety: node {node.node_id} commits another entry at {index}")
        self._seen_commit[node.node_id] = max(seen, engine.commit_index)

    def _new_leader(self, node: SimNode) -> None:
        engine = node.engine
        assert engine is not None
        other = self.leaders.setdefault(engine.term, node.node_id)
        if other != node.node_id:
            self.fail(f"election safety: {other} and {node.node_id} lead term {engine.term}")
        self.world.trace("LEADER", node.node_id, engine.term)
        log = engine.log
        for index, (term, entry) in self.committed.items():
            if index <= log.base_index or self.committed_in[index] >= engine.term:
                continue
            held = log.entries[index - log.base_index] if index <= log.last_index else None
            if held is None or (held[2], held[0]) != (term, entry):
                self.fail(
                    f"leader completeness: {node.node_id} leads term {engine.term} "
                    f"without the committed entry {index}"
                )

    def entry_applied(self, node: SimNode, index: int, entry: bytes) -> None:
        """State machine safety: one entry per index, in rising order, never twice."""
        if self.applied.setdefault(index, entry) != entry:
            self.fail(f"state machine safety: node {node.node_id} applies another entry at {index}")
        if index <= node.applied_index:
            self.fail(f"node {node.node_id} applies {index} again, after {node.applied_index}")
        node.applied_index = index

    def acknowledged(self, uid: int, index: int) -> None:
        self.acked[uid] = index
        self.acked_index = max(self.acked_index, index)

    def read_done(self, node: SimNode, needed_index: int, *, ok: bool) -> None:
        """A barrier read sees every write acknowledged before it was asked for."""
        engine = node.engine
        assert engine is not None
        self.answers["read" if ok else "read refused"] += 1
        if ok and engine.applied_index < needed_index:
            self.fail(
                f"stale read: node {node.node_id} is at {engine.applied_index}, "
                f"{needed_index} was acknowledged before"
            )

    def log_matching(self) -> None:
        """Equal term at an index means equal logs up to there."""
        logs = [node.engine.log for node in self.world.nodes.values() if node.engine is not None]
        for position, one in enumerate(logs):
            for other in logs[position + 1 :]:
                same = False
                low = max(one.base_index, other.base_index)
                for index in range(min(one.last_index, other.last_index), low, -1):
                    mine = one.entries[index - one.base_index]
                    yours = other.entries[index - other.base_index]
                    same = same or mine[2] == yours[2]
                    if same and mine != yours:
                        self.fail(f"log matching: two logs differ at {index}")

    def level(self) -> bool:
        """Whether all nodes stand at the end of the same log."""
        engines = [node.engine for node in self.world.nodes.values() if node.engine is not None]
        return len({e.applied_index for e in engines} | {e.log.last_index for e in engines}) == 1

    def converged(self) -> None:
        """After healing: equal states, and nothing acknowledged is missing or doubled."""
        nodes = list(self.world.nodes.values())
        digests = {node.machine.digest for node in nodes}
        if len(digests) != 1 or len({node.applied_index for node in nodes}) != 1:
            states = {node.node_id: (node.applied_index, node.describe()) for node in nodes}
            self.fail(f"no convergence after healing: {states}")
        entries = list(nodes[0].machine.entries.values())
        if len(set(entries)) != len(entries):
            self.fail("an entry was applied twice")
        present = nodes[0].machine.entries
        for uid, index in self.acked.items():
            if self.world.uid_of(present.get(index, b"")) != uid:
                self.fail(f"acknowledged entry {uid} at index {index} is lost")
        for node in nodes:
            if node.outstanding:
                self.fail(f"node {node.node_id} never answered {sorted(node.outstanding)[:5]}")
