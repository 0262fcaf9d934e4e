"""A broker with the real machine, a consensus that applies at once, and clients."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgpack

from cluster.configuration import Change
from cluster.interface import DropReason, LogHashes, Role, Status
from node.broker import Broker
from node.gate import Gate
from node.session import Limits
from node.surroundings import Rules, Surroundings
from statemachine import Machine
from tests.unit.node.fakes import FakeClock, FakeLoop, a_session
from tq.protocol import Type

NODE_ID = 1
OTHER_ID = 2
ADDRESSES = {NODE_ID: "10.0.0.1:7401", OTHER_ID: "10.0.0.2:7401"}


class EmptyArchive:
    """Durable records of a node that has made no checkpoint."""

    def get(self, _family: str, _key: bytes) -> bytes | None:
        return None

    def scan(self, _family: str, _start: bytes, _limit: int) -> list[tuple[bytes, bytes]]:
        return []


@dataclass
class Proposal:
    entry: bytes
    decoded: object
    context: object


class FakeConsensus:
    """One voter: applies at once, or holds everything until told."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.broker: Broker | None = None
        self.index = 0
        self.holds = False
        self.holds_reads = False
        self.proposals: list[Proposal] = []
        self.waiting: list[Proposal] = []
        self.reads: list[object] = []
        self.barriers = 0
        self.changes: list[tuple[Change, object]] = []

    def propose(self, entry: bytes, decoded: object, context: object) -> None:
        proposal = Proposal(entry, decoded, context)
        self.proposals.append(proposal)
        self.waiting.append(proposal)
        if not self.holds:
            self.apply()

    def read_barrier(self, context: object) -> None:
        self.barriers += 1
        self.reads.append(context)
        if not self.holds_reads:
            self.pass_reads()

    def change_members(self, change: Change, context: object) -> None:
        self.changes.append((change, context))

    def apply(self, count: int | None = None) -> None:
        assert self.broker is not None
        for proposal in self.waiting[:count]:
            self.waiting.remove(proposal)
            self.index += 1
            outcome = self.machine.apply(self.index, proposal.entry, proposal.decoded)
            self.broker.applied(self.index, outcome, proposal.context)

    def apply_foreign(self, entry: bytes) -> None:
        assert self.broker is not None
        self.index += 1
        self.broker.applied(self.index, self.machine.apply(self.index, entry), None)

    def drop(self, reason: DropReason) -> None:
        assert self.broker is not None
        waiting, self.waiting = self.waiting, []
        for proposal in waiting:
            self.broker.dropped(proposal.context, reason)

    def pass_reads(self, *, ok: bool = True) -> None:
        assert self.broker is not None
        reads, self.reads = self.reads, []
        for context in reads:
            self.broker.read_done(context, ok)


class Figures:
    """Counts what metrics would."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.run_ms: list[int] = []

    def count_request(self, type_name: str, code: str) -> None:
        self.requests.append((type_name, code))

    def observe_run(self, run_ms: int) -> None:
        self.run_ms.append(run_ms)


class Client:
    """One connection, with the protocol spelled out by hand."""

    def __init__(self, world: World, *, limits: Limits | None = None) -> None:
        self.world = world
        self.session, self.wire = a_session(world.loop, limits=limits)
        # As in the SDK, no two clients use the same ones.
        self._request_ids = itertools.count(1 + 1000 * next(world.client_numbers))

    def send(self, type_: int, *fields: Any, rid: int | None = None) -> int:
        """Send one request without letting the loop turn."""
        rid = next(self._request_ids) if rid is None else rid
        self.send_raw(type_, msgpack.packb([rid, *fields]))
        return rid

    def send_raw(self, type_: int, body: bytes) -> None:
        self.world.broker.dispatcher.receive(self.session, type_, body)

    def answers(self) -> list[tuple[int, list[Any]]]:
        """Let the loop come to rest and take what was answered."""
        self.world.loop.run()
        return self.wire.take()

    def ask(self, type_: int, *fields: Any, rid: int | None = None) -> tuple[int, list[Any]]:
        """Send one request; return its answer's type and fields after the request id."""
        rid = self.send(type_, *fields, rid=rid)
        answers = self.answers()
        assert len(answers) == 1, answers
        kind, fields_back = answers[0]
        assert fields_back[0] == rid
        return kind, fields_back[1:]

    def ack(self, type_: int, *fields: Any, rid: int | None = None) -> list[Any]:
        kind, answer = self.ask(type_, *fields, rid=rid)
        assert kind == Type.ACK, answer
        return answer

    def nack(self, type_: int, *fields: Any, rid: int | None = None) -> list[Any]:
        kind, answer = self.ask(type_, *fields, rid=rid)
        assert kind == Type.NACK, answer
        return answer

    def submit(self, *, queue: str = "q", task_id: bytes | None = None, **options: Any) -> bytes:
        task_id = task_id or self.world.task_id()
        self.ack(Type.SUBMIT_TASK, task_id, queue, "work", b"payload", options)
        return task_id

    def register(self, *, worker: bytes = b"w" * 16) -> int:
        session: int = self.ack(Type.REGISTER_WORKER, worker, "worker", ["q"], {})[0]
        return session

    def claim(self, session: int, *, count: int = 1, wait_ms: int = 0) -> list[list[Any]]:
        grants: list[list[Any]] = self.ack(Type.CLAIM_TASK, session, ["q"], count, wait_ms)[0]
        return grants

    def close(self) -> None:
        self.session.closed = True
        self.world.broker.dispatcher.closed(self.session)


