"""One node of the cluster as the process runs it: the asyncio rim around the engine.

`Replica` owns the data directory, the connections and the engine, and feeds the engine one
event after the other: what peers send, what the node proposes, time, and finished syncs.
What a step answers is carried out at once: messages leave, held ones wait for their sync,
the listener hears the rest. Steps never nest: an event that comes up while one is carried
out is queued.

Before the first start is agreed upon (`cluster.bootstrap`) there is no engine; proposals
are dropped, and a peer's messages count only once both sides are bootstrapped.
"""

from __future__ import annotations

import logging
import os
import random
from collections import deque
from collections.abc import Callable
from typing import Protocol

from cluster.disk import RocksDisk
from cluster.engine import Engine
from cluster.events import (
    Durable,
    Event,
    PeerConnected,
    PeerDisconnected,
    Propose,
    ReadBarrier,
    Ready,
    Received,
    Tick,
    TransferLeadership,
)
from cluster.faults import DiskDamagedError
from cluster.identity import BootstrapState
from cluster.interface import Listener, Machine, PeerStatus, Status
from cluster.joining import Joining, OwnAddresses
from cluster.log import DamagedLog
from cluster.messages import Message
from cluster.recovery import OpenDisk, Storage
from cluster.replica_config import ReplicaConfig
from cluster.rim import AsyncioRim, Rim
from cluster.watermark import HighWater

_log = logging.getLogger(__name__)

__all__ = ["Replica", "ReplicaConfig", "ReplicaListener"]


class ReplicaListener(Listener, Protocol):
    """What the node hears."""

    def read_done(self, context: object, ok: bool) -> None:
        """A read barrier is through (True), or this node cannot say that it leads (False)."""


