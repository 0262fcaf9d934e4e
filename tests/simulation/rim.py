"""What a replica runs on in the simulation: the world's time, its disk, its network.

Each part behaves as its counterpart in `cluster` does; only what it waits for is made up.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.faults import DiskFailedError, StartError
from cluster.link import Limits
from cluster.messages import Message
from cluster.recovery import Storage
from cluster.seams import Directory
from cluster.state import LEADER
from cluster.syncer import MARK_INTERVAL_S, SyncUser
from cluster.transport import Address, PeerHandler
from cluster.watermark import HighWater
from tests.simulation.transport import SimTransport

if TYPE_CHECKING:
    from tests.simulation.nodes import SimNode

TICK_S = 0.2
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

    def make_ticker(self, tick: Callable[[], None]) -> SimTicker:
        """Return ticks of the world's time."""
        return SimTicker(self._node, tick)

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

    def __init__(self, node: SimNode, tick: Callable[[], None]) -> None:
        assert node.process is not None
        self._node = node
        self._process = node.process
        self._tick = tick
        self._early_at: float | None = None
        self._number = 0
        self._stopped = False

    def start(self) -> None:
        """Tick now, and from now on."""
        if not self._stopped:
            self._tick()
            self._process.after(self._wait_s(), self.start)

    def _wait_s(self) -> float:
        """Until the engine has something to do, or a while: most ticks would do nothing."""
        engine = self._node.engine
        if engine is None:
            return TICK_S
        due_at = engine.heartbeat_at if engine.role == LEADER else engine.election_deadline
        return max(_WAIT_MIN_S, min(TICK_S, due_at - self._node.monotonic() + _AFTER_S))

    def early(self, at: float) -> None:
        """Tick at a time of the node's clock, unless an earlier such tick is due anyway."""
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
            self._tick()


class SimSyncer:
    """`cluster.syncer.Syncer`: one sync at a time, begun a callback later, newest covers all."""

    def __init__(self, node: SimNode, storage: Storage, user: SyncUser) -> None:
        assert node.process is not None
        self._node = node
        self._process = node.process
        self._storage = storage
        self._user = user
        self._held: deque[tuple[int, int, int, Message]] = deque()
        self.reset()
        self._scheduled = False
        self._syncing = False
        self._marking = False
        self._mark_due_at = node.monotonic() + MARK_INTERVAL_S
        self._ended = False

    def reset(self) -> None:
        """Take everything written so far as durable: storage has seen to it."""
        self._wanted = self._durable = self._marked = self._storage.disk.sequence

    def hold(self, sequence: int, peer: int, epoch: int, message: Message) -> None:
        """Keep a message until `sequence` is durable."""
        self._held.append((sequence, peer, epoch, message))

    def want(self, sequence: int) -> None:
        """Ask for a batch to become durable."""
        self._wanted = max(self._wanted, sequence)
        self._schedule()

    def poll(self) -> None:
        """Store the high-water mark when it is due."""
        idle = not self._syncing and self._wanted == self._durable
        if idle and self._durable > self._marked and self._mark_is_due():
            self._write_mark(self._user.capture_mark())

    async def stop(self) -> None:
        """Sync a last time and store the mark."""
        failed, self._ended = self._ended, True
        if not failed:
            mark = self._user.capture_mark()
            self._storage.disk.sync()
            self._storage.write_mark(mark)

    def abort(self) -> None:
        """Begin and release nothing more."""
        self._ended = True
        self._held.clear()

    fail = abort

    def _schedule(self) -> None:
        if not (self._scheduled or self._syncing or self._ended):
            self._scheduled = True
            self._process.soon(self._begin)

    def _begin(self) -> None:
        self._scheduled = False
        if self._ended or self._syncing or self._wanted <= self._durable:
            return
        self._syncing = True
        mark, store = self._user.capture_mark(), self._mark_is_due()
        node = self._node
        # The device works on, whatever becomes of the process: what it has made durable is so.
        ends_at = node.sync_ends_at()
        node.world.at(ends_at, self._synced, self._storage.disk.sequence, mark, store)

    def _synced(self, covered: int, mark: HighWater, store: bool) -> None:
        if not self._process.alive:
            return
        resumes_at = self._node.stalled_until
        if resumes_at > self._node.world.now:
            self._node.world.at(resumes_at, self._synced, covered, mark, store)
            return
        disk: Any = self._storage.disk
        try:
            if self._node.world.parts.syncs:
                disk.sync(covered)
                self._storage.write_note(mark, covered)
        except (DiskFailedError, StartError) as error:
            self._tell(self._failed, str(error))
        else:
            self._tell(self._done, covered, mark if store else None)

    def _tell(self, action: Callable[..., None], *arguments: object) -> None:
        self._process.at(self._node.world.now, action, *arguments)

    def _failed(self, text: str) -> None:
        self._user.disk_failed(text)

    def _done(self, sequence: int, mark: HighWater | None) -> None:
        self._syncing = False
        if self._ended:
            return
        self._durable = sequence
        held, release = self._held, self._user.release
        while held and held[0][0] <= sequence:
            _, peer, epoch, message = held.popleft()
            release(peer, epoch, message)
        self._user.durable(sequence)
        if self._wanted > self._durable:
            self._schedule()
        if mark is not None:
            self._write_mark(mark)

    def _mark_is_due(self) -> bool:
        return not self._marking and self._node.monotonic() >= self._mark_due_at

    def _write_mark(self, mark: HighWater) -> None:
        if self._ended:
            return
        self._marking = True
        node = self._node
        node.world.at(node.sync_ends_at(), self._store_mark, mark)

    def _store_mark(self, mark: HighWater) -> None:
        if not self._process.alive:
            return
        try:
            self._storage.write_mark(mark)
        except (DiskFailedError, StartError) as error:
            self._tell(self._failed, str(error))
        else:
            self._tell(self._mark_stored, mark.sequence)

    def _mark_stored(self, sequence: int) -> None:
        self._marking = False
        self._marked = sequence
        self._mark_due_at = self._node.monotonic() + MARK_INTERVAL_S
