"""Long frames on slow lines: whole, in order, and no silence while they move."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

import tq.connection
from tests.support.authority import Authority
from tests.support.fake_server import FakeNode, FakePeer, MemoryTransport
from tests.support.running_time import in_running_time
from tests.support.virtual_time import in_virtual_time, now_s
from tq.connection import Connection
from tq.outflow import PIECE_BYTES, Outflow
from tq.protocol import Type, encode

HOST = "127.0.0.1"
BELOW_MAX_BYTES = 64 * 1024
"""When the transport below TLS says that it is full, in asyncio and in uvloop."""


class LayeredTransport(MemoryTransport):
    """Like one of TLS: what the transport below holds is not counted."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__(protocol)
        self.is_full = False
        self.writes: list[int] = []
        self.below = bytearray()
        self.above = bytearray()

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.writes.append(len(data))
        if len(self.below) > BELOW_MAX_BYTES:
            self.above += data
            if len(self.above) > self._high and not self.is_full:
                self.is_full = True
                self._protocol.pause_writing()
        else:
            self.below += data
        if not self.held:
            self.let_through(len(self.below) + len(self.above))

    def let_through(self, size_bytes: int) -> None:
        """Send so much, at most what is below; then take what waits above."""
        sent = bytes(self.below[:size_bytes])
        del self.below[:size_bytes]
        self._loop.call_soon(self.other._arrive, sent)
        if len(self.below) <= BELOW_MAX_BYTES // 4 and self.above:
            self.below += self.above
            self.above.clear()
            if self.is_full:
                self.is_full = False
                self._protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        return len(self.above)


class Line:
    """A connection over a `LayeredTransport` to a node that says nothing but HELLO."""

    def __init__(self) -> None:
        self.node = FakeNode("n1:7401")
        self.lost: list[str] = []
        self.was_lost = asyncio.Event()
        self.resumed = 0
        self.connection = Connection(
            "n1:7401", receive=lambda *_: None, lost=self._note, resumed=self._resume
        )

    async def dial(self, _address: str, protocol: asyncio.Protocol) -> None:
        peer = FakePeer(self.node)
        self.transport = LayeredTransport(protocol)
        other = MemoryTransport(peer)
        self.transport.other, other.other = other, self.transport
        peer.connection_made(other)
        protocol.connection_made(self.transport)

    async def open(self) -> None:
        await self.connection.open(self.dial, name="test", options={})
        self.node.on(Type.HEARTBEAT, lambda _: None)
        self.transport.held = True
        self.transport.writes.clear()

    def _note(self, _: Connection, reason: str) -> None:
        self.lost.append(reason)
        self.was_lost.set()

    def _resume(self) -> None:
        self.resumed += 1


@in_virtual_time
async def test_a_long_frame_that_moves_below_tls_is_no_silence() -> None:
    line = Line()
    await line.open()
    line.connection.send(encode(Type.GET_STATS, [1, bytes(6_000_000)]))
    steps = 0
    while line.transport.below:
        await asyncio.sleep(1)
        assert line.lost == []
        line.transport.let_through(80_000)
        steps += 1
    assert steps >= 75, "the line was not slow"
    await asyncio.sleep(0)
    assert line.node.count(Type.GET_STATS) == 1
    stopped_at_s = now_s()
    await line.was_lost.wait()
    assert now_s() - stopped_at_s <= 3.1  # not a word came, and nothing is left to move
    assert "no answer" in line.lost[0]


@in_virtual_time
async def test_a_long_frame_that_does_not_move_is_silence() -> None:
    line = Line()
    await line.open()
    started_s = now_s()
    line.connection.send(encode(Type.GET_STATS, [1, bytes(6_000_000)]))
    await line.was_lost.wait()
    assert now_s() - started_s <= 3.1


@in_virtual_time
async def test_frames_behind_a_long_one_wait_their_turn() -> None:
    line = Line()
    await line.open()
    line.connection.send(encode(Type.GET_STATS, [1, bytes(1_000_000)]))
    line.connection.send(encode(Type.LIST_WORKERS, [2]))
    await asyncio.sleep(0)
    line.connection.send(encode(Type.NODE_STATUS, [3]))
    await asyncio.sleep(0)
    assert line.connection.paused
    assert max(line.transport.writes) <= PIECE_BYTES
    assert sum(line.transport.writes) < 500_000, "all of it was handed over at once"
    while line.transport.below:
        assert line.resumed == 0 or not line.connection.paused
        line.transport.let_through(80_000)
        await asyncio.sleep(0)
    assert (line.connection.paused, line.resumed) == (False, 1)
    types = [request.type for request in line.node.seen[1:]]
    assert types == [Type.GET_STATS, Type.LIST_WORKERS, Type.NODE_STATUS]
    line.connection.close()


