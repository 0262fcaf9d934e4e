"""What a replica runs on in the simulation: the world's time, its disk, its network.

Each part behaves as its counterpart in `cluster` does; only what it waits for is made up.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.faults import DiskFailedError, StartError
from cluster.link import Limits
from cluster.recovery import Storage
from cluster.seams import Directory
from cluster.state import LEADER
from cluster.sync_queue import SyncQueue, SyncUser
from cluster.transport import Address, PeerHandler
from cluster.watermark import HighWater
from tests.simulation.transport import SimTransport

if TYPE_CHECKING:
    from tests.simulation.nodes import SimNode

TICK_S = 0.5
"""Coarser than a real node's 20 ms: the engine's own next deadline is kept as well."""

_EARLY_MIN_S = 0.001
_WAIT_MIN_S = 0.02
_AFTER_S = 0.0001


def finish(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that never really waits."""
    try:
        work.send(None)
    except StopIteration:
        return
    work.close()
    raise AssertionError("something of a simulated node waits")


class SimRim:
    """A `cluster.rim.Rim` for one life of one node."""

    def __init__(self, node: SimNode) -> None:
        assert node.process is not None
        self._node = node
        self.time: Callable[[], float] = node.monotonic
        self.wall_ms: Callable[[], int] = node.wall_ms
        self.call_soon: Callable[..., None] = node.process.soon

    def open_directory(self, path: Path) -> Directory:
        """Lock the directory that outlives the node's processes."""
        return self._node.directory.open(path)

    def make_ticker(self, tick: Callable[[], None], wake: Callable[[], None]) -> SimTicker:
        """Return ticks of the world's time."""
        return SimTicker(self._node, tick, wake)

    def make_syncer(
        self, storage: Storage, user: SyncUser, observe: Callable[[float], None] | None
    ) -> SimSyncer:
        """Return syncs that take the time the options say."""
        del observe
        return SimSyncer(self._node, storage, user)

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
    ) -> SimTransport:
        """Return connections through the simulated network."""
        del node_id, bind, rng, loopback_only
        transport = SimTransport(self._node, addresses=addresses, handler=handler, limits=limits)
        self._node.transport = transport
        return transport


class SimTicker:
    """`cluster.ticker.Ticker`, coarser."""

    def __init__(self, node: SimNode, tick: Callable[[], None], wake: Callable[[], None]) -> None:
        assert node.process is not None
        self._node = node
        self._process = node.process
        self._tick = tick
        self._wake = wake
        self._early_at: float | None = None
        self._steady_at = 0.0
        """When all is due that a real node does at every tick; in between there are heartbeats."""
        self._number = 0
        self._stopped = False

    def start(self) -> None:
        """Tick now, and from now on."""
        if self._stopped:
            return
        now = self._node.world.now
        try:
            if now >= self._steady_at:
                self._steady_at = now + TICK_S
                self._tick()
            else:
                self._wake()
        finally:  # what a tick raises is logged, and a real one comes again
            self._process.after(self._wait_s(), self.start)

    def _wait_s(self) -> float:
        """Until the engine has something to do, or a while: most ticks would do nothing."""
        engine = self._node.engine
        if engine is None or engine.role != LEADER:
            return TICK_S  # who waits for a deadline is woken at it
        due_at = engine.heartbeat_at
        return max(_WAIT_MIN_S, min(TICK_S, due_at - self._node.monotonic() + _AFTER_S))

    def early(self, at: float) -> None:
        """Wake at a time of the node's clock, unless it is to wake earlier anyway."""
        if self._early_at is not None and self._early_at <= at:
            return
        at = max(at, self._node.monotonic() + _EARLY_MIN_S)
        if self._early_at is not None and self._early_at <= at:
            return
        self._early_at = at
        self._number += 1
        self._process.at(self._node.true_time(at), self._fire, self._number)

    def stop(self) -> None:
        """Never call back again."""
        self._stopped = True

    def _fire(self, number: int) -> None:
        if number == self._number and not self._stopped:
            self._early_at = None
            self._wake()


class SimSyncer:
    """`cluster.syncer.Syncer` without threads: the device takes the time the options say."""

    def __init__(self, node: SimNode, storage: Storage, user: SyncUser) -> None:
        assert node.process is not None
        self._node = node
        self._process = node.process
        self._storage = storage
        self._user = user
        self.time: Callable[[], float] = node.monotonic
        self._queue = queue = SyncQueue(user, self, storage.disk.sequence)
        self.hold = queue.hold
        self.want = queue.want
        self.poll = queue.poll

    def reset(self) -> None:
        """Take everything written so far as durable: storage has seen to it."""
        self._queue.reset(self._storage.disk.sequence)

    async def stop(self) -> None:
        """Sync a last time and store the mark."""
        if self._queue.end():
            mark = self._user.capture_mark()
            self._storage.disk.sync()
            self._storage.write_mark(mark)

    def abort(self) -> None:
        """Begin and release nothing more."""
        self._queue.end()

    fail = abort

    def begin_soon(self) -> None:
        """Begin after the present callback."""
        self._process.soon(self._queue.begin)

    def sync(self, mark: HighWater) -> None:
        """Have the device sync."""
        node = self._node
        # The device works on, whatever becomes of the process: what it has made durable is so.
        ends_at = node.sync_ends_at()
        node.world.at(ends_at, self._synced, self._storage.disk.sequence, mark)

    def store(self, mark: HighWater) -> None:
        """Have the device store the mark."""
        node = self._node
        node.world.at(node.sync_ends_at(), self._stored, mark)

    def _synced(self, covered: int, mark: HighWater) -> None:
        if not self._process.alive:
            return
        resumes_at = self._node.stalled_until
        if resumes_at > self._node.world.now:
            self._node.world.at(resumes_at, self._synced, covered, mark)
            return
        disk: Any = self._storage.disk
        try:
            if self._node.world.parts.syncs:
                disk.sync(covered)
                self._storage.write_note(mark, covered)
        except (DiskFailedError, StartError) as error:
            self._process.soon(self._queue.failed, str(error))
        else:
            self._process.soon(self._queue.synced, covered)

    def _stored(self, mark: HighWater) -> None:
        if not self._process.alive:
            return
        try:
            self._storage.write_mark(mark)
        except (DiskFailedError, StartError) as error:
            self._process.soon(self._queue.failed, str(error))
        else:
            self._process.soon(self._queue.stored, mark)
