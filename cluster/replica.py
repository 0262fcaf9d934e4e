"""One node of the cluster as the process runs it: the asyncio rim around the engine.

`Replica` owns the data directory, the connections and the engine, and brings to it what peers
send, what the node proposes, time, and finished syncs (`cluster.driver`).

Before the first start is agreed upon (`cluster.bootstrap`) there is no engine; proposals
are dropped, and a peer's messages count only once both sides are bootstrapped.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping
from dataclasses import replace

from cluster.addresses import Address
from cluster.checkup import Alarms, Checkup
from cluster.configuration import Change, Configuration
from cluster.disk import RocksDisk
from cluster.driver import Driver, Parts, ReplicaListener
from cluster.engine import Engine
from cluster.events import (
    ChangeMembers,
    Durable,
    PeerConnected,
    PeerDisconnected,
    Propose,
    ReadBarrier,
    Received,
    TransferLeadership,
)
from cluster.faults import DiskDamagedError, DiskHungError, StartError, diverged_text
from cluster.handshake import Standing
from cluster.interface import LogHashes, Machine, PeerStatus, Status
from cluster.joining import Joining, OwnAddresses
from cluster.log import DamagedLog
from cluster.membership import Membership
from cluster.messages import Message
from cluster.recovery import Storage
from cluster.replica_config import ReplicaConfig
from cluster.rim import AsyncioRim, Rim
from cluster.seams import OpenDisk
from cluster.space import Room
from cluster.tls import PeerTls
from cluster.vitals import Report
from cluster.watermark import HighWater

__all__ = ["Replica", "ReplicaConfig", "ReplicaListener"]


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
        make_engine: Makes the engine; a test may watch it.
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
        make_engine: Callable[..., Engine] = Engine,
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
        self._engine_of = make_engine

    async def start(self) -> None:
        """Open the data directory, recover, listen, and begin.

        Raises:
            StartError: One sentence that says why this node cannot start.
        """
        config = self._config
        self._rim = self._given_rim or AsyncioRim(self._config.tls)
        self._storage = Storage(
            config.data_dir,
            node_id=config.node_id,
            voters=config.voters,
            families=config.families,
            open_disk=self._open_disk,
            open_directory=self._rim.open_directory,
            space=config.space,
        )
        try:
            await self._begin()
        except BaseException:
            self._storage.close()
            raise
        if not self._driver.ended:
            self._ticker.start()

    async def _begin(self) -> None:
        config = self._config
        own = OwnAddresses(config.client_address, config.http_address)
        self._ticker = self._rim.make_ticker(self._tick, self._wake)
        self._checkup = Checkup(
            config.node_id,
            self._machine,
            wall_ms=self._rim.wall_ms,
            interval_s=config.limits.ping_s,
            user=self,
        )
        identity, time = self._storage.identity, self._rim.time
        self._membership = Membership(identity, config.addresses, self, time)
        self._joining = Joining(self._storage, self._membership, own, self._draw_bytes, self)
        self._syncer = self._rim.make_syncer(self._storage, self, self._observe_sync)
        self._transport = self._rim.make_transport(
            node_id=config.node_id,
            addresses={**config.addresses, **_only(config.peer_addresses, config.addresses)},
            bind=config.bind or config.addresses[config.node_id],
            handler=self._joining,
            rng=self._rng,
            limits=config.limits,
            loopback_only=config.loopback_only,
        )
        parts = Parts(
            rim=self._rim,
            ticker=self._ticker,
            syncer=self._syncer,
            transport=self._transport,
            checkup=self._checkup,
            membership=self._membership,
            listener=self._listener,
        )
        self._driver = Driver(config.node_id, parts, self._fail)
        if self._joining.takes_part:
            self.bootstrapped()
        self._joining.start()
        await self._transport.start()

    async def stop(self) -> None:
        """Let what was written leave, sync a last time, store the mark, close everything."""
        failed, self._driver.ended = self._driver.ended, True
        self._ticker.stop()
        await self._transport.stop()
        try:
            if failed:
                self._syncer.abort()
            else:
                await self._syncer.stop()
        except DiskHungError:
            raise  # closing would hang as well
        except BaseException:
            self._storage.close()
            raise
        self._storage.close()

    def abort(self) -> None:
        """Drop everything where it is, as after a fatal error; only the files are closed."""
        self._driver.ended = True
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
        if not self._driver.is_running:
            self._rim.call_soon(self._listener.dropped, context, "NOT_LEADER")
            return
        self._driver.soon(Propose(entry, decoded, context))

    def read_barrier(self, context: object) -> None:
        """Ask for a linearizable read; `read_done` of the listener answers."""
        if not self._driver.is_running:
            self._rim.call_soon(self._listener.read_done, context, False)
            return
        self._driver.soon(ReadBarrier(context))

    def change_members(self, change: Change, context: object) -> None:
        """Add, promote or remove a member; `change_done` of the listener answers."""
        if not self._driver.is_running:
            self._rim.call_soon(self._listener.change_done, context, 0, "NOT_LEADER")
            return
        self._driver.soon(ChangeMembers(change, context))

    def transfer_leadership(self) -> None:
        """Hand leadership to another voter, if this node leads and one can take it."""
        if self._driver.is_running:
            self._driver.soon(TransferLeadership())

    def status(self) -> Status:
        """This node as it stands."""
        if self._driver.engine is not None:
            return self._driver.engine.status
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
            voters=self._config.voters,
            peers={peer: PeerStatus(peer in connected, 0, 0, None) for peer in others},
        )

    def log_hashes(self, start: int, limit: int) -> LogHashes:
        """Checksums of the log as far as it is committed, see `Log.hashes`."""
        engine = self._driver.engine
        if engine is None:
            return LogHashes(1, 0, [])
        return engine.log.hashes(start, limit, engine.commit_index)

    def peer_addresses(self) -> dict[int, tuple[str, str]]:
        """Return (client address, HTTP address) of every node heard of since the start."""
        return dict(self._joining.addresses)

    def wall_ms(self) -> int:
        """The time to stamp entries with, see `Vitals.wall_ms`."""
        return self._checkup.vitals.wall_ms(self._rim.time())

    def alarms(self) -> Alarms:
        """What an operator should look at: clocks, states that differ, full disks."""
        return self._checkup.alarms(self._rim.time())

    @property
    def room(self) -> Room:
        """What is left on the disk."""
        return self._storage.space.room

    def short_of_disk(self) -> bool:
        """Whether this node, or so many that the others are no quorum, is low on disk."""
        if self._storage.space.low:
            return True
        voters = self.voters()
        low = len(set(self._checkup.vitals.low_disks()).intersection(voters))
        return low * 2 >= len(voters) > 1

    @property
    def tls(self) -> PeerTls | None:
        """Certificates in use with the peers, None when nodes speak in the clear."""
        return self._config.tls

    def refusal_counts(self) -> dict[str, int]:
        """Connections between nodes that were refused since the start, by reason."""
        return dict(self._transport.refusal_counts)

    # What `Checkup` asks for.

    def voters(self) -> tuple[int, ...]:
        """The voters of the configuration in force."""
        engine = self._driver.engine
        return self._config.voters if engine is None else engine.voters

    def say_report(self, report: Report) -> None:
        """Tell every connected peer."""
        self._transport.report(report)

    def give_up_leading(self) -> bool:
        """Hand leadership over, if this node leads."""
        if self._driver.engine is None or self.status().role != "leader":
            return False
        self.transfer_leadership()
        return True

    def diverged(self, text: str) -> None:
        """Record durably that this node's state is wrong, if that can be; end for good."""
        if self._driver.ended:
            return
        try:
            said = self._storage.mark_diverged(text)
        except Exception as error:  # noqa: BLE001 - a disk that refuses must not keep it going
            said = diverged_text(self._config.data_dir, text)
            said = f"{said} (this could not be recorded: {error})"
        self._fail(said)

    # What `Membership` tells.

    def reach(self, addresses: Mapping[int, Address]) -> None:
        """Have connections with exactly these nodes."""
        detours = self._config.peer_addresses
        self._transport.set_members({**addresses, **_only(detours, addresses)})

    def settled(self, configuration: Configuration) -> None:
        """Record the voters for a start that cannot read the database."""
        try:
            self._storage.note_voters(configuration.voters)
        except StartError as error:
            self._fail(str(error))

    def removed(self, index: int) -> None:
        """Record that this node is out, so that it never starts from here again."""
        try:
            self._storage.record(replace(self._storage.identity, removed_at=index))
        except (StartError, OSError) as error:
            self._fail(str(error))
            return
        self._listener.removed(index)

    def announce(self, standing: Standing) -> None:
        """Tell the peers how this node stands."""
        self._transport.announce(standing)

    # What `Joining` tells.

    def drop_peer(self, peer: int, reason: str) -> None:
        """Close the connection to a peer."""
        self._transport.drop(peer, reason)

    def bootstrapped(self) -> None:
        """Make the engine; a database that contradicts itself makes place for an empty one."""
        try:
            engine = self._make_engine()
        except (DamagedLog, DiskDamagedError) as error:
            engine, damage = None, str(error)
        if engine is None:  # not in the handler: the error's frames hold the database open
            self._storage.replace_database(damage)
            self._syncer.reset()
            engine = self._make_engine()
        self._driver.begin(engine)

    def failed(self, text: str) -> None:
        """End for good."""
        self._fail(text)

    def joined(self, peer: int) -> None:
        """Pass a connection to the engine."""
        self._checkup.soon()
        self._driver.soon(PeerConnected(peer))

    def parted(self, peer: int) -> None:
        """Pass the end of a connection to the engine."""
        self._checkup.forget(peer)
        self._driver.soon(PeerDisconnected(peer))

    def message_came(self, peer: int, message: Message) -> None:
        """Queue a message for the engine."""
        checkup = self._checkup
        if not checkup.far_off or checkup.admits(message):
            self._driver.queue(Received(peer, message))

    def reported(self, peer: int, report: Report) -> None:
        """Compare what a peer says of itself with what this node knows."""
        self._checkup.hear(peer, report, self._rim.time())

    def drained(self) -> None:
        """Let the engine act on what one read has brought."""
        self._driver.turn()

    def _make_engine(self) -> Engine:
        config, storage = self._config, self._storage
        return self._engine_of(
            node_id=config.node_id,
            founding=self._membership.founding,
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
        engine = self._driver.engine
        if engine is None:
            return self._storage.mark()
        return self._storage.mark(last_index=engine.log.last_index, term=engine.term)

    def release(self, peer: int, epoch: int, message: Message) -> None:
        """Send what was held, unless it was meant for an earlier connection."""
        if self._transport.epoch(peer) == epoch:
            self._transport.send(peer, message)

    def durable(self, sequence: int) -> None:
        """Tell the engine."""
        self._driver.queue(Durable(sequence))
        self._driver.turn()

    def disk_failed(self, text: str) -> None:
        """End for good."""
        self._fail(text)

    def _fail(self, text: str) -> None:
        """End for good: nothing leaves any more, the node is told once."""
        if self._driver.ended:
            return
        self._driver.ended = True
        try:
            self._ticker.stop()
            self._syncer.fail()
            self._transport.abort()
        finally:  # there is no second call: it would find the end begun
            self._listener.fatal(text)

    def _tick(self) -> None:
        if self._storage.damage is not None:
            self._fail(self._storage.damage)
            return
        self._syncer.poll()
        self._storage.space.tick(self._rim.time())
        self._checkup.vitals.disk_low = self._storage.space.low
        self._membership.tick()
        if self._driver.engine is not None:
            self._driver.tick()
            self._checkup.tick(self._rim.time())

    def _wake(self) -> None:
        if self._driver.engine is not None:
            self._driver.tick()


def _only(detours: Mapping[int, Address], peers: Mapping[int, Address]) -> dict[int, Address]:
    """Return where this node reaches some of the peers instead."""
    return {peer: address for peer, address in detours.items() if peer in peers}
