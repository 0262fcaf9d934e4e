"""SIGKILL, and a new start some time later."""

from __future__ import annotations

from collections.abc import Sequence

from chaos.faults.node_fault import NodeFault, strike
from chaos.nodes import ChaosNode


class Kill(NodeFault):
    """Nodes die at one moment, and are started again."""

    verb = "kill"
    lasts_s = (1.5, 4.0)

    async def _hit(self, nodes: Sequence[ChaosNode]) -> str:
        strike(nodes, self.kind)
        return ""
