"""What a replica runs on: a clock, callbacks, and the parts that touch the outside.

`AsyncioRim` is the real thing. Whoever drives whole clusters in one thread hands in another
one, and the replica, its bootstrap, its storage and its engine run unchanged.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from cluster.directory import DataDirectory
from cluster.handshake import Standing
from cluster.link import Limits
from cluster.messages import Message
from cluster.recovery import Storage
from cluster.seams import Directory
from cluster.sync_queue import SyncUser
from cluster.syncer import Syncer
from cluster.ticker import Ticker
from cluster.tls import PeerTls
from cluster.transport import Address, PeerHandler, PeerTransport
from cluster.vitals import Report


class Ticks(Protocol):
    """See `cluster.ticker.Ticker`."""

    def start(self) -> None:
        """Tick now, and from now on."""

    def early(self, at: float) -> None:
        """Tick at a time of the rim's clock as well."""

    def stop(self) -> None:
        """Never call back again."""


class Syncs(Protocol):
    """See `cluster.syncer.Syncer`."""

    def reset(self) -> None:
        """Take everything written so far as durable."""

    def hold(self, sequence: int, peer: int, epoch: int, message: Message) -> None:
        """Keep a message until `sequence` is durable."""

    def want(self, sequence: int) -> None:
        """Ask for a batch to become durable."""

    def poll(self) -> None:
        """Store the high-water mark when it is due."""

    async def stop(self) -> None:
        """Finish what is under way, sync a last time and store the mark."""

    def abort(self) -> None:
        """Begin and release nothing more; waits for what runs."""

    def fail(self) -> None:
        """Begin and release nothing more; does not wait."""


class Connections(Protocol):
    """See `cluster.transport.PeerTransport`."""

    async def start(self) -> None:
        """Listen, and begin to dial."""

    async def stop(self) -> None:
        """Close everything; what was written has a moment to leave."""

    def abort(self) -> None:
        """Close everything now."""

    @property
    def connected(self) -> tuple[int, ...]:
        """Peers with a live connection."""

    def epoch(self, peer: int) -> int:
        """Number of the peer's live connection, 0 when there is none."""

    def send(self, peer: int, message: Message) -> None:
        """Send a message now, or lose it."""

    def drop(self, peer: int, reason: str) -> None:
        """Close the connection to a peer."""

    def forget_encoded(self) -> None:
        """Let go of the frame kept for the next peer."""

    def set_members(self, addresses: Mapping[int, Address]) -> None:
        """Reach and admit exactly these nodes from now on."""

    def report(self, report: Report) -> None:
        """Tell every connected peer of this node's vitals."""

    @property
    def refusal_counts(self) -> Mapping[str, int]:
        """Connections refused since the start, by reason (`cluster.refusals.Reason`)."""

    def announce(self, standing: Standing) -> None:
        """Tell everyone connected, and everyone who will be, how this node stands."""


class Rim(Protocol):
    """The world as one replica meets it."""

    def time(self) -> float:
        """The monotonic clock, seconds."""

    def wall_ms(self) -> int:
        """The wall clock, milliseconds since the Unix epoch."""

    def call_soon(self, callback: Callable[..., object], *arguments: object) -> object:
        """Run a callback after the present one."""

    def open_directory(self, path: Path) -> Directory:
        """Open and lock a data directory."""

    def make_ticker(self, tick: Callable[[], None], wake: Callable[[], None]) -> Ticks:
        """Return what calls back as time passes: `tick` steadily, `wake` when asked to."""

    def make_syncer(
        self, storage: Storage, user: SyncUser, observe: Callable[[float], None] | None
    ) -> Syncs:
        """Return the one writer to stable storage."""

    def make_transport(
        self,
        *,
        node_id: int,
        addresses: Mapping[int, Address],
        bind: Address,
        handler: PeerHandler,
        rng: random.Random,
        limits: Limits,
        loopback_only: bool,
    ) -> Connections:
        """Return the connections to the peers."""


class AsyncioRim:
    """The running event loop, threads for the disk, sockets for the peers.

    Args:
        tls: Certificates for the connections with the peers; None speaks in the clear.
    """

    def __init__(self, tls: PeerTls | None = None) -> None:
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self.time: Callable[[], float] = self._loop.time

    def wall_ms(self) -> int:
        """Return the system's clock."""
        return time.time_ns() // 1_000_000

    def call_soon(self, callback: Callable[..., object], *arguments: object) -> object:
        """Run a callback in the next turn of the loop."""
        return self._loop.call_soon(callback, *arguments)

    def open_directory(self, path: Path) -> Directory:
        """Open and lock a real directory."""
        return DataDirectory(path)

    def make_ticker(self, tick: Callable[[], None], wake: Callable[[], None]) -> Ticks:
        """Return timers of the loop."""
        return Ticker(tick, wake)

    def make_syncer(
        self, storage: Storage, user: SyncUser, observe: Callable[[float], None] | None
    ) -> Syncs:
        """Return a thread that syncs."""
        return Syncer(storage, user, observe)

    def make_transport(
        self,
        *,
        node_id: int,
        addresses: Mapping[int, Address],
        bind: Address,
        handler: PeerHandler,
        rng: random.Random,
        limits: Limits,
        loopback_only: bool,
    ) -> Connections:
        """Return connections over sockets."""
        return PeerTransport(
            node_id=node_id,
            addresses=addresses,
            bind=bind,
            handler=handler,
            rng=rng,
            limits=limits,
            loopback_only=loopback_only,
            tls=self._tls,
        )
