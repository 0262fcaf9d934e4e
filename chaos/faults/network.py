"""Links that work badly: slow, flapping, reset, half open."""

from __future__ import annotations

import asyncio
import random
from typing import ClassVar

from chaos.cluster import ChaosCluster
from chaos.faults.fault import Harassment, Need, Record
from chaos.faults.victims import choose
from chaos.links import CLIENTS, DROP, PASS, Direction, Policy, between

_FLAP_S = (0.1, 2.0)
_RESET_S = (0.1, 1.0)


class BadNetwork(Harassment):
    """What these share: they touch links between all nodes, and let them go."""

    _cluster: ChaosCluster | None = None

    async def heal(self) -> None:
        """Let the links be."""
        await super().heal()
        if self._cluster is not None:
            await self._cluster.proxies.set(_all_ways(self._cluster), PASS)
        self._cluster = None

    async def _take(self, cluster: ChaosCluster, detail: str) -> list[Record]:
        self._cluster = cluster
        return self.note(cluster.nodes.values(), detail)


class SlowNetwork(BadNetwork):
    """Every piece takes long, between nodes and to clients.

    Args:
        low_ms: Shortest delay, one way.
        high_ms: Longest.
    """

    def __init__(self, low_ms: int = 50, high_ms: int = 150) -> None:
        super().__init__("slow network", gap_max_ms=3_000)
        self._policy = Policy("delay", low_ms, high_ms)

    async def begin(self, cluster: ChaosCluster, rng: random.Random) -> list[Record]:
        """Slow all links down."""
        del rng
        text = f"{self._policy.low_ms} to {self._policy.high_ms} ms each way"
        records = await self._take(cluster, text)
        await cluster.proxies.set(_all_ways(cluster), self._policy)
        return records


class Drip(BadNetwork):
    """One follower gets what it is sent in drips."""

    needs: ClassVar[frozenset[Need]] = frozenset({"proxy"})

    def __init__(self) -> None:
        super().__init__("slow drip", gap_max_ms=3_000)

    async def begin(self, cluster: ChaosCluster, rng: random.Random) -> list[Record]:
        """Let its links drip."""
        [node] = await choose(cluster, "follower", rng)
        rate = rng.choice([500, 5_000, 50_000])
        self._cluster = cluster
        records = self.note([node], f"{rate} bytes per second from and to each peer")
        others = [other for other in cluster.nodes if other != node.node_id]
        await cluster.proxies.set(between([node.node_id], others), Policy("slow", rate=rate))
        return records


class Flapping(BadNetwork):
    """Links between nodes come and go, one at a time or several."""

    def __init__(self) -> None:
        super().__init__("flapping links", hold_s=(6.0, 10.0), gap_max_ms=5_000)

    async def begin(self, cluster: ChaosCluster, rng: random.Random) -> list[Record]:
        """Cut and heal until told to stop."""
        records = await self._take(cluster, f"cuts of {_FLAP_S[0]} to {_FLAP_S[1]} s")
        self.keep(self._flap(cluster, rng))
        return records

    async def _flap(self, cluster: ChaosCluster, rng: random.Random) -> None:
        while True:
            ways = rng.sample(_peer_ways(cluster), rng.randint(1, 2))
            await cluster.proxies.set(ways, DROP)
            await asyncio.sleep(rng.uniform(*_FLAP_S))
            await cluster.proxies.set(ways, PASS)
            await asyncio.sleep(rng.uniform(*_FLAP_S) / 2)


class Resets(BadNetwork):
    """Connections are reset again and again, or one side alone loses them.

    Args:
        half: The side that was dialled never hears of it.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"proxy"})

    def __init__(self, *, half: bool = False) -> None:
        kind = "half-open connections" if half else "resets"
        super().__init__(kind, hold_s=(6.0, 10.0), gap_max_ms=5_000)
        self._half = half

    async def begin(self, cluster: ChaosCluster, rng: random.Random) -> list[Record]:
        """Reset until told to stop."""
        records = await self._take(cluster, "between nodes, and from clients")
        self.keep(self._keep_on(cluster, rng))
        return records

    async def _keep_on(self, cluster: ChaosCluster, rng: random.Random) -> None:
        while True:
            ways = _all_ways(cluster)
            await cluster.proxies.reset(rng.sample(ways, rng.randint(1, 3)), half=self._half)
            await asyncio.sleep(rng.uniform(*_RESET_S))


def _peer_ways(cluster: ChaosCluster) -> list[Direction]:
    ids = sorted(cluster.nodes)
    return [(one, other) for one in ids for other in ids if one != other]


def _all_ways(cluster: ChaosCluster) -> list[Direction]:
    return [*_peer_ways(cluster), *between([CLIENTS], sorted(cluster.nodes))]
