"""What one process of a node is made of: what `node.server` composes, on a simulated rim.

The engine, storage, bootstrap, membership, machine, broker, client port and sessions are
the real ones.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.addresses import Address
from cluster.configuration import Change
from cluster.engine import Engine
from cluster.interface import Status
from cluster.limits import Limits as PeerLimits
from cluster.replica import ReplicaConfig
from cluster.seams import SyncedDisk
from cluster.space import SpaceLimits
from node.archive import DiskArchive
from node.session import Limits
from node.surroundings import Rules, Surroundings
from node.tcp import ClientServer
from statemachine import FAMILIES
from tests.simulation.invariants.rule import COMMIT, END, MEMBERS, OFFICE
from tests.simulation.process import Process
from tests.simulation.rim import SimRim, finish

if TYPE_CHECKING:
    from tests.simulation.nodes import SimNode

_PING_S = 2.0
"""Between two reports of a node to its peers, and looks at their clocks."""

_POLL_S = 0.01
_DRAIN_MAX_S = 5.0
_SETTLE_MAX_S = 0.3
_HAND_OVER_MAX_S = 1.5


def peer_address(node_id: int) -> Address:
    """Where a node listens for its peers."""
    return "127.0.0.1", 7000 + node_id


def client_address(node_id: int) -> str:
    """Where a node's clients connect, as it tells them."""
    return f"node{node_id}:7401"


