"""SIGKILL, and a new start some time later."""

from __future__ import annotations

import random

from chaos.cluster import ChaosCluster
from chaos.faults.fault import Fault, Record
from chaos.faults.victims import Who, choose
from chaos.nodes import ChaosNode


class Kill(Fault):
    """Nodes die at one moment.

    Args:
        who: Which.
        hold_s: How long they stay dead.
        gap_max_ms: As in `Fault`.
    """

    def __init__(
        self, who: Who, *, hold_s: tuple[float, float] = (1.5, 4.0), gap_max_ms: float | None = None
    ) -> None:
        super().__init__(f"kill {who}", hold_s=hold_s, gap_max_ms=gap_max_ms)
        self._who = who
        self._victims: list[ChaosNode] = []

    async def begin(self, cluster: ChaosCluster, rng: random.Random) -> list[Record]:
        """Kill them."""
        self._victims = await choose(cluster, self._who, rng)
        records = self.note(self._victims)
        for node in self._victims:
            node.strike(self.kind)
        for node in self._victims:
            node.bury()
        return records

    async def heal(self) -> None:
        """Start them again."""
        for node in self._victims:
            if not node.running:
                node.start()
        self._victims = []
