"""Power that goes: processes die, and every byte that was not synced is gone."""

from __future__ import annotations

import asyncio
import random
from typing import ClassVar

from chaos.cluster import ChaosCluster
from chaos.faults.fault import Fault, Need, Record
from chaos.faults.victims import Who, choose
from chaos.nodes import ChaosNode


class PowerCut(Fault):
    """Nodes lose power at one moment.

    Args:
        who: Which.
        hold_s: How long it stays dark, beyond the time that taking bytes back needs.
        gap_max_ms: As in `Fault`.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"power"})

    def __init__(
        self, who: Who, *, hold_s: tuple[float, float] = (0.5, 2.0), gap_max_ms: float | None = None
    ) -> None:
        super().__init__(f"power {who}", hold_s=hold_s, gap_max_ms=gap_max_ms)
        self._who = who
        self._victims: list[ChaosNode] = []

    async def begin(self, cluster: ChaosCluster, rng: random.Random) -> list[Record]:
        """Cut it."""
        self._victims = await choose(cluster, self._who, rng)
        records = self.note(self._victims)
        for node in self._victims:
            node.strike(self.kind)
        for node in self._victims:
            node.bury()
        await asyncio.gather(*(asyncio.to_thread(_take_back, node) for node in self._victims))
        return records

    async def heal(self) -> None:
        """Switch it on."""
        for node in self._victims:
            if not node.running:
                node.start()
        self._victims = []


def _take_back(node: ChaosNode) -> None:
    power = node.disk.power
    assert power is not None, "refused otherwise"
    power.cut([node.disk.data.name])
