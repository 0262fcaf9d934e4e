"""Power that goes: processes die, and every byte that was not synced is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar

from chaos.faults.fault import Need
from chaos.faults.node_fault import NodeFault, strike
from chaos.nodes import ChaosNode


class PowerCut(NodeFault):
    """Nodes lose power at one moment, and have it again when their bytes are taken back."""

    needs: ClassVar[frozenset[Need]] = frozenset({"power"})
    verb = "power"
    lasts_s = (0.5, 2.0)

    async def _hit(self, nodes: Sequence[ChaosNode]) -> str:
        strike(nodes, self.kind)
        await asyncio.gather(*(asyncio.to_thread(_take_back, node) for node in nodes))
        return ""


def _take_back(node: ChaosNode) -> None:
    power = node.disk.power
    assert power is not None, "refused otherwise"
    power.cut([node.disk.data.name])
