"""One connection: keep-alive, silence, writing, closing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.fake_server import FakeNetwork, FakeNode, FakePeer, FakeRequest, MemoryTransport
from tests.support.virtual_time import in_virtual_time, now_s
from tq.connection import Connection
from tq.errors import ProtocolError, Unauthenticated
from tq.protocol import Type, encode

N1 = "n1:7401"


class Owner:
    """Notes what a connection tells."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, list[Any]]] = []
        self.lost: list[str] = []
        self.was_lost = asyncio.Event()
        self.resumed = 0

    def note_loss(self, _: Connection, reason: str) -> None:
        self.lost.append(reason)
        self.was_lost.set()

    def connection(self) -> Connection:
        def resumed() -> None:
            self.resumed += 1

        return Connection(
            N1,
            receive=lambda _, message_type, payload: self.answers.append((message_type, payload)),
            lost=self.note_loss,
            resumed=resumed,
        )


async def an_open_connection(node: FakeNode) -> tuple[Connection, Owner]:
    owner = Owner()
    connection = owner.connection()
    await connection.open(FakeNetwork(node).dial, name="test", options={"namespace": "default"})
    return connection, owner


def transport_of(peer: FakePeer) -> MemoryTransport:
    """The client's end of a peer's connection."""
    assert isinstance(peer.transport, MemoryTransport)
    return peer.transport.other


@in_virtual_time
async def test_a_quiet_connection_says_a_word_every_fifteen_seconds() -> None:
    node = FakeNode(N1)
    at_s: list[float] = []

    def note(request: FakeRequest) -> None:
        at_s.append(now_s())
        request.ack([])

    node.on(Type.HEARTBEAT, note)
    connection, owner = await an_open_connection(node)
    await asyncio.sleep(61)
    connection.close()
    gaps_s = [later - earlier for earlier, later in zip([0.0, *at_s], at_s, strict=False)]
    assert len(at_s) >= 4
    assert max(gaps_s) <= 15.0
    assert min(gaps_s) > 10.0
    assert owner.answers == []
    assert [request.fields for request in node.seen[1:]] == [[0, []]] * len(at_s)


@in_virtual_time
async def test_a_busy_connection_says_no_word_more() -> None:
    node = FakeNode(N1)
    node.on(Type.GET_STATS, lambda request: request.ack({}))
    connection, _ = await an_open_connection(node)
    for request_id in range(1, 60):
        connection.send(encode(Type.GET_STATS, [request_id]))
        await asyncio.sleep(1)
    connection.close()
    assert node.count(Type.HEARTBEAT) == 0


@in_virtual_time
async def test_a_node_that_answers_nothing_is_given_up_after_two_seconds() -> None:
    node = FakeNode(N1)
    connection, owner = await an_open_connection(node)
    await asyncio.sleep(100)
    assert owner.lost == []
    node.deaf = True
    started_s = now_s()
    connection.send(encode(Type.GET_STATS, [1]))
    await owner.was_lost.wait()
    assert 2.0 <= now_s() - started_s <= 3.1
    assert "no answer" in owner.lost[0]
    assert connection.is_closed


@in_virtual_time
async def test_a_long_frame_on_a_slow_line_is_no_silence() -> None:
    node = FakeNode(N1)
    connection, owner = await an_open_connection(node)
    node.deaf = True
    transport = transport_of(node.peers[0])
    transport.held = True
    connection.send(encode(Type.GET_STATS, [1, bytes(100_000)]))
    for _ in range(20):
        await asyncio.sleep(2)
        transport.let_through(4_000)
    assert owner.lost == []
    await owner.was_lost.wait()
    assert now_s() <= 50


@in_virtual_time
async def test_a_full_transport_pauses_and_its_room_is_told() -> None:
    node = FakeNode(N1)
    connection, owner = await an_open_connection(node)
    transport = transport_of(node.peers[0])
    transport.held = True
    connection.send(encode(Type.GET_STATS, [1, bytes(2 * 1024 * 1024)]))
    assert connection.paused
    transport.let_go()
    assert (connection.paused, owner.resumed) == (False, 1)
    connection.close()


@in_virtual_time
async def test_closing_writes_what_was_sent_before() -> None:
    node = FakeNode(N1)
    connection, owner = await an_open_connection(node)
    connection.send(encode(Type.GET_STATS, [5]))
    connection.close()
    await connection.wait_closed()
    await asyncio.sleep(0)
    assert node.count(Type.GET_STATS) == 1
    assert owner.lost == [""]


@in_virtual_time
async def test_a_loss_is_told_once() -> None:
    node = FakeNode(N1)
    connection, owner = await an_open_connection(node)
    node.crash()
    await asyncio.sleep(1)
    connection.abort("again")
    connection.close()
    assert owner.lost == ["closed by the node"]


@in_virtual_time
async def test_a_hello_never_answered_is_given_up_and_no_loss() -> None:
    node = FakeNode(N1)
    node.deaf = True
    owner = Owner()
    connection = owner.connection()
    with pytest.raises(TimeoutError):
        await connection.open(FakeNetwork(node).dial, name="test", options={})
    await asyncio.sleep(1)
    assert (now_s(), owner.lost, node.peers) == (3.0, [], [])


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda request: request.nack("UNAUTHENTICATED"), Unauthenticated),
        (lambda request: request.redirect("n2:7401"), ProtocolError),
        (lambda request: request.ack(), ProtocolError),
        (lambda request: request.ack("info"), ProtocolError),
        (lambda request: request.peer.send(Type.NACK, [0]), ProtocolError),
        (lambda request: request.peer.send_raw(b"HTTP/1.1 400 Bad Request"), ProtocolError),
        (lambda request: request.hang_up(), ConnectionResetError),
    ],
)
@in_virtual_time
async def test_a_hello_answered_wrongly_is_an_error(answer: Any, error: type[Exception]) -> None:
    node = FakeNode(N1)
    node.on(Type.HELLO, answer)
    owner = Owner()
    connection = owner.connection()
    with pytest.raises(error):
        await connection.open(FakeNetwork(node).dial, name="test", options={})
    await asyncio.sleep(1)
    assert (owner.lost, connection.is_closed, node.peers) == ([], True, [])


@in_virtual_time
async def test_closing_does_not_wait_for_a_node_that_reads_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = FakeNode(N1)
    connection, _ = await an_open_connection(node)
    transport = transport_of(node.peers[0])
    # As a real one: with something in its buffer, closing waits for the buffer to be empty.
    monkeypatch.setattr(transport, "abort", transport.close)
    monkeypatch.setattr(transport, "close", lambda: None)
    connection.close()
    async with asyncio.timeout(60):
        await connection.wait_closed()
    assert now_s() == 1.0


@in_virtual_time
async def test_a_connection_that_closes_at_once_is_not_looked_at_again() -> None:
    node = FakeNode(N1)
    connection, _ = await an_open_connection(node)
    connection.close()
    await connection.wait_closed()
    connection.close()
    assert now_s() == 0.0
    assert connection._goodbye is not None
    assert connection._goodbye.cancelled()