class Replica:
    """A voter: engine, disk and connections behind a handful of calls.

    Everything is called from one event loop.

    Args:
        config: Who and where.
        machine: The replicated machine.
        listener: Told of outcomes; called from the event loop, never from within a call of
            `propose` or `read_barrier`.
        rng: Election waits and jitter.
        draw_bytes: Source of the cluster id and the nonce of this process.
        observe_sync: Called with the seconds each fsync took.
        open_disk: Opens the database; a test may slow it down.
        rim: Clock, threads and sockets; those of the running event loop unless given.
    """

    def __init__(
        self,
        config: ReplicaConfig,
        machine: Machine,
        listener: ReplicaListener,
        *,
        rng: random.Random | None = None,
        draw_bytes: Callable[[int], bytes] = os.urandom,
        observe_sync: Callable[[float], None] | None = None,
        open_disk: OpenDisk = RocksDisk,
        rim: Rim | None = None,
    ) -> None:
        self._given_rim = rim
        self._config = config
        self._machine = machine
        self._listener = listener
        self._rng = rng or random.Random()  # noqa: S311 - election waits are no secret
        self._draw_bytes = draw_bytes
        self._observe_sync = observe_sync
        self._open_disk = open_disk
        self._engine: Engine | None = None
        self._events: deque[Event] = deque()
        self._turning = False
        self._scheduled = False
        self._ended = False

    async def start(self) -> None:
        """Open the data directory, recover, listen, and begin.

        Raises:
            StartError: One sentence that says why this node cannot start.
        """
        config = self._config
        self._rim = self._given_rim or AsyncioRim()
        self._storage = Storage(
            config.data_dir,
            node_id=config.node_id,
            voters=list(config.addresses),
            families=config.families,
            open_disk=self._open_disk,
            open_directory=self._rim.open_directory,
        )
        try:
            await self._begin()
        except BaseException:
            self._storage.close()
            raise
        if not self._ended:
            self._ticker.start()

    async def _begin(self) -> None:
        config = self._config
        own = OwnAddresses(config.client_address, config.http_address)
        self._ticker = self._rim.make_ticker(self._tick)
        self._joining = Joining(self._storage, own, self._draw_bytes, self)
        self._syncer = self._rim.make_syncer(self._storage, self, self._observe_sync)
        self._transport = self._rim.make_transport(
            node_id=config.node_id,
            addresses={**config.addresses, **config.peer_addresses},
            bind=config.bind or config.addresses[config.node_id],
            handler=self._joining,
            rng=self._rng,
            limits=config.limits,
            loopback_only=config.loopback_only,
        )
        if self._joining.takes_part:
            self.bootstrapped()
        self._joining.start()
        await self._transport.start()

    async def stop(self) -> None:
        """Let what was written leave, sync a last time, store the mark, close everything."""
        failed, self._ended = self._ended, True
        self._ticker.stop()
        await self._transport.stop()
        try:
            if failed:
                self._syncer.abort()
            else:
                await self._syncer.stop()
        finally:
            self._storage.close()

    def abort(self) -> None:
        """Drop everything where it is, as after a fatal error; only the files are closed."""
        self._ended = True
        self._ticker.stop()
        self._transport.abort()
        self._syncer.abort()
        self._storage.close()

    def propose(self, entry: bytes, decoded: object, context: object) -> None:
        """Append one entry, if this node leads.

        Args:
            entry: Opaque bytes, at least one.
            decoded: Handed to the machine with the entry, to spare a second decoding.
            context: Comes back exactly once, in `applied` or `dropped` of the listener.
        """
        if self._engine is None or self._ended:
            self._rim.call_soon(self._listener.dropped, context, "NOT_LEADER")
            return
        self._enqueue(Propose(entry, decoded, context))

    def read_barrier(self, context: object) -> None:
        """Ask for a linearizable read; `read_done` of the listener answers."""
        if self._engine is None or self._ended:
            self._rim.call_soon(self._listener.read_done, context, False)
            return
        self._enqueue(ReadBarrier(context))

    def transfer_leadership(self) -> None:
        """Hand leadership to another voter, if this node leads and one can take it."""
        if self._engine is not None and not self._ended:
            self._enqueue(TransferLeadership())

    def status(self) -> Status:
        """This node as it stands."""
        if self._engine is not None:
            return self._engine.status
        connected = self._transport.connected
        others = [peer for peer in self._config.addresses if peer != self._config.node_id]
        return Status(
            node_id=self._config.node_id,
            cluster_id=self._storage.identity.cluster_id or b"",
            role="follower",
            term=0,
            leader_id=None,
            commit_index=0,
            applied_index=0,
            last_index=0,
            first_index=1,
            voters=tuple(sorted(self._config.addresses)),
            peers={peer: PeerStatus(peer in connected, 0, 0, None) for peer in others},
        )

    def peer_addresses(self) -> dict[int, tuple[str, str]]:
        """Return (client address, HTTP address) of every node heard of since the start."""
        return dict(self._joining.addresses)

    # What `Joining` tells.

    def announce(self, state: BootstrapState, cluster_id: bytes | None) -> None:
        """Tell the peers the bootstrap state."""
        self._transport.announce(state, cluster_id)

    def drop_peer(self, peer: int, reason: str) -> None:
        """Close the connection to a peer."""
        self._transport.drop(peer, reason)

    def bootstrapped(self) -> None:
        """Make the engine; a database that contradicts itself makes place for an empty one."""
        try:
            self._engine = self._make_engine()
        except (DamagedLog, DiskDamagedError) as error:
            self._storage.replace_database(str(error))
            self._syncer.reset()
            self._engine = self._make_engine()

    def failed(self, text: str) -> None:
        """End for good."""
        self._fail(text)

    def joined(self, peer: int) -> None:
        """Pass a connection to the engine."""
        self._enqueue(PeerConnected(peer))

    def parted(self, peer: int) -> None:
        """Pass the end of a connection to the engine."""
        self._enqueue(PeerDisconnected(peer))

    def message_came(self, peer: int, message: Message) -> None:
        """Queue a message for the engine."""
        self._events.append(Received(peer, message))

    def drained(self) -> None:
        """Let the engine act on what one read has brought."""
        if self._events:
            self._turn()

    def _make_engine(self) -> Engine:
        config, storage = self._config, self._storage
        return Engine(
            node_id=config.node_id,
            voters=list(config.addresses),
            disk=storage.disk,
            machine=self._machine,
            rng=self._rng,
            timing=config.timing,
            cluster_id=storage.identity.cluster_id or b"",
            amnesiac=storage.amnesiac,
            now=self._rim.time(),
        )

    # What `Syncer` tells.

    def capture_mark(self) -> HighWater:
        """Return the mark of everything written by now."""
        status = self.status()
        return self._storage.mark(last_index=status.last_index, term=status.term)

    def release(self, peer: int, epoch: int, message: Message) -> None:
        """Send what was held, unless it was meant for an earlier connection."""
        if self._transport.epoch(peer) == epoch:
            self._transport.send(peer, message)

    def durable(self, sequence: int) -> None:
        """Tell the engine."""
        self._events.append(Durable(sequence))
        self._turn()

    def disk_failed(self, text: str) -> None:
        """End for good."""
        self._fail(text)

    # What the engine wants carried out.

    def _enqueue(self, event: Event) -> None:
        self._events.append(event)
        if not self._scheduled:
            self._scheduled = True
            self._rim.call_soon(self._turn)

    def _turn(self) -> None:
        """Step the engine through every queued event."""
        self._scheduled = False
        if self._turning or self._ended or self._engine is None:
            return
        self._turning = True
        events, step, time = self._events, self._engine.step, self._rim.time
        try:
            while events and not self._ended:
                self._carry_out(step(events.popleft(), time()))
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing can be trusted now
            _log.critical("node %d cannot go on", self._config.node_id, exc_info=True)
            self._fail(f"an unexpected error: {error!r}")
        finally:
            self._turning = False
        self._transport.forget_encoded()

    def _carry_out(self, ready: Ready) -> None:
        transport, listener = self._transport, self._listener
        for peer, message in ready.messages:
            transport.send(peer, message)
        for sequence, peer, message in ready.held:
            self._syncer.hold(sequence, peer, transport.epoch(peer), message)
        if ready.sync_needed is not None:
            self._syncer.want(ready.sync_needed)
        for index, outcome, context in ready.applied:
            listener.applied(index, outcome, context)
        for dropped, reason in ready.dropped:
            listener.dropped(dropped, reason)
        for read, ok in ready.reads:
            listener.read_done(read, ok)
        if ready.role_changed:
            listener.role_changed(self.status())
        if ready.halted is not None:
            self._fail(ready.halted)
        elif ready.tick_at is not None:
            self._ticker.early(ready.tick_at)

    def _fail(self, text: str) -> None:
        """End for good: nothing leaves any more, the node is told once."""
        if self._ended:
            return
        self._ended = True
        self._ticker.stop()
        self._syncer.fail()
        self._transport.abort()
        self._listener.fatal(text)

    def _tick(self) -> None:
        self._syncer.poll()
        if self._engine is not None:
            self._events.append(Tick())
            self._turn()