class World:
    """Everything around one broker; leads from the start."""

    def __init__(
        self,
        *,
        leads: bool = True,
        rules: Rules | None = None,
        gate: Gate | None = None,
        log_hashes: Callable[[int, int], LogHashes] = lambda _start, _limit: LogHashes(1, 0, []),
    ) -> None:
        self.client_numbers = itertools.count()
        self.loop = FakeLoop()
        self.clock = FakeClock()
        self.figures = Figures()
        self.fatal: list[str] = []
        self.disk_low = False
        self.knows_time = True
        self.roles: list[Status] = []
        self.machine = Machine(EmptyArchive())
        self.consensus = FakeConsensus(self.machine)
        self.broker = Broker(
            self.machine,
            self.consensus,
            rules=rules or Rules(node_id=NODE_ID),
            around=Surroundings(
                now_s=self.clock.now_s,
                wall_ms=lambda: self.clock.wall_ms() if self.knows_time else 0,
                schedule=self.loop.call_soon,
                client_address=lambda node: ADDRESSES.get(node, ""),
                node_status=lambda: {"node_id": NODE_ID},
                welcome=lambda: {"node_id": NODE_ID},
                applied_index=lambda: self.consensus.index,
                role_changed=self.roles.append,
                fatal=self.fatal.append,
                disk_low=lambda: self.disk_low,
                log_hashes=log_hashes,
                gate=gate or Gate(),
            ),
            observer=self.figures,
        )
        self.consensus.broker = self.broker
        self._ids = self._task_ids()
        self.term = 0
        if leads:
            self.lead()

    def task_id(self) -> bytes:
        return next(self._ids)

    def lead(self) -> None:
        self.term += 1
        self._role("leader", NODE_ID)
        self.loop.run()

    def follow(self, leader: int | None = OTHER_ID) -> None:
        self.term += 1
        self._role("follower", leader)

    def client(self, *, limits: Limits | None = None) -> Client:
        return Client(self, limits=limits)

    def pass_s(self, seconds: float) -> None:
        """Let time pass in small steps, ticking."""
        for _ in range(round(seconds / 0.05)):
            self.clock.pass_s(0.05)
            self.broker.tick()
            self.loop.run()

    def _role(self, role: Role, leader: int | None) -> None:
        self.broker.role_changed(
            Status(
                node_id=NODE_ID,
                cluster_id=b"c" * 16,
                role=role,
                term=self.term,
                leader_id=leader,
                commit_index=self.consensus.index,
                applied_index=self.consensus.index,
                last_index=self.consensus.index,
                first_index=1,
                voters=(1, 2, 3),
            )
        )

    def _task_ids(self) -> Iterator[bytes]:
        for number in itertools.count(1):
            head = self.clock.wall.to_bytes(6, "big")
            yield head + b"\x70\x00" + b"\x80" + number.to_bytes(7, "big")
