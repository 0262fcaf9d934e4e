"""Replicas agree (S7): equal index, equal digest.

At each checkpoint a machine's rolling digest covers every record it ever wrote; at the end
the whole state of every node is read and compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.invariants.rule import Invariant

if TYPE_CHECKING:
    from tests.simulation.nodes import SimNode
    from tests.simulation.world import World


class EqualDigests(Invariant):
    """Equal index, equal digest."""

    name = "equal digests"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._chains: dict[int, bytes] = {}
        self._seen: dict[int, int] = {}

    def checkpointed(self, node: SimNode) -> None:
        at, chain = node.machine.digest_chain
        if self._seen.get(node.node_id) == at:
            return
        self._seen[node.node_id] = at
        if self._chains.setdefault(at, chain) != chain:
            self.fail(f"node {node.node_id} differs at the checkpoint of index {at}")

    def finished(self) -> None:
        whole: dict[int, tuple[int, bytes]] = {}
        for node in self.world.nodes.values():
            if node.engine is None:
                continue
            self.checkpointed(node)
            index = node.engine.applied_index
            digest = node.machine.digest()
            other = whole.setdefault(index, (node.node_id, digest))
            if other[1] != digest:
                self.fail(f"nodes {other[0]} and {node.node_id} differ at index {index}")