@in_virtual_time
async def test_what_is_short_is_one_write() -> None:
    line = Line()
    await line.open()
    for request_id in range(1, 100):
        line.connection.send(encode(Type.GET_STATS, [request_id]))
    await asyncio.sleep(0)
    assert len(line.transport.writes) == 1
    line.connection.close()


@in_virtual_time
async def test_closing_sends_the_rest_of_a_long_frame_first() -> None:
    line = Line()
    await line.open()
    frame = encode(Type.GET_STATS, [1, bytes(1_000_000)])
    line.connection.send(frame)
    line.connection.close()
    assert sum(line.transport.writes) == len(frame)


# ----------------------------------------------------------------------- real sockets


class SlowReader(asyncio.Protocol):
    """The node's end of a slow line: reads no faster than so many bytes a second."""

    def __init__(self, onward: asyncio.Protocol, bytes_per_s: float) -> None:
        self._onward = onward
        self._bytes_per_s = bytes_per_s
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._onward.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._onward.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._transport.pause_reading()
        self._loop.call_later(len(data) / self._bytes_per_s, self._take, data)

    def _take(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._onward.data_received(data)
            self._transport.resume_reading()


@contextlib.asynccontextmanager
async def a_slow_node(
    node: FakeNode, context: ssl.SSLContext | None, *, bytes_per_s: float
) -> AsyncIterator[tuple[str, int]]:
    listener = socket.socket()
    # What the kernel of the node has taken is gone, as far as a client can see.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    listener.bind((HOST, 0))
    server = await asyncio.get_running_loop().create_server(
        lambda: SlowReader(FakePeer(node), bytes_per_s), sock=listener, ssl=context
    )
    async with server:
        yield listener.getsockname()
        node.crash()


@pytest.mark.parametrize("kernel_bytes", [32 * 1024, 4 * 1024 * 1024], ids=["small", "large"])
@pytest.mark.parametrize("over_tls", [True, False], ids=["tls", "clear"])
@in_running_time
async def test_a_long_frame_arrives_over_a_slow_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, over_tls: bool, kernel_bytes: int
) -> None:
    for name, span_s in [("LOOK_S", 0.02), ("PROBE_S", 0.05), ("SILENT_S", 0.05), ("LOST_S", 0.2)]:
        monkeypatch.setattr(tq.connection, name, span_s)
    authority = Authority(tmp_path)
    files = authority.files(1)
    loop = asyncio.get_running_loop()
    node = FakeNode(HOST)
    node.on(Type.GET_STATS, lambda request: request.ack({}))
    ended: asyncio.Future[object] = loop.create_future()

    def end(how: object) -> None:
        if not ended.done():
            ended.set_result(how)

    server_tls = authority.server(files) if over_tls else None
    async with a_slow_node(node, server_tls, bytes_per_s=4e6) as address:

        async def dial(_: str, protocol: asyncio.Protocol) -> None:
            plain = socket.socket()
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, kernel_bytes)
            plain.setblocking(False)
            await loop.sock_connect(plain, address)
            client_tls = authority.client(None) if over_tls else None
            name = HOST if over_tls else None
            await loop.create_connection(
                lambda: protocol, sock=plain, ssl=client_tls, server_hostname=name
            )

        connection = Connection(
            HOST, receive=lambda _, type_, __: end(type_), lost=lambda _, reason: end(reason)
        )
        await connection.open(dial, name="test", options={})
        connection.send(encode(Type.GET_STATS, [1, bytes(3_000_000)]))
        async with asyncio.timeout(20):
            assert await ended == Type.ACK
        connection.close()
        await connection.wait_closed()


def test_small_traffic_that_a_kernel_takes_is_no_sign_of_life() -> None:
    with contextlib.ExitStack() as stack:
        ours, theirs = (stack.enter_context(one) for one in socket.socketpair())
        ours.setblocking(False)
        outflow = Outflow()
        outflow.attach(cast("asyncio.Transport", DirectTransport(ours)))
        for _ in range(5):
            outflow.write(bytes(1_000))
            assert not outflow.has_moved()
        assert len(theirs.recv(10_000)) == 5_000
        outflow.write(bytes(1_000))
        assert not outflow.has_moved()


class DirectTransport:
    """Hands everything to the kernel, which takes it."""

    def __init__(self, plain: socket.socket) -> None:
        self._plain = plain

    def get_extra_info(self, _name: str) -> socket.socket:
        return self._plain

    def set_write_buffer_limits(self, *, high: int) -> None:
        """Nothing is ever buffered."""

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes) -> None:
        assert self._plain.send(data) == len(data)
