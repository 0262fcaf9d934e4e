"""Packets that are lost, late, doubled or overtaken, below TCP; in the tier of namespaces alone."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable
from typing import ClassVar, Final, Literal, NamedTuple

from chaos.cluster import ChaosCluster
from chaos.faults.fault import Fault, Need, Record
from chaos.faults.victims import choose
from chaos.links import CLIENTS, PASS, Direction, Impairment, between, both

LOST: Final = Impairment(loss=1.0)


class Hit(NamedTuple):
    """Whose packets are hit.

    Attributes:
        ways: In which directions.
        nodes: Whom it concerns.
        words: For people.
    """

    ways: list[Direction]
    nodes: list[int]
    words: str


class PacketFault(Fault):
    """What these share: an impairment of some directions, for a while.

    Args:
        kind: Its name.
        impairment: What happens to packets.
        hold_s: For how long.
        gap_max_ms: As in `Fault`.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"packets"})

    def __init__(
        self,
        kind: str,
        impairment: Impairment,
        *,
        hold_s: tuple[float, float] = (5.0, 9.0),
        gap_max_ms: float | None = None,
    ) -> None:
        super().__init__(kind, hold_s=hold_s, gap_max_ms=gap_max_ms)
        self._impairment = impairment
        self._cluster: ChaosCluster | None = None
        self._ways: list[Direction] = []
        self._before: Counter[str] = Counter()

    @abstractmethod
    async def hit(self, cluster: ChaosCluster, rng: random.Random) -> Hit:
        """Choose whose packets."""

    async def begin(self, cluster: ChaosCluster, rng: random.Random) -> list[Record]:
        """Impair them."""
        self._ways, hit, words = await self.hit(cluster, rng)
        self._cluster = cluster
        self._before = await _counts(cluster, self._ways)
        records = self.note([cluster.nodes[one] for one in hit], words)
        await cluster.proxies.set(self._ways, self._impairment)
        return records

    async def heal(self) -> None:
        """Let them be, and note how many there were."""
        if self._cluster is None:
            return
        cluster, self._cluster = self._cluster, None
        await cluster.proxies.set(self._ways, PASS)
        seen = await _counts(cluster, self._ways) - self._before
        words = (f"{seen[what]} {what}" for what in ("passed", "lost", "doubled", "held"))
        for record in self.records:
            record.detail += f"; packets: {', '.join(words)}"


async def _counts(cluster: ChaosCluster, ways: Iterable[Direction]) -> Counter[str]:
    """Return what became of all packets of some directions up to now."""
    told = (await cluster.proxies.stats())["packets"]
    counts: Counter[str] = Counter()
    for one, other in ways:
        counts.update(told.get(f"{one}>{other}", {}))
    return counts


class Everywhere(PacketFault):
    """All packets between nodes, and between clients and nodes."""

    async def hit(self, cluster: ChaosCluster, rng: random.Random) -> Hit:
        """Choose all directions."""
        del rng
        ids = sorted(cluster.nodes)
        ways = [(one, other) for one in ids for other in ids if one != other]
        ways += between([CLIENTS], ids)
        return Hit(ways, ids, "between nodes, and to and from clients")


class OneWay(PacketFault):
    """One direction alone, between the leader and a follower or between it and its clients.

    What is sent the other way arrives, and is never acknowledged.

    Args:
        kind: As in `PacketFault`.
        impairment: As in `PacketFault`.
        peer: Whom the leader talks with.
        sender: Whose packets they are; drawn if it is not said.
        hold_s: As in `PacketFault`.
        gap_max_ms: As in `Fault`.
    """

    def __init__(
        self,
        kind: str,
        impairment: Impairment,
        *,
        peer: Literal["follower", "clients"] = "follower",
        sender: Literal["leader", "either"] = "either",
        hold_s: tuple[float, float] = (3.0, 7.0),
        gap_max_ms: float | None = None,
    ) -> None:
        super().__init__(kind, impairment, hold_s=hold_s, gap_max_ms=gap_max_ms)
        self._peer = peer
        self._sender = sender

    async def hit(self, cluster: ChaosCluster, rng: random.Random) -> Hit:
        """Draw it."""
        [leader] = await choose(cluster, "leader", rng)
        one, rest = leader.node_id, [node for node in cluster.nodes if node != leader.node_id]
        other = CLIENTS if self._peer == "clients" else rng.choice(rest)
        ways = [(one, other)] if self._sender == "leader" else both(one, other)
        way = rng.choice(ways)
        names = ["clients" if who == CLIENTS else f"node {who}" for who in way]
        words = f"from {names[0]} to {names[1]}; {one} leads"
        return Hit([way], sorted({*way} - {CLIENTS}), words)
