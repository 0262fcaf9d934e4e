"""The composition root: one node of the cluster, from its configuration to its last sync."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from cluster.configuration import Change, Configuration
from cluster.disk import RocksDisk
from cluster.faults import DiskFailedError, StartError
from cluster.interface import LogHashes, Status
from cluster.replica import Replica
from node import logs
from node.addresses import Address, listen_error
from node.archive import DiskArchive
from node.broker import Broker
from node.collector import Collector
from node.config import Config
from node.entrance import Entrance, entrance
from node.figures import node_status, task_facts
from node.gate import Gate
from node.handover import hand_over, see_off, until
from node.http import HttpListener, Views
from node.lookout import Lookout
from node.metrics import Metrics, Sources
from node.peer_facts import PeerFacts
from node.settings import (
    advertised_http,
    limits,
    open_disk,
    peer_facts,
    replica_config,
    rules,
    unreachable,
    worker_defaults,
)
from node.surroundings import Surroundings
from node.tcp import ClientServer
from node.version import version
from statemachine import Machine
from tq.protocol import IDLE_MS

TICK_S: Final = 0.05
EXIT_FATAL: Final = 70
"""Exit code of a node that met a broken invariant or a failing disk (EX_SOFTWARE)."""
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_DRAIN_MAX_S: Final = 5.0


class Node:
    """One node; usable in a process of its own and within a test.

    Args:
        config: Everything it is told.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._log = logs.logger(facts=self._facts, node=config.node_id)
        self._archive = DiskArchive(unreadable=self._fail)
        self._machine = Machine(self._archive)
        self._replica: Replica | None = None
        self._broker: Broker | None = None
        self._clients: ClientServer | None = None
        self._http: HttpListener | None = None
        self._entrance: Entrance | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ticked_s = time.monotonic()
        self._stopping = False
        self._was_counting = False
        self.client_address = ""
        """Where clients reach this node, once it has started."""
        self.http_address = ""
        self.failure: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Done with a text when the process must end at once."""
        self.removal: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """Done with the index of the entry that has removed this node from its cluster."""
        self._metrics = Metrics(
            Sources(
                raft=lambda: self.status,
                tasks=lambda: task_facts(self._machine),
                connections=lambda: self._clients.connections if self._clients else 0,
                peers=self._peer_facts,
                disk=self._disk_facts,
                refusals=lambda: self._entrance.gate.refusals if self._entrance else {},
            ),
            version=version(),
        )
        self._lookout = Lookout(
            config.node_id, detours=config.raft.peer_addresses, replica=lambda: self._replica
        )
        self._collector = Collector(is_quiet=self._is_quiet, now_s=time.monotonic)

    @property
    def status(self) -> Status | None:
        """The consensus engine as it stands; None while it starts."""
        return None if self._replica is None else self._replica.status()

    async def start(self) -> None:
        """Open the ports, recover, join the cluster.

        Raises:
            OSError: A port is in use or not of this machine.
            StartError: The data directory or the peer address cannot be used.
        """
        try:
            await self._start()
        except BaseException:
            await self._close()
            raise
        self._collector.start()
        self._tick()
        self._log.info("node_started", clients=self.client_address, http=self.http_address)

    async def _start(self) -> None:
        config = self._config
        door = self._entrance = entrance(config, now_s=time.monotonic)
        self._http = HttpListener(self._views(), gate=door.gate, tls=door.http)
        # Both listeners first: their addresses are told to the peers.
        try:
            http_at = await self._http.start(config.http_listen)
        except OSError as error:
            raise listen_error("HTTP", config.http_listen, error, flag="--http") from error
        self.http_address = str(advertised_http(config, http_at))
        consensus = _Consensus(self)
        self._broker = Broker(
            self._machine,
            consensus,
            rules=rules(config),
            around=self._surroundings(door.gate),
            observer=self._metrics,
        )
        self._clients = ClientServer(
            self._broker.dispatcher,
            limits=limits(config),
            now_s=time.monotonic,
            secure=door.secure,
        )
        listen = config.client_listen
        try:
            bound = await self._clients.start(listen.host, listen.port)
        except OSError as error:
            raise listen_error("client", listen, error, flag="--listen") from error
        self.client_address = str(
            config.broker.advertised_address or Address(listen.host, bound[1])
        )
        if trouble := door.trouble(self.client_address):
            self._log.warning("config_warning", text=trouble)
        replica = Replica(
            replica_config(
                config, client_address=self.client_address, http_address=self.http_address
            ),
            self._machine,
            self._broker,
            observe_sync=self._metrics.observe_fsync,
            open_disk=self._open_disk,
        )
        await replica.start()
        self._replica = replica

    async def stop(self) -> None:
        """Hand leadership over, finish what is under way, sync a last time."""
        self._stopping = True
        self._log.info("node_draining")
        broker, clients, replica = self._broker, self._clients, self._replica
        assert broker is not None
        assert clients is not None
        assert replica is not None
        if broker.leadership.leads and len(replica.status().voters) > 1:
            await hand_over(
                broker, replica.transfer_leadership, log=self._log, is_alone=self._is_alone
            )
            clients.stop_accepting()
            await see_off(lambda: clients.connections)
        clients.stop_accepting()
        broker.drain()
        await until(lambda: broker.idle, timeout_s=_DRAIN_MAX_S)
        await self._close()
        self._log.info("node_stopped")

    async def abandon(self) -> None:
        """Close everything as it is, after a failure; nothing is synced."""
        self._stopping = True
        if self._replica is not None:
            self._replica.abort()
            self._replica = None
        await self._close()

    async def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._lookout.close()
        if self._clients is not None:
            await self._clients.stop()
        if self._replica is not None:
            await self._replica.stop()
        if self._http is not None:
            await self._http.stop()
        self._collector.stop()

    # ------------------------------------------------------------ what parts are told

    def _surroundings(self, gate: Gate) -> Surroundings:
        return Surroundings(
            now_s=time.monotonic,
            wall_ms=self._wall_ms,
            schedule=asyncio.get_running_loop().call_soon,
            client_address=self._client_address_of,
            node_status=self._status_map,
            welcome=self._welcome,
            applied_index=lambda: self.status.applied_index if self.status else 0,
            log_hashes=self._log_hashes,
            role_changed=self._role_changed,
            peer_addresses=lambda: self.status.members if self.status else {},
            reachable=self._reachable,
            look=self._lookout.look,
            members_changed=self._members_changed,
            removed=self._removed,
            disk_low=lambda: self._replica is not None and self._replica.short_of_disk(),
            fatal=self._fail,
            gate=gate,
        )

    def _log_hashes(self, start: int, limit: int) -> LogHashes:
        replica = self._replica
        return LogHashes(1, 0, []) if replica is None else replica.log_hashes(start, limit)

    def _wall_ms(self) -> int:
        """The time entries are stamped with: agreed with the peers once there are any."""
        replica = self._replica
        return time.time_ns() // 1_000_000 if replica is None else replica.wall_ms()

    def _peer_facts(self) -> PeerFacts | None:
        if self._replica is None or self._entrance is None:
            return None
        return peer_facts(self._replica, ends_s=self._entrance.ends_s)

    def _views(self) -> Views:
        return Views(
            tick_age_s=lambda: time.monotonic() - self._ticked_s,
            raft=lambda: self.status,
            is_stopping=lambda: self._stopping,
            status=self._status_map,
            metrics=self._metrics.render,
        )

    def _open_disk(self, path: Path, families: Sequence[str]) -> RocksDisk:
        disk = open_disk(path, families, sync=self._config.persistence.sync)
        self._archive.attach(disk)
        return disk

    def _client_address_of(self, node_id: int) -> str:
        if node_id == self._config.node_id:
            return self.client_address
        return self._addresses().get(node_id, ("", ""))[0]

    def _addresses(self) -> dict[int, tuple[str, str]]:
        return {} if self._replica is None else self._replica.peer_addresses()

    def _status_map(self) -> dict[str, object]:
        status = self.status
        if status is None:
            return {"node_id": self._config.node_id, "role": "starting", "version": version()}
        told = node_status(
            status,
            self._machine,
            addresses=self._addresses(),
            version=version(),
            connections=self._clients.connections if self._clients else 0,
        )
        free_bytes, low = self._disk_facts() or (0, False)
        return {**told, "disk_free_bytes": free_bytes, "disk_low": low}

    def _disk_facts(self) -> tuple[int, bool] | None:
        replica = self._replica
        return None if replica is None else (replica.room.free_bytes, replica.short_of_disk())

    def _welcome(self) -> dict[str, object]:
        status = self.status
        return {
            "node_id": self._config.node_id,
            "cluster_id": "" if status is None else status.cluster_id.hex(),
            "frame_max_bytes": self._config.broker.frame_max.bytes,
            "payload_max_bytes": self._config.broker.payload_max.bytes,
            "idle_ms": IDLE_MS,
            "worker": worker_defaults(self._config),
        }

    def _facts(self) -> dict[str, object]:
        status = self.status
        return {} if status is None else {"role": status.role, "term": status.term}

    # ------------------------------------------------------------ what happens

    def _tick(self) -> None:
        self._ticked_s = time.monotonic()
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        assert self._broker is not None
        self._broker.tick()
        if self._entrance is not None:
            self._entrance.gate.tick()
        self._collector.tick()
        counting = self._broker.leases.counting and self._machine.seeded
        if counting and not self._was_counting:
            self._took_over()
        self._was_counting = counting

    def _is_quiet(self) -> bool:
        return self._broker is None or self._broker.proposer.idle

    def _is_alone(self) -> bool:
        peers = self.status.peers if self.status else {}
        return not any(peer.connected and peer.voter for peer in peers.values())

    def _role_changed(self, status: Status) -> None:
        self._log.info("role_changed", role=status.role, term=status.term, leader=status.leader_id)

    def _members_changed(self, configuration: Configuration, index: int) -> None:
        self._log.info(
            "members_changed",
            voters=list(configuration.voters),
            learners=list(configuration.learners),
            index=index,
        )

    def _removed(self, index: int) -> None:
        self._log.warning("node_removed", index=index)
        if not self.removal.done():
            self.removal.set_result(index)

    def _reachable(self, address: tuple[str, int]) -> str:
        return unreachable(self._config, Address(*address))

    def _took_over(self) -> None:
        """Say where the file and the cluster differ: the cluster's settings count."""
        settings = self._machine.settings._asdict()
        for name, value in rules(self._config).seed.items():
            if settings[name] != value:
                self._log.warning(
                    "setting_differs", setting=name, file=value, cluster=settings[name]
                )

    def _fail(self, text: str) -> None:
        if not self.failure.done():  # first: where memory ran out, the line may fail as well
            self.failure.set_result(text)
        self._log.critical("node_failed", text=text)


