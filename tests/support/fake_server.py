"""Nodes that play a script: they speak the protocol and think nothing.

A `FakeNetwork` joins clients and `FakeNode`s in memory, within one event loop. Pass
`network.dial` to a client. A node answers HELLO and keep-alive by itself; every other
request is handed to the test, which says what to answer:

    request = await node.next(Type.SUBMIT_TASK)
    request.ack(17)

or to a handler set with `node.on(Type.SUBMIT_TASK, lambda request: request.ack(17))`.
`node.listen(port)` serves the same script over TCP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from tq.protocol import FRAME_MAX_BYTES, Decoder, Type, encode, unpack


@dataclass(frozen=True, slots=True)
class FakeRequest:
    """One request that a node was sent.

    Attributes:
        peer: The connection it came on.
        type: What it asks.
        body: The raw payload.
        fields: The payload without its request id.
    """

    peer: FakePeer
    type: Type
    body: bytes
    request_id: int
    fields: list[Any]

    def ack(self, *fields: object) -> None:
        """Answer ACK."""
        self.peer.send(Type.ACK, [self.request_id, *fields])

    def nack(self, code: str, text: str = "", retry_after_ms: int | None = None) -> None:
        """Answer NACK."""
        self.peer.send(Type.NACK, [self.request_id, code, text, retry_after_ms])

    def redirect(self, leader: str, term: int = 1) -> None:
        """Answer REDIRECT."""
        self.peer.send(Type.REDIRECT, [self.request_id, leader, term])

    def hang_up(self) -> None:
        """Close the connection without an answer."""
        self.peer.hang_up()


class FakePeer(asyncio.Protocol):
    """The node's end of one connection."""

    def __init__(self, node: FakeNode) -> None:
        self._node = node
        self._decoder = Decoder()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods of asyncio.Transport, not its class.
        self.transport = cast("asyncio.Transport", transport)
        self._node.peers.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._node.peers.remove(self)

    def data_received(self, data: bytes) -> None:
        for message_type, body in self._decoder.feed(data):
            request_id, *fields = unpack(body)
            self._node.take(FakeRequest(self, Type(message_type), body, request_id, fields))

    def send(self, message_type: int, payload: list[object]) -> None:
        self.send_raw(encode(message_type, payload))

    def send_raw(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def hang_up(self) -> None:
        assert self.transport is not None
        self.transport.abort()


class FakeNode:
    """One node.

    Args:
        address: As it is dialled.
        leader: What it says of the leader's address; itself if None.
    """

    def __init__(self, address: str, leader: str | None = None) -> None:
        self.address = address
        self.leader = address if leader is None else leader
        self.info: dict[str, object] = {}
        """More for the answer to HELLO."""
        self.peers: list[FakePeer] = []
        self.seen: list[FakeRequest] = []
        """Every request, HELLO and keep-alive included."""
        self.up = True
        self.deaf = False
        """Whether it reads and answers nothing, with its connections open."""
        self._handlers: dict[Type, Callable[[FakeRequest], None]] = {
            Type.HELLO: self._hello,
            Type.HEARTBEAT: lambda request: request.ack([]),
        }
        self._waiting: list[FakeRequest] = []
        self._arrived = asyncio.Event()

    def on(self, message_type: Type, handler: Callable[[FakeRequest], None]) -> None:
        """Answer all requests of a type with `handler`."""
        self._handlers[message_type] = handler

    async def next(self, message_type: Type) -> FakeRequest:
        """Wait for the next request of a type that has no handler."""
        while True:
            for request in self._waiting:
                if request.type == message_type:
                    self._waiting.remove(request)
                    return request
            self._arrived.clear()
            await self._arrived.wait()

    def count(self, message_type: Type) -> int:
        """How many requests of a type came so far."""
        return sum(request.type == message_type for request in self.seen)

    def crash(self) -> None:
        """Refuse new connections and drop those there are."""
        self.up = False
        for peer in list(self.peers):
            peer.hang_up()

    def take(self, request: FakeRequest) -> None:
        """Take a request from a peer."""
        if self.deaf:
            return
        self.seen.append(request)
        handler = self._handlers.get(request.type)
        if handler is not None:
            handler(request)
        else:
            self._waiting.append(request)
            self._arrived.set()

    async def listen(self, port: int) -> asyncio.Server:
        """Serve over TCP on the loopback."""
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: FakePeer(self), "127.0.0.1", port)

    def _hello(self, request: FakeRequest) -> None:
        info: dict[str, object] = {
            "node_id": 1,
            "cluster_id": "00" * 16,
            "leader": self.leader,
            "frame_max_bytes": FRAME_MAX_BYTES,
        }
        request.ack(info | self.info)


class FakeNetwork:
    """Nodes by address."""

    def __init__(self, *nodes: FakeNode) -> None:
        self.nodes = {node.address: node for node in nodes}
        self.dialled: list[str] = []

    async def dial(self, address: str, protocol: asyncio.Protocol) -> None:
        """Connect a client's protocol to a node.

        Raises:
            ConnectionRefusedError: The node is down or unknown.
        """
        self.dialled.append(address)
        await asyncio.sleep(0)
        node = self.nodes.get(address)
        if node is None or not node.up:
            raise ConnectionRefusedError(f"nobody listens at {address}")
        join(protocol, FakePeer(node))


class MemoryTransport(asyncio.Transport):
    """One end of a connection in memory; bytes arrive in the next turn of the loop.

    Attributes:
        held: Whether what is written stays in the buffer, as on a line that is stuck.
    """

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._closing = False
        self._high = 64 * 1024
        self._buffer: list[bytes] = []
        self.held = False
        self.other: MemoryTransport = self

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self._closing:
            return
        self._buffer.append(bytes(data))
        if not self.held:
            self._deliver()
        elif self.get_write_buffer_size() > self._high:
            self._protocol.pause_writing()

    def let_through(self, size_bytes: int) -> None:
        """Deliver some of what is held."""
        data = b"".join(self._buffer)
        self._loop.call_soon(self.other._arrive, data[:size_bytes])
        self._buffer = [data[size_bytes:]]

    def let_go(self) -> None:
        """Deliver what was held, and what comes from now on."""
        self.held = False
        self._deliver()
        self._protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self._buffer))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = high or 64 * 1024

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._end()
        self.other._end()

    def abort(self) -> None:
        self.close()

    def _deliver(self) -> None:
        data, self._buffer = b"".join(self._buffer), []
        if data:
            self._loop.call_soon(self.other._arrive, data)

    def _arrive(self, data: bytes) -> None:
        if not self._closing:
            self._protocol.data_received(data)

    def _end(self) -> None:
        if not self._closing:
            self._loop.call_soon(self._lose)

    def _lose(self) -> None:
        if not self._closing:
            self._closing = True
            self._protocol.connection_lost(None)


def join(one: asyncio.Protocol, other: asyncio.Protocol) -> MemoryTransport:
    """Join two protocols; returns the first one's transport."""
    ends = MemoryTransport(one), MemoryTransport(other)
    ends[0].other, ends[1].other = ends[1], ends[0]
    other.connection_made(ends[1])
    one.connection_made(ends[0])
    return ends[0]