class Composition:
    """One process: the parts of a node, joined.

    Args:
        node: Whose; it hears of the engine, of failures and of changed roles.
        process: What runs it.
    """

    def __init__(self, node: SimNode, process: Process) -> None:
        world = node.world
        options, parts = world.options, world.parts
        self._node = node
        self._process = process
        self._archive = DiskArchive(unreadable=node.failed)
        self.engine: Engine | None = None
        self.machine = parts.machine(self._archive)
        self._watch_machine()
        self.broker = parts.broker(
            self.machine,
            _Consensus(self),
            rules=self._rules(),
            around=self._surroundings(),
            observer=_Nobody(),
        )
        self.clients = ClientServer(
            self.broker.dispatcher, limits=Limits(), now_s=node.monotonic, schedule=process.soon
        )
        self.replica = parts.replica(
            ReplicaConfig(
                node_id=node.node_id,
                addresses={one: peer_address(one) for one in (*node.founders, node.node_id)},
                data_dir=node.directory.path,
                families=FAMILIES,
                client_address=client_address(node.node_id),
                timing=options.timing,
                limits=PeerLimits(ping_s=_PING_S),
                joins=node.joins,
                space=SpaceLimits(options.ballast_bytes, options.disk_low_bytes),
            ),
            self.machine,
            self.broker,
            rng=random.Random(f"{world.seed} engine {node.node_id} {node.life}"),
            draw_bytes=world.rng(f"bytes {node.node_id}").randbytes,
            open_disk=self._open_disk,
            rim=SimRim(node),
            make_engine=self._make_engine,
        )

    def start(self) -> None:
        """Recover, listen, begin.

        Raises:
            StartError: Why it cannot.
        """
        finish(self.replica.start())

    def _open_disk(self, path: Path, families: Sequence[str]) -> SyncedDisk:
        disk = self._node.directory.open_disk(path, families)
        self._archive.attach(disk)
        if self._node.world.options.crash_points:
            disk.around_write = self._node.crash_point
        return disk

    def _rules(self) -> Rules:
        options = self._node.world.options
        seed = {
            "queue_depth_threshold": options.depth_max,
            "retention_ms": options.retention_ms,
            "claim_max": 10,
            "lease_ms": options.lease_ms,
            "checkpoint_entries_max": options.checkpoint_entries,
        }
        return Rules(node_id=self._node.node_id, compaction_s=options.compaction_s, seed=seed)

    def _surroundings(self) -> Surroundings:
        node = self._node
        return Surroundings(
            now_s=node.monotonic,
            wall_ms=self._wall_ms,
            schedule=self._process.soon,
            client_address=client_address,
            node_status=lambda: {"node_id": node.node_id},
            welcome=lambda: {"node_id": node.node_id},
            applied_index=lambda: self.engine.applied_index if self.engine else 0,
            role_changed=self._role_changed,
            fatal=node.failed,
            peer_addresses=self._peer_addresses,
            removed=node.was_removed,
            disk_low=self._disk_low,
        )

    def _wall_ms(self) -> int:
        return self.replica.wall_ms()

    def _disk_low(self) -> bool:
        return self.replica.short_of_disk()

    def _peer_addresses(self) -> Mapping[int, Address]:
        return self.engine.status.members if self.engine else {}

    def _role_changed(self, status: Status) -> None:
        self._node.world.trace("role", self._node.node_id, status.role, status.term)

    # ------------------------------------------------------------------------ observers

    def _make_engine(self, **given: object) -> Engine:
        engine = self._node.world.parts.engine(**given)  # type: ignore[arg-type]  # as the replica gives them
        self.engine = engine
        step, moved = engine.step, self._node.moved
        term = role = commit = -1
        end: object = None
        members: object = None

        def watched(event: object, now: float) -> object:
            nonlocal term, role, commit, end, members
            ready = step(event, now)  # type: ignore[arg-type]  # passed on as it came
            what = 0
            if engine.log.entries[-1] is not end:
                end = engine.log.entries[-1]
                what = END
            if engine.commit_index != commit:
                commit = engine.commit_index
                what |= COMMIT
            if engine.term != term or engine.role != role:
                term, role = engine.term, engine.role
                what |= OFFICE
            if engine.log.configuration is not members:
                members = engine.log.configuration
                what |= MEMBERS
            if what:
                moved(engine, what)
            return ready

        engine.step = watched  # type: ignore[method-assign, assignment]  # an observer in between
        return engine

    def _watch_machine(self) -> None:
        node, world, machine = self._node, self._node.world, self.machine
        apply, tell, memory = machine.apply, world.tell_applied, world.decoded
        checkpoint = machine.digest_chain

        def watched(index: int, entry: bytes, decoded: object | None = None) -> object:
            nonlocal checkpoint
            if decoded is None and memory is not None:
                decoded = memory.entry(index, entry)
            outcome = apply(index, entry, decoded)
            tell(node, index, entry, outcome)
            if machine.digest_chain is not checkpoint:
                checkpoint = machine.digest_chain
                world.tell_checkpointed(node)
            return outcome

        machine.apply = watched  # type: ignore[method-assign, assignment]  # an observer in between

    # ------------------------------------------------------------------------- in order

    def shut_down(self, then: Callable[[], None]) -> None:
        """Stop as SIGTERM makes a node stop: hand over, drain, sync, leave; then call back."""
        self._process.at(self._node.world.now, self._hand_over, then)

    def _hand_over(self, then: Callable[[], None]) -> None:
        broker = self.broker
        if not broker.leadership.leads or not self.engine or len(self.engine.voters) < 2:
            self._drain(then)
            return
        broker.begin_hand_over()

        def transfer() -> None:
            if broker.leadership.leads:
                self.replica.transfer_leadership()
            self._until(lambda: broker.has_handed_over, _HAND_OVER_MAX_S, go_on)

        def go_on() -> None:
            broker.end_hand_over()
            self._drain(then)

        self._until(lambda: broker.proposer.idle, _SETTLE_MAX_S, transfer)

    def _drain(self, then: Callable[[], None]) -> None:
        broker = self.broker
        broker.drain()

        def close() -> None:
            self.clients.outbox.flush()
            then()

        self._until(lambda: broker.idle, _DRAIN_MAX_S, close)

    def _until(self, holds: Callable[[], bool], left_s: float, then: Callable[[], None]) -> None:
        if holds() or left_s <= 0:
            then()
        else:
            self._process.after(_POLL_S, self._until, holds, left_s - _POLL_S, then)


class _Consensus:
    """The replica, which is made after those who use it."""

    def __init__(self, composition: Composition) -> None:
        self._composition = composition

    def propose(self, entry: bytes, decoded: object, context: object) -> None:
        self._composition.replica.propose(entry, decoded, context)

    def read_barrier(self, context: object) -> None:
        self._composition.replica.read_barrier(context)

    def change_members(self, change: Change, context: object) -> None:
        self._composition.replica.change_members(change, context)


class _Nobody:
    """Takes the figures."""

    def count_request(self, type_name: str, code: str) -> None:
        pass

    def observe_run(self, run_ms: int) -> None:
        pass
