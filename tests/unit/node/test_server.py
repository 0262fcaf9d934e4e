from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgpack
import pytest

import tq
from cluster.disk import RocksDisk
from cluster.faults import DiskFailedError, StartError
from cluster.syncer import Syncer
from node import server
from node.addresses import Address
from node.broker import Broker as BrokerService
from node.config import Api, Broker, Config, Persistence, Raft, Worker
from node.quantities import Duration, Size
from node.server import EXIT_FATAL, Node, serve
from tests.process.raw_client import new_task_id
from tests.support.ports import free_ports
from tq.protocol import Type

DEADLINE_S = 30.0


def a_config(
    directory: Path,
    *,
    node_id: int = 1,
    peers: dict[int, Address] | None = None,
    port: int = 0,
    sync: bool = True,
) -> Config:
    return Config(
        broker=Broker(port=port),
        api=Api(port=0),
        persistence=Persistence(data_dir=directory, sync=sync, ballast=Size(0)),
        raft=Raft(
            node_id=node_id,
            peers=peers or {},
            election_timeout=(Duration(400), Duration(800)),
        ),
    )


class Client:
    """A bare client on one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._request_ids = itertools.count(1)

    @classmethod
    async def connect(cls, address: str) -> Client:
        host, port = address.rsplit(":", 1)
        client = cls(*await asyncio.open_connection(host, int(port)))
        assert (await client.ask(Type.HELLO, 1, "test", {}))[0] == Type.ACK
        return client

    def send(self, type_: int, *fields: Any) -> None:
        body = msgpack.packb([next(self._request_ids), *fields])
        self._writer.write(struct.pack(">IB", len(body) + 1, type_) + body)

    async def receive(self) -> tuple[int, list[Any]]:
        async with asyncio.timeout(DEADLINE_S):
            length, kind = struct.unpack(">IB", await self._reader.readexactly(5))
            return kind, msgpack.unpackb(await self._reader.readexactly(length - 1))[1:]

    async def ask(self, type_: int, *fields: Any) -> tuple[int, list[Any]]:
        self.send(type_, *fields)
        return await self.receive()

    async def ended(self) -> bool:
        async with asyncio.timeout(DEADLINE_S):
            return await self._reader.read() == b""

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


async def until(condition: Callable[[], bool]) -> None:
    """Look until something is so that only the outside shows."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def running(config: Config) -> AsyncIterator[Node]:
    node = Node(config)
    await node.start()
    try:
        await until(lambda: node.status is not None and node.status.leader_id is not None)
        yield node
    finally:
        await node.stop()


def submit_fields(task_id: bytes) -> tuple[object, ...]:
    return (task_id, "q", "work", b"payload", {})


async def test_a_single_node_is_a_whole_queue_and_remembers_it_after_a_restart(
    tmp_path: Path,
) -> None:
    kept, done = new_task_id(), new_task_id()
    async with running(a_config(tmp_path)) as node:
        client = await Client.connect(node.client_address)
        for task_id in (done, kept):
            assert (await client.ask(Type.SUBMIT_TASK, *submit_fields(task_id)))[0] == Type.ACK
        _, [session, _] = await client.ask(Type.REGISTER_WORKER, b"w" * 16, "w", ["q"], {})
        _, [[grant]] = await client.ask(Type.CLAIM_TASK, session, ["q"], 1, 0)
        assert grant[0] == done
        answer = await client.ask(Type.TASK_RESULT, done, grant[1], 0, b"result", "")
        assert answer == (Type.ACK, ["completed"])
        await client.close()

    async with running(a_config(tmp_path)) as node:
        client = await Client.connect(node.client_address)
        _, [status] = await client.ask(Type.QUERY_STATUS, done)
        assert (status["state"], status["result"]) == ("completed", b"result")
        _, [status] = await client.ask(Type.QUERY_STATUS, kept)
        assert status["state"] == "pending"
        await client.close()


async def test_hello_tells_workers_what_the_file_says_for_them(tmp_path: Path) -> None:
    config = a_config(tmp_path).model_copy(
        update={"worker": Worker(concurrency=9, heartbeat_interval=Duration(2500))}
    )
    async with running(config) as node, tq.Client(node.client_address) as client:
        info = await client.node_info()

    assert (9, 2500, 60_000) == info.worker
    assert (10, 1) == (info.claim_max, info.node_id)


async def test_three_nodes_redirect_to_the_leader_and_replicate(tmp_path: Path) -> None:
    ports = free_ports(3)
    peers = {number: Address("127.0.0.1", port) for number, port in enumerate(ports, start=1)}
    async with contextlib.AsyncExitStack() as stack:
        nodes = [
            Node(a_config(tmp_path / str(number), node_id=number, peers=peers)) for number in peers
        ]
        for node in nodes:
            await node.start()
            stack.push_async_callback(node.stop)
        await until(
            lambda: all(node.status is not None and node.status.leader_id for node in nodes)
        )
        [leader] = [one for one in nodes if one.status and one.status.role == "leader"]
        follower = next(one for one in nodes if one is not leader)

        client = await Client.connect(follower.client_address)
        kind, answer = await client.ask(Type.SUBMIT_TASK, *submit_fields(new_task_id()))
        assert (kind, answer[0]) == (Type.REDIRECT, leader.client_address)
        await client.close()

        client = await Client.connect(leader.client_address)
        kind, _ = await client.ask(Type.SUBMIT_TASK, *submit_fields(new_task_id()))
        assert kind == Type.ACK
        _, [status] = await client.ask(Type.NODE_STATUS)
        assert [peer["node_id"] for peer in status["peers"]] == [
            one for one in (1, 2, 3) if one != status["node_id"]
        ]
        assert all(peer["client_address"] for peer in status["peers"])
        await client.close()


