"""A rolling restart, as an upgrade would do it."""

from __future__ import annotations

import random

from chaos.cluster import ChaosCluster
from chaos.faults.fault import Fault, Record
from chaos.faults.victims import choose


class RollingRestart(Fault):
    """Each node is asked to stop, started again, and waited for; then the next.

    Args:
        gap_max_ms: As in `Fault`.
    """

    def __init__(self, *, gap_max_ms: float | None = None) -> None:
        super().__init__("rolling restart", hold_s=(0, 0), gap_max_ms=gap_max_ms)
        self._cluster: ChaosCluster | None = None

    async def begin(self, cluster: ChaosCluster, rng: random.Random) -> list[Record]:
        """Restart them all, the leader included."""
        self._cluster = cluster
        nodes = await choose(cluster, "all", rng)
        records = self.note(nodes)
        for node in nodes:
            await node.leave(self.kind)
            node.start()
            await cluster.wait_ready()
        return records

    async def heal(self) -> None:
        """Start what did not get that far."""
        if self._cluster is not None:
            for node in self._cluster.nodes.values():
                if not node.running:
                    node.start()
