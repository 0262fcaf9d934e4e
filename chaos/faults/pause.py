"""SIGSTOP, and SIGCONT some time later: a process that was away and does not know it."""

from __future__ import annotations

import random

from chaos.cluster import ChaosCluster
from chaos.faults.fault import Fault, Record
from chaos.faults.victims import Who, choose
from chaos.nodes import ChaosNode


class Pause(Fault):
    """Nodes stand still.

    Args:
        who: Which.
        hold_s: For how long.
        gap_max_ms: As in `Fault`.
    """

    def __init__(
        self, who: Who, *, hold_s: tuple[float, float] = (0.2, 6.0), gap_max_ms: float | None = None
    ) -> None:
        super().__init__(f"pause {who}", hold_s=hold_s, gap_max_ms=gap_max_ms)
        self._who = who
        self._victims: list[ChaosNode] = []

    async def begin(self, cluster: ChaosCluster, rng: random.Random) -> list[Record]:
        """Stop them."""
        self._victims = await choose(cluster, self._who, rng)
        records = self.note(self._victims)
        for node in self._victims:
            node.freeze()
        return records

    async def heal(self) -> None:
        """Let them go on."""
        for node in self._victims:
            node.thaw()
        self._victims = []
