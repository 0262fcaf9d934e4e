"""Disks that fail or dawdle when they are asked to make sure."""

from __future__ import annotations

import asyncio
import random
import time
from typing import ClassVar, Final

from chaos.cluster import ChaosCluster
from chaos.faults.fault import Fault, FaultError, MissedError, Need, Record
from chaos.faults.victims import Who, choose
from chaos.nodes import ChaosNode

_EXIT_S: Final = 5.0
_POLL_S: Final = 0.01


class FsyncError(Fault):
    """One fsync returns EIO; the node must end, for what it has written may be gone.

    Args:
        who: On whose disk.
        gap_max_ms: As in `Fault`.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"power"})

    def __init__(self, who: Who = "leader", *, gap_max_ms: float | None = None) -> None:
        super().__init__("fsync error", hold_s=(0.5, 2.0), gap_max_ms=gap_max_ms)
        self._who = who
        self._victims: list[ChaosNode] = []

    async def begin(self, cluster: ChaosCluster, rng: random.Random) -> list[Record]:
        """Let the next one fail, and wait for the node's end.

        Raises:
            FaultError: It goes on after it.
            MissedError: There was no fsync that could fail.
        """
        self._victims = await choose(cluster, self._who, rng)
        records = self.note(self._victims)
        said = []
        for node in self._victims:
            node.down = self.kind
            said.append(await _die(node))
        records[0].detail = "; ".join(said)
        return records

    async def heal(self) -> None:
        """Repair the disk and start the node."""
        for node in self._victims:
            assert node.disk.power is not None, "refused otherwise"
            node.disk.power.repair()
            if not node.running:
                node.start()
            node.down = ""
        self._victims = []


async def _die(node: ChaosNode) -> str:
    """Order the error, and return how the node ended.

    Raises:
        FaultError: It has not.
        MissedError: Nothing has met the error.
    """
    power = node.disk.power
    assert power is not None, "refused otherwise"
    power.order("once")
    began_s = time.monotonic()
    hit_s: float | None = None
    while node.running and time.monotonic() - began_s < _EXIT_S:
        if hit_s is None and not power.ordered("once"):
            hit_s = time.monotonic()
        await asyncio.sleep(_POLL_S)
    if not node.running:
        took_ms = (time.monotonic() - (hit_s or began_s)) * 1000
        return f"ended with {node.exit_code()} within {took_ms:.0f} ms"
    if hit_s is None:
        raise MissedError(f"node {node.node_id} asked for no fsync within {_EXIT_S:g} s")
    raise FaultError(f"node {node.node_id} goes on {_EXIT_S:g} s after a failed fsync")


class SlowFsync(Fault):
    """Every fsync takes longer.

    Args:
        milliseconds: By how much; 0: it returns when the fault is taken back.
        who: On whose disk.
        hold_s: For how long.
        gap_max_ms: As in `Fault`.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"power"})

    def __init__(
        self,
        milliseconds: int,
        who: Who = "leader",
        *,
        hold_s: tuple[float, float] = (6.0, 10.0),
        gap_max_ms: float | None = None,
    ) -> None:
        kind = f"fsync takes {milliseconds} ms" if milliseconds else "fsync hangs"
        super().__init__(kind, hold_s=hold_s, gap_max_ms=gap_max_ms)
        self._milliseconds = milliseconds
        self._who = who
        self._victims: list[ChaosNode] = []

    async def begin(self, cluster: ChaosCluster, rng: random.Random) -> list[Record]:
        """Slow them down."""
        self._victims = await choose(cluster, self._who, rng)
        records = self.note(self._victims)
        for node in self._victims:
            assert node.disk.power is not None, "refused otherwise"
            if self._milliseconds:
                node.disk.power.order("slow", str(self._milliseconds))
            else:
                node.disk.power.order("hang")
        return records

    async def heal(self) -> None:
        """Repair them."""
        for node in self._victims:
            assert node.disk.power is not None, "refused otherwise"
            node.disk.power.repair()
        self._victims = []
