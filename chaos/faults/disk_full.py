"""Disks without any room, and room again some time later."""

from __future__ import annotations

import random
from typing import ClassVar

from chaos.cluster import ChaosCluster
from chaos.disks import MIB
from chaos.faults.fault import Fault, Need, Record
from chaos.faults.victims import Who, choose
from chaos.nodes import ChaosNode


class DiskFull(Fault):
    """Somebody else's file takes all the room there is.

    Args:
        who: On whose disks.
        gap_max_ms: As in `Fault`.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"disk"})

    def __init__(self, who: Who, *, gap_max_ms: float | None = None) -> None:
        super().__init__(f"disk full {who}", hold_s=(3.0, 6.0), gap_max_ms=gap_max_ms)
        self._who = who
        self._victims: list[ChaosNode] = []
        self._cluster: ChaosCluster | None = None

    async def begin(self, cluster: ChaosCluster, rng: random.Random) -> list[Record]:
        """Fill them."""
        self._cluster = cluster
        self._victims = await choose(cluster, self._who, rng)
        records = self.note(self._victims)
        taken = [node.disk.fill() // MIB for node in self._victims]
        records[0].detail = f"{taken} MiB taken, none left"
        return records

    async def heal(self) -> None:
        """Make room again; nobody touches the nodes."""
        for node in self._victims:
            node.disk.free()
        self._victims = []
