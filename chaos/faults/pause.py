"""SIGSTOP, and SIGCONT some time later: a process that was away and does not know it."""

from __future__ import annotations

from collections.abc import Sequence

from chaos.faults.node_fault import NodeFault
from chaos.nodes import ChaosNode


class Pause(NodeFault):
    """Nodes stand still, and go on."""

    verb = "pause"
    lasts_s = (0.2, 8.0)

    async def _hit(self, nodes: Sequence[ChaosNode]) -> str:
        for node in nodes:
            node.freeze()
        return ""

    def _mend(self, node: ChaosNode) -> None:
        node.thaw()