async def test_a_client_port_in_use_is_named_and_nothing_stays_behind(tmp_path: Path) -> None:
    async with running(a_config(tmp_path / "one")) as node:
        port = int(node.client_address.rsplit(":", 1)[1])
        said = f"client address 127.0.0.1:{port} is in use: .* with --listen HOST:PORT"
        with pytest.raises(OSError, match=said):
            await Node(a_config(tmp_path / "two", port=port)).start()
    async with running(a_config(tmp_path / "two")):
        pass


async def test_a_directory_of_another_node_ends_the_start_with_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(a_config(tmp_path)):
        pass
    assert await serve(a_config(tmp_path, node_id=2)) == 1
    assert "belongs to node 1" in capsys.readouterr().out


async def test_sigterm_drains_and_ends_with_code_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = record_nodes(monkeypatch)
    ended = asyncio.create_task(serve(a_config(tmp_path)))
    node = await started(made)
    client = await Client.connect(node.client_address)
    _, [session, _] = await client.ask(Type.REGISTER_WORKER, b"w" * 16, "w", ["q"], {})
    client.send(Type.CLAIM_TASK, session, ["q"], 1, 60_000)
    client.send(Type.HEARTBEAT, 0, [])
    assert await client.receive() == (Type.ACK, [[]])

    os.kill(os.getpid(), signal.SIGTERM)

    assert await client.receive() == (Type.ACK, [[]]), "the parked claim is answered"
    assert await client.ended()
    assert await ended == 0
    await client.close()


async def test_a_broken_invariant_ends_the_process_at_once_with_code_70(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = record_nodes(monkeypatch)
    left: list[int] = []
    ended = asyncio.create_task(serve(a_config(tmp_path), leave=left.append))
    node = await started(made)
    node._fail("the planted failure")

    assert await ended == EXIT_FATAL
    assert left == [70]


async def test_a_failure_that_cannot_be_logged_ends_the_process_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise MemoryError

    node = Node(a_config(tmp_path))
    monkeypatch.setattr(node, "_log", SimpleNamespace(critical=refuse))
    with pytest.raises(MemoryError):
        node._fail("the planted failure")
    assert node.failure.result() == "the planted failure"


async def test_a_failure_while_the_node_stops_ends_the_process_at_once_with_code_70(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = record_nodes(monkeypatch)
    left: list[int] = []
    ended = asyncio.create_task(serve(a_config(tmp_path), leave=left.append))
    node = await started(made)

    def fail(_broker: BrokerService) -> None:
        assert node._replica is not None
        node._replica.failed("the planted failure")

    async def wait(_condition: Callable[[], bool], **_: float) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(BrokerService, "drain", fail)
    monkeypatch.setattr(server, "until", wait)
    os.kill(os.getpid(), signal.SIGTERM)

    async with asyncio.timeout(DEADLINE_S):
        assert await ended == EXIT_FATAL
    assert left == [70]
    said = capsys.readouterr().out
    assert "the planted failure" in said
    assert "node_stopped" not in said


@pytest.mark.parametrize("error", [DiskFailedError, StartError])
async def test_a_disk_that_refuses_the_last_sync_or_the_last_mark_ends_it_with_code_70(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: type[Exception],
) -> None:
    made = record_nodes(monkeypatch)
    left: list[int] = []
    ended = asyncio.create_task(serve(a_config(tmp_path), leave=left.append))
    node = await started(made)

    def refuse(_syncer: Syncer) -> None:
        raise error("input/output error")

    monkeypatch.setattr(Syncer, "_finish", refuse)
    os.kill(os.getpid(), signal.SIGTERM)

    assert await ended == EXIT_FATAL
    assert left == [70]
    assert "input/output error" in capsys.readouterr().out
    node._replica = None  # closed; a process that has left needs no ports
    await node.abandon()


async def test_a_disk_that_fails_while_the_node_starts_ends_it_with_a_sentence_and_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_disk: RocksDisk) -> int:
        raise DiskFailedError("input/output error")

    monkeypatch.setattr(RocksDisk, "sync", refuse)
    assert await serve(a_config(tmp_path)) == 1
    said = capsys.readouterr().out
    assert "node_failed" in said
    assert "input/output error" in said


async def test_a_removed_node_drains_ends_with_code_0_and_does_not_start_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = record_nodes(monkeypatch)
    ended = asyncio.create_task(serve(a_config(tmp_path)))
    node = await started(made)
    assert node._replica is not None
    node._replica.removed(60)

    assert await ended == 0
    assert await serve(a_config(tmp_path)) == 1
    said = "".join(capsys.readouterr())
    assert "node_removed" in said
    assert "at entry 60" in said


async def test_a_throw_away_node_does_not_wait_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs: list[RocksDisk] = []
    whole = RocksDisk.sync

    def sync(disk: RocksDisk) -> int:
        syncs.append(disk)
        return whole(disk)

    monkeypatch.setattr(RocksDisk, "sync", sync)
    async with running(a_config(tmp_path, sync=False)) as node:
        before = len(syncs)
        client = await Client.connect(node.client_address)
        answer = await client.ask(Type.SUBMIT_TASK, *submit_fields(new_task_id()))
        assert answer[0] == Type.ACK
        assert len(syncs) == before
        await client.close()


def record_nodes(monkeypatch: pytest.MonkeyPatch) -> list[Node]:
    made: list[Node] = []

    def make(config: Config) -> Node:
        made.append(Node(config))
        return made[-1]

    monkeypatch.setattr(server, "Node", make)
    return made


async def started(made: list[Node]) -> Node:
    await until(lambda: bool(made) and made[0].status is not None)
    await until(lambda: made[0].status is not None and made[0].status.role == "leader")
    return made[0]
