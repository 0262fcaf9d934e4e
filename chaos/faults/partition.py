"""Links that take no packets: shapes of networks that fall apart."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from chaos.cluster import ChaosCluster
from chaos.faults.fault import Fault, Record
from chaos.faults.victims import choose
from chaos.links import CLIENTS, DROP, PASS, Direction, between, both
from chaos.nodes import ChaosNode

Shape = Literal[
    "node", "leader", "halves", "bridge", "ring", "deaf leader", "mute leader", "one way", "clients"
]
SHAPES: Final[tuple[Shape, ...]] = Shape.__args__  # type: ignore[attr-defined]  # of a Literal


class Cut(NamedTuple):
    """What is cut.

    Attributes:
        ways: Directions that take nothing.
        hit: Nodes that are cut off; all that lose a link where nobody is.
        words: For people.
    """

    ways: list[Direction]
    hit: list[int]
    words: str


def cut(shape: Shape, leader: int, others: Sequence[int], rng: random.Random) -> Cut:
    """Return what to cut.

    Args:
        shape: `node` cuts one off from its peers, `leader` the leader; `halves` a minority with
            the leader; `bridge` leaves two groups that meet in one node; with `ring` each node
            sees a majority, and no two the same; of three nodes both cut one link of the
            leader, since nothing flows between its followers; a `deaf` leader hears none of
            its peers, a `mute` one is heard by none; `one way` cuts one direction between the
            leader and one follower; `clients` cuts the leader from clients alone.
        leader: Who leads.
        others: The rest, in any order.
        rng: Draws what the shape leaves open.
    """
    rest = list(others)
    everybody = [leader, *rest]
    match shape:
        case "node":
            alone = rng.choice(everybody)
            away = [node for node in everybody if node != alone]
            return Cut(between([alone], away), [alone], f"{alone} alone; {leader} leads")
        case "leader":
            return Cut(between([leader], rest), [leader], f"leader {leader} alone")
        case "halves":
            few = [leader, *rest[: (len(everybody) - 1) // 2 - 1]]
            many = [node for node in rest if node not in few]
            return Cut(between(few, many), few, f"{few} from {many}; {leader} leads")
        case "bridge":
            middle, arms = _bridge(leader, rest, rng)
            left, right = arms[: len(arms) // 2], arms[len(arms) // 2 :]
            return Cut(between(left, right), arms, f"{left} - {middle} - {right}; {leader} leads")
        case "ring":
            ways = _ring([leader, *rng.sample(rest, len(rest))])
            hit = sorted({node for way in ways for node in way})
            lost = sorted({tuple(sorted(way)) for way in ways})
            return Cut(ways, hit, f"no link between {lost}; {leader} leads")
        case "deaf leader":
            return Cut([(node, leader) for node in rest], [leader], f"leader {leader} hears none")
        case "mute leader":
            return Cut([(leader, node) for node in rest], [leader], f"none hears leader {leader}")
        case "one way":
            way = rng.choice([(leader, rest[0]), (rest[0], leader)])
            return Cut([way], sorted(way), f"from {way[0]} to {way[1]}; {leader} leads")
        case "clients":
            ways = both(CLIENTS, leader)
            return Cut(ways, [leader], f"leader {leader} from its clients alone")


def _bridge(leader: int, others: Sequence[int], rng: random.Random) -> tuple[int, list[int]]:
    """Return the node in the middle and the rest; of three, the leader is not in the middle."""
    middle = rng.choice([leader, *others] if len(others) > 2 else others)
    arms = [node for node in (leader, *others) if node != middle]
    return middle, rng.sample(arms, len(arms))


def _ring(nodes: Sequence[int]) -> list[Direction]:
    """Return what to cut so that each node keeps its two neighbours; of three, the first link."""
    if len(nodes) <= 3:
        return both(nodes[0], nodes[1])
    size = len(nodes)
    return [
        (one, other)
        for place, one in enumerate(nodes)
        for far, other in enumerate(nodes)
        if (place - far) % size not in {0, 1, size - 1}
    ]


class Partition(Fault):
    """The network falls apart in one shape.

    Args:
        shape: Which, see `cut`.
        hold_s: For how long.
        gap_max_ms: As in `Fault`.
    """

    def __init__(
        self,
        shape: Shape,
        *,
        hold_s: tuple[float, float] = (3.0, 7.0),
        gap_max_ms: float | None = None,
    ) -> None:
        super().__init__(f"partition {shape}", hold_s=hold_s, gap_max_ms=gap_max_ms)
        self._shape = shape
        self._cluster: ChaosCluster | None = None
        self._ways: list[Direction] = []
        self._reset = False

    async def begin(self, cluster: ChaosCluster, rng: random.Random) -> list[Record]:
        """Cut the links; half of the times the connections do not outlive it."""
        self._cluster = cluster
        leader, *others = await _leader_first(cluster, rng)
        ids = [node.node_id for node in others]
        self._ways, hit, words = cut(self._shape, leader.node_id, ids, rng)
        # A switch knows no connections: there they live on until TCP or the nodes give up.
        self._reset = rng.random() < 0.5 and not cluster.equipment.packets
        if self._reset:
            words += "; connections are reset when it ends"
        records = self.note([cluster.nodes[one] for one in hit], words)
        await cluster.proxies.set(self._ways, DROP)
        return records

    async def heal(self) -> None:
        """Let everything through again."""
        if self._cluster is None:
            return
        if self._reset:
            await self._cluster.proxies.reset(self._ways)
        await self._cluster.proxies.set(self._ways, PASS)
        self._cluster = None


async def _leader_first(cluster: ChaosCluster, rng: random.Random) -> list[ChaosNode]:
    leader = (await choose(cluster, "leader", rng))[0]
    everybody = await choose(cluster, "all", rng)
    return [leader, *(node for node in everybody if node is not leader)]