class _Consensus:
    """The replica of a node, which is made after those who use it."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def propose(self, entry: bytes, decoded: object, context: object) -> None:
        replica = self._node._replica  # noqa: SLF001 - one object in two halves
        assert replica is not None, "nobody leads before the replica has started"
        replica.propose(entry, decoded, context)

    def read_barrier(self, context: object) -> None:
        replica = self._node._replica  # noqa: SLF001 - one object in two halves
        assert replica is not None, "nobody leads before the replica has started"
        replica.read_barrier(context)

    def change_members(self, change: Change, context: object) -> None:
        replica = self._node._replica  # noqa: SLF001 - one object in two halves
        assert replica is not None, "nobody leads before the replica has started"
        replica.change_members(change, context)


async def serve(config: Config, *, leave: Callable[[int], object] = os._exit) -> int:
    """Run a node until it is told to stop (SIGTERM, SIGINT) or fails.

    Args:
        config: Everything it is told.
        leave: Ends the process at once, without another write: what a broken invariant
            or a failing disk calls for.

    Returns:
        The exit code: 0 after a drain or a removal from the cluster, 1 when it could not
        start, `EXIT_FATAL` after a failure (if `leave` returns).

    Raises:
        OSError: A port is in use or not of this machine.
    """
    node = Node(config)
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    node.failure.add_done_callback(lambda _: asked.set())
    node.removal.add_done_callback(lambda _: asked.set())
    for number in _SIGNALS:
        loop.add_signal_handler(number, asked.set)
    try:
        return await _serve(node, asked, leave=leave)
    except (StartError, DiskFailedError) as error:
        logs.logger(node=config.node_id).error("node_failed", text=str(error))
        return 1
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


async def _serve(node: Node, asked: asyncio.Event, *, leave: Callable[[int], object]) -> int:
    await node.start()
    await asked.wait()
    try:
        if await _stopped(node):
            return 0
    except (DiskFailedError, StartError) as error:
        # The interpreter would wait for the threads of a disk that hangs.
        logs.logger().critical("node_failed", text=str(error))
        leave(EXIT_FATAL)
        return EXIT_FATAL
    leave(EXIT_FATAL)
    await node.abandon()
    return EXIT_FATAL


async def _stopped(node: Node) -> bool:
    """Stop in good order; False as soon as the node has failed, before or meanwhile."""
    if not node.failure.done():
        stopping = asyncio.ensure_future(node.stop())
        await asyncio.wait((stopping, node.failure), return_when=asyncio.FIRST_COMPLETED)
        if stopping.done():
            stopping.result()
        else:
            stopping.cancel()  # it would wait for what a node that has failed does no more
    return not node.failure.done()
