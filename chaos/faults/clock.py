"""Wall clocks that are wrong; nothing may come of it."""

from __future__ import annotations

import asyncio
import random
from typing import ClassVar, Final

from chaos.cluster import ChaosCluster
from chaos.faults.fault import Harassment, Need, Record
from chaos.faults.victims import Who, choose
from chaos.nodes import ChaosNode

HOUR_S: Final = 3600.0
_STROBE_S: Final = (0.05, 0.5)
_HEARD_S: Final = 3.0
"""How long the others may take a clock for wrong that is right again: nodes tell each other once
a second. If a second one jumped meanwhile, two of three were wrong, and no minority."""


class WrongClock(Harassment):
    """What these share: one node's clock is put right in the end."""

    needs: ClassVar[frozenset[Need]] = frozenset({"clock"})

    def __init__(self, kind: str, who: Who) -> None:
        super().__init__(kind, gap_max_ms=2_000)
        self._who = who
        self._victims: list[ChaosNode] = []

    async def heal(self) -> None:
        """Put it right, and let that be heard."""
        await super().heal()
        for node in self._victims:
            assert node.clock is not None, "refused otherwise"
            node.clock.correct()
        if self._victims:
            await asyncio.sleep(_HEARD_S)
        self._victims = []


class ClockJump(WrongClock):
    """A clock is an hour off at once.

    Args:
        who: Whose.
    """

    def __init__(self, who: Who = "node") -> None:
        super().__init__("clock jump" if who == "node" else f"clock jump {who}", who)

    async def begin(self, cluster: ChaosCluster, rng: random.Random) -> list[Record]:
        """Let it jump."""
        self._victims = await choose(cluster, self._who, rng)
        by_s = rng.choice([-HOUR_S, HOUR_S])
        records = self.note(self._victims, f"by {by_s:+.0f} s")
        for node in self._victims:
            assert node.clock is not None, "refused otherwise"
            node.clock.jump(by_s)
        return records


class ClockDrift(WrongClock):
    """A clock runs too fast or too slow."""

    def __init__(self) -> None:
        super().__init__("clock drift", "node")

    async def begin(self, cluster: ChaosCluster, rng: random.Random) -> list[Record]:
        """Let it run."""
        self._victims = await choose(cluster, self._who, rng)
        share = rng.choice([-0.05, 0.05])
        records = self.note(self._victims, f"by {share:+.0%}")
        for node in self._victims:
            assert node.clock is not None, "refused otherwise"
            node.clock.drift(share)
        return records


class ClockStrobe(WrongClock):
    """A clock jumps to and fro."""

    def __init__(self) -> None:
        super().__init__("clock strobe", "node")

    async def begin(self, cluster: ChaosCluster, rng: random.Random) -> list[Record]:
        """Let it jump until told to stop."""
        self._victims = await choose(cluster, self._who, rng)
        records = self.note(self._victims, "jumps of up to an hour, to and fro")
        self.keep(_strobe(self._victims[0], rng))
        return records


async def _strobe(node: ChaosNode, rng: random.Random) -> None:
    assert node.clock is not None, "refused otherwise"
    while True:
        node.clock.jump(rng.uniform(-HOUR_S, HOUR_S))
        await asyncio.sleep(rng.uniform(*_STROBE_S))
        node.clock.correct()
        await asyncio.sleep(rng.uniform(*_STROBE_S))
