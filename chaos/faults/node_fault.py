"""Faults of whole nodes: some are chosen, hit at one moment, and each is put right again."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from chaos.cluster import ChaosCluster
from chaos.faults.fault import Fault, Record
from chaos.faults.victims import Who, choose
from chaos.nodes import ChaosNode


class NodeFault(Fault):
    """Nodes are hit together.

    Args:
        who: Which.
        hold_s: As in `Fault`; `lasts_s` if not given.
        gap_max_ms: As in `Fault`.

    Attributes:
        verb: What is done; with `who` it makes the fault's kind.
        lasts_s: How long, shortest and longest.
    """

    verb: ClassVar[str]
    lasts_s: ClassVar[tuple[float, float]]

    def __init__(
        self,
        who: Who,
        *,
        hold_s: tuple[float, float] | None = None,
        gap_max_ms: float | None = None,
    ) -> None:
        super().__init__(f"{self.verb} {who}", hold_s=hold_s or self.lasts_s, gap_max_ms=gap_max_ms)
        self._who = who
        self._victims: list[ChaosNode] = []

    async def begin(self, cluster: ChaosCluster, rng: random.Random) -> list[Record]:
        """Choose them and hit them."""
        self._victims = await choose(cluster, self._who, rng)
        records = self.note(self._victims)
        records[0].detail = await self._hit(self._victims)
        return records

    async def heal(self) -> None:
        """Put them right again."""
        for node in self._victims:
            self._mend(node)
        self._victims = []

    @abstractmethod
    async def _hit(self, nodes: Sequence[ChaosNode]) -> str:
        """Do it; return what was done, for people, as far as the kind does not say."""

    def _mend(self, node: ChaosNode) -> None:
        """Take it back from one of them: start it, unless it runs."""
        if not node.running:
            node.start()


def strike(nodes: Sequence[ChaosNode], why: str) -> None:
    """End nodes by SIGKILL, all of them before any is waited for."""
    for node in nodes:
        node.strike(why)
    for node in nodes:
        node.bury()
