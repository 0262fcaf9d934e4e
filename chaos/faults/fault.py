"""What all faults have in common: they begin, they are taken back, and say what they did."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Iterable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from chaos.cluster import ChaosCluster
from chaos.nodes import ChaosNode

Need = Literal["disk", "power", "clock", "workers", "packets", "proxy"]


class FaultError(Exception):
    """A node did what it must not do after a fault; the text says what."""


class MissedError(FaultError):
    """Nothing was done: what was to be hit was not there; the text says what."""


@dataclass(slots=True)
class Record:
    """A line of `faults.jsonl`.

    Attributes:
        kind: For example `kill leader`.
        nodes: Whom it hits.
        detail: For people.
        at: When it began, nanoseconds.
        to: When it was taken back.
        scenario: That it belongs to.
    """

    kind: str
    nodes: list[int]
    detail: str
    at: int
    to: int | None = None
    scenario: str = ""

    def line(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self))


class Fault(ABC):
    """Something that is done to a cluster, once.

    Attributes:
        kind: Its name.
        needs: What the cluster must be equipped with.
        hold_s: How long it lasts, shortest and longest.
        gap_max_ms: How long nobody may be able to submit because of it; None: as long as
            it lasts and longer.
        records: Of what has begun.
        most: At most so often in one run, since each leaves less to go on with; 0: any number.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    most: ClassVar[int] = 0

    def __init__(
        self,
        kind: str,
        *,
        hold_s: tuple[float, float] = (2.0, 5.0),
        gap_max_ms: float | None = None,
    ) -> None:
        self.kind = kind
        self.hold_s = hold_s
        self.gap_max_ms = gap_max_ms
        self.records: list[Record] = []

    @abstractmethod
    async def begin(self, cluster: ChaosCluster, rng: random.Random) -> list[Record]:
        """Do it; return what was done.

        Raises:
            FaultError: A node did what it must not.
            MissedError: Nothing was done.
            ClusterError: The cluster is not in a state to do it to.
        """

    @abstractmethod
    async def heal(self) -> None:
        """Take it back; what was ended is started. Doing so before `begin` does nothing."""

    def refuses(self, cluster: ChaosCluster) -> str:
        """Say why this cannot be done to a cluster; "" if it can."""
        has = {
            "disk": cluster.equipment.disk_mib > 0,
            "power": cluster.equipment.power,
            "clock": cluster.equipment.clock,
            "workers": bool(cluster.workers),
            "packets": cluster.equipment.packets,
            "proxy": not cluster.equipment.packets,
        }
        words = {
            "disk": "the nodes have no disks of their own, which takes root",
            "power": "no library is preloaded that fails fsync, which takes a C compiler",
            "clock": "no library is preloaded that moves clocks, which takes a C compiler",
            "workers": "there are no worker processes",
            "packets": "a proxy sees connections and no packets; --tier namespaces does them",
            "proxy": "a switch sees packets and no connections; --tier processes does it",
        }
        return "; ".join(words[need] for need in sorted(self.needs) if not has[need])

    def note(self, nodes: Iterable[ChaosNode], detail: str = "") -> list[Record]:
        """Return a record of what begins now."""
        hit = [node.node_id for node in nodes]
        self.records.append(Record(self.kind, hit, detail, time.monotonic_ns()))
        return self.records


class Harassment(Fault):
    """A fault that keeps doing something until it is taken back."""

    def __init__(
        self,
        kind: str,
        *,
        hold_s: tuple[float, float] = (4.0, 8.0),
        gap_max_ms: float | None = None,
    ) -> None:
        super().__init__(kind, hold_s=hold_s, gap_max_ms=gap_max_ms)
        self._task: asyncio.Task[None] | None = None

    def keep(self, doing: Coroutine[Any, Any, None]) -> None:
        """Go on doing it."""
        self._task = asyncio.create_task(doing)

    async def heal(self) -> None:
        """Stop doing it."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
