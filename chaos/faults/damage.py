"""Files that are not what was written: a torn end, a flipped bit; on one node of a sound cluster.

The data of no more than a minority are ever damaged: the next fault waits until all nodes say
again that they are ready, which a node that must be filled again does only then, and what no
node has noticed by then is put right (`chaos.spots`).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from chaos.cluster import ChaosCluster
from chaos.faults.fault import Fault, Record
from chaos.faults.victims import choose
from chaos.nodes import ChaosNode
from chaos.spots import flip

What = Literal["wal", "table", "manifest", "mark"]
_FILES: Final[dict[What, str]] = {
    "wal": "db/*.log",
    "table": "db/*.sst",
    "manifest": "db/MANIFEST-*",
    "mark": "high_water*",
}
_TORN_MAX_BYTES: Final = 300
_WITNESSED_S: Final = 1.5
"""For how long just a quorum acknowledges."""


class Damage(Fault):
    """A node goes down, something happens to its files, and it comes back.

    Args:
        kind: As in `Fault`.
    """

    def __init__(self, kind: str) -> None:
        super().__init__(kind, hold_s=(0.2, 1.0), gap_max_ms=5_000)
        self._victim: ChaosNode | None = None

    async def heal(self) -> None:
        """Start it on what is left."""
        if self._victim is not None and not self._victim.running:
            self._victim.start()
        self._victim = None

    async def _take_down(
        self, cluster: ChaosCluster, rng: random.Random, *, politely: bool
    ) -> ChaosNode:
        """End any one node; all the others are sound."""
        cluster.mend_spots()
        await cluster.wait_ready()
        [node] = await choose(cluster, "node", rng)
        self._victim = node
        if politely:
            await node.leave(self.kind)
        else:
            node.strike(self.kind)
            node.bury()
        return node


class TornTail(Damage):
    """The end of the newest write-ahead log is missing, as after a power cut."""

    def __init__(self) -> None:
        super().__init__("torn tail")

    async def begin(self, cluster: ChaosCluster, rng: random.Random) -> list[Record]:
        """Tear it off."""
        node = await self._take_down(cluster, rng, politely=False)
        logs = _sized(node, _FILES["wal"])
        if not logs:
            return self.note([node], "killed; there was no write-ahead log")
        path = logs[-1]
        size = path.stat().st_size
        less = rng.randint(1, min(size, _TORN_MAX_BYTES))
        with path.open("r+b") as file:
            file.truncate(size - less)
        return self.note([node], f"the last {less} of {size} bytes of {path.name}")


class Flip(Damage):
    """One bit is not what it was.

    Args:
        what: In which file.
    """

    def __init__(self, what: What) -> None:
        super().__init__(f"flip {what}")
        self._what = what

    async def begin(self, cluster: ChaosCluster, rng: random.Random) -> list[Record]:
        """Flip it."""
        # A node that ends in good order has its records in tables.
        node = await self._take_down(cluster, rng, politely=self._what == "table")
        found = _sized(node, _FILES[self._what])
        if not found:
            return self.note([node], f"ended; there was no {self._what}")
        path = rng.choice(found)
        spot = flip(path, range(path.stat().st_size), rng)
        cluster.spots.append(spot)
        return self.note([node], str(spot))


class DamagedWitness(Fault):
    """Of the two halves of a quorum one forgets what it wrote, and the other is down.

    First nodes die until just a quorum is left, which goes on acknowledging. Then all of it
    dies, one follower's write-ahead log has a flipped bit in what was written since, and it
    comes back with those that died first: a majority by number, of whom nobody can know what
    was acknowledged. They must wait for the rest.
    """

    def __init__(self) -> None:
        super().__init__("damaged witness", hold_s=(3.0, 5.0))
        self._victims: list[ChaosNode] = []

    async def begin(self, cluster: ChaosCluster, rng: random.Random) -> list[Record]:
        """Do it step by step; the damaged node and the laggards run when it returns."""
        cluster.mend_spots()
        leader = await cluster.wait_ready()
        others = [node for node in await choose(cluster, "all", rng) if node is not leader]
        witness, *rest = others
        enough = len(cluster.nodes) // 2 - 1
        informed, laggards = rest[:enough], rest[enough:]
        self._victims = [*laggards, leader, witness, *informed]
        _end(laggards, self.kind)
        before = {path: path.stat().st_size for path in _sized(witness, _FILES["wal"])}
        await asyncio.sleep(_WITNESSED_S)
        _end([leader, witness, *informed], self.kind)
        path = _sized(witness, _FILES["wal"])[-1]
        since, size = before.get(path, 0), path.stat().st_size
        # In the older half: what comes behind it in the log is lost as well.
        where = range(since, max(since + (size - since) // 2, since + 1))
        detail = f"node {witness.node_id}: {flip(path, where, rng)}; without the rest of a quorum"
        for node in (*laggards, witness):
            node.start()
        return self.note([witness, leader, *informed], detail)

    async def heal(self) -> None:
        """Start the rest."""
        for node in self._victims:
            if not node.running:
                node.start()
        self._victims = []


def _end(nodes: Sequence[ChaosNode], why: str) -> None:
    for node in nodes:
        node.strike(why)
    for node in nodes:
        node.bury()


def _sized(node: ChaosNode, pattern: str) -> list[Path]:
    """Return the files that match and hold something, by name."""
    return sorted(path for path in node.disk.data.glob(pattern) if path.stat().st_size)
