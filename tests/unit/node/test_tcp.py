from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgpack
import pytest

from node import tcp
from node.session import Limits, Session
from node.tcp import TURN_BYTES, ClientServer, Connection
from tests.unit.node.fakes import FakeClock
from tq.protocol import Type

DEADLINE_S = 10.0


class Echo:
    """Accepts any HELLO and echoes every frame; a frame of type 0x7E asks for a flood.

    One of type 0x7D asks for as much, to be made when there is room.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[int, bytes]] = []
        self.sessions: list[Session] = []
        self.gone: list[Session] = []
        self.changed = asyncio.Event()

    def receive(self, session: Session, message_type: int, body: bytes) -> None:
        self.seen.append((message_type, body))
        if session not in self.sessions:
            self.sessions.append(session)
        if message_type == Type.HELLO:
            session.accepted = True
        if message_type == 0x7D:
            session.when_room(lambda: session.send(frame(0x7D, b"x" * (4 * 1024 * 1024))))
        elif message_type == 0x7E:
            session.send(frame(0x7E, b"x" * (4 * 1024 * 1024)))
        else:
            session.send(frame(message_type, body))
        self.changed.set()

    def closed(self, session: Session) -> None:
        self.gone.append(session)
        self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


class Port:
    """A running client port with a clock of its own."""

    def __init__(self, limits: Limits) -> None:
        self.echo = Echo()
        self.clock = FakeClock()
        self.server = ClientServer(self.echo, limits=limits, now_s=self.clock.now_s)
        self.address = ("", 0)

    async def connect(self, *, hello: bool = True) -> Raw:
        reader, writer = await asyncio.open_connection(*self.address)
        raw = Raw(reader, writer)
        if hello:
            raw.send(frame(Type.HELLO, b"hi"))
            assert await raw.frame() == (Type.HELLO, b"hi")
        return raw

    def pass_s(self, seconds: float) -> None:
        self.clock.pass_s(seconds)
        self.server.sweep(self.clock.now_s())


class Raw:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def frame(self) -> tuple[int, bytes]:
        async with asyncio.timeout(DEADLINE_S):
            length, type_ = struct.unpack(">IB", await self.reader.readexactly(5))
            return type_, await self.reader.readexactly(length - 1)

    async def nack(self) -> list[Any]:
        type_, body = await self.frame()
        assert type_ == Type.NACK
        answer: list[Any] = msgpack.unpackb(body)
        return answer

    async def closed(self) -> None:
        """Wait until the server has closed the connection."""
        async with asyncio.timeout(DEADLINE_S):
            with contextlib.suppress(ConnectionError):
                while await self.reader.read(1 << 20):
                    pass

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something is so that nobody signals."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0)


def frame(type_: int, body: bytes) -> bytes:
    return struct.pack(">IB", len(body) + 1, type_) + body


@contextlib.asynccontextmanager
async def serving(limits: Limits | None = None) -> AsyncIterator[Port]:
    port = Port(limits or Limits())
    port.address = await port.server.start("127.0.0.1", 0)
    try:
        yield port
    finally:
        await port.server.stop()


async def test_frames_are_answered_on_one_connection_however_they_are_cut() -> None:
    async with serving() as port:
        client = await port.connect()
        data = b"".join(frame(0x05, b"%d" % number) for number in range(100))
        for start in range(0, len(data), 7):
            client.send(data[start : start + 7])
            await asyncio.sleep(0)
        assert [await client.frame() for _ in range(100)] == [
            (0x05, b"%d" % number) for number in range(100)
        ]
        await client.close()


async def test_pipelined_answers_leave_in_one_write() -> None:
    async with serving() as port:
        client = await port.connect()
        [session] = port.echo.sessions
        writes: list[int] = []
        whole = session.wire.write

        def write(data: bytes) -> None:
            writes.append(len(data))
            whole(data)

        session.wire.write = write  # type: ignore[method-assign] # counts the writes
        client.send(frame(0x05, b"x") * 50)
        for _ in range(50):
            await client.frame()
        assert len(writes) == 1
        await client.close()


async def test_a_big_frame_before_hello_is_refused_and_others_go_on() -> None:
    async with serving() as port:
        good = await port.connect()
        stranger = await port.connect(hello=False)
        stranger.send(struct.pack(">IB", 4097, Type.HELLO))
        assert (await stranger.nack())[1] == "TOO_LARGE"
        await stranger.closed()

        good.send(frame(0x05, b"x" * 100_000))
        assert (await good.frame())[0] == 0x05
        await good.close()
        await stranger.close()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (struct.pack(">IB", 16 * 1024 * 1024 + 1, 5), "TOO_LARGE"),
        (b"\xff\xff\xff\xff\x05", "TOO_LARGE"),
        (b"\x00\x00\x00\x00\x05", "MALFORMED"),
    ],
)
async def test_a_length_that_cannot_be_ends_its_connection_after_what_came_before(
    data: bytes, code: str
) -> None:
    async with serving() as port:
        good, bad = await port.connect(), await port.connect()
        bad.send(frame(0x05, b"before") + data + frame(0x05, b"after"))
        assert await bad.frame() == (0x05, b"before")
        assert (await bad.nack())[1] == code
        await bad.closed()
        assert (0x05, b"after") not in port.echo.seen

        good.send(frame(0x05, b"x"))
        assert await good.frame() == (0x05, b"x")
        await good.close()
        await bad.close()


async def test_one_connection_too_many_is_told_and_closed_and_a_place_becomes_free() -> None:
    async with serving(Limits(connections_max=2)) as port:
        one, two = await port.connect(), await port.connect()
        three = await port.connect(hello=False)
        assert (await three.nack())[1] == "TOO_MANY_CONNECTIONS"
        await three.closed()
        assert port.server.connections == 2

        await one.close()
        await port.echo.until(lambda: port.server.connections == 1)
        four = await port.connect()
        for client in (two, three, four):
            await client.close()


async def test_who_does_not_say_hello_in_time_is_closed() -> None:
    async with serving() as port:
        silent = await port.connect(hello=False)
        await port.echo.until(lambda: port.server.connections == 1)
        port.pass_s(29.0)
        assert port.server.connections == 1
        port.pass_s(1.5)
        await silent.closed()
        await silent.close()


async def test_an_idle_connection_is_closed_and_any_frame_keeps_it() -> None:
    async with serving() as port:
        client = await port.connect()
        for _ in range(3):
            port.pass_s(29.0)
            client.send(frame(0x04, b"beat"))
            await client.frame()
        port.pass_s(31.0)
        await client.closed()
        await client.close()


async def test_a_whole_frame_has_its_own_time_to_arrive() -> None:
    async with serving() as port:
        client = await port.connect()
        [session] = port.echo.sessions
        port.pass_s(29.0)
        client.send(frame(0x05, b"x" * 100_000)[:50_000])
        connection = next(iter(port.server._connections))
        await until(lambda: connection._decoder.held_bytes > 0)
        port.pass_s(29.0)
        assert connection._closing_s is None, "it began to arrive a moment ago"
        await asyncio.sleep(0)
        assert not session.closed
        port.pass_s(2.0)
        await client.closed()
        await port.echo.until(lambda: session.closed)
        await client.close()


async def test_a_client_that_never_reads_is_no_longer_read_and_then_aborted() -> None:
    async with serving(Limits(unread_max_bytes=64 * 1024 * 1024)) as port:
        client, good = await port.connect(), await port.connect()
        session = port.echo.sessions[0]
        client.writer.transport.pause_reading()  # type: ignore[attr-defined] # a read transport
        connection = next(one for one in port.server._connections if one._session is session)
        for _ in range(3):
            client.send(frame(0x7E, b"flood"))
        await until(lambda: not connection._reading)
        for _ in range(40):
            port.pass_s(1.0)
            good.send(frame(0x04, b"beat"))
            await good.frame()
        await port.echo.until(lambda: session.closed)
        await good.close()
        await client.close()


async def test_long_answers_are_made_as_the_client_reads_them() -> None:
    async with serving() as port:
        raw = await port.connect()
        for _ in range(50):
            raw.send(frame(0x7D, b""))
        raw.send(frame(0x01, b"last"))
        await port.echo.until(lambda: len(port.echo.seen) >= 40)
        [session] = port.echo.sessions
        await until(lambda: session.stuck)
        assert len(session._waiting) >= 40 - 2, "no more than fits was made"
        for _ in range(50):
            kind, body = await raw.frame()
            while kind != 0x7D:
                kind, body = await raw.frame()
            assert len(body) == 4 * 1024 * 1024
        assert not session._waiting
        await raw.close()


async def test_more_unread_than_the_bound_aborts_at_once() -> None:
    async with serving(Limits(unread_max_bytes=8 * 1024 * 1024)) as port:
        client = await port.connect()
        [session] = port.echo.sessions
        client.writer.transport.pause_reading()  # type: ignore[attr-defined] # a read transport
        client.send(frame(0x7E, b"flood") * 20)
        await port.echo.until(lambda: session.closed)
        await client.close()


async def test_a_paused_session_is_not_read_and_not_called_idle() -> None:
    async with serving(Limits(in_flight_max=1)) as port:
        client = await port.connect()
        [session] = port.echo.sessions
        session.begin(10)
        client.send(frame(0x05, b"later"))
        port.pass_s(100.0)
        assert (0x05, b"later") not in port.echo.seen
        session.settle(10)
        assert await client.frame() == (0x05, b"later")
        await client.close()


async def test_stopping_writes_what_is_left_and_closes() -> None:
    async with serving() as port:
        client = await port.connect()
        port.echo.sessions[0].send(frame(0x05, b"last"))
        await port.server.stop()
        assert await client.frame() == (0x05, b"last")
        await client.closed()
        assert port.server.connections == 0
        await client.close()


class Transport(asyncio.Transport):
    """Notes when it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        del high, low

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        del data

    def pause_reading(self) -> None:
        self.said.append("pause")

    def resume_reading(self) -> None:
        self.said.append("resume")


async def test_who_sends_much_at_once_lets_the_others_have_their_turn() -> None:
    async with serving() as port:
        connection, transport = Connection(port.server), Transport()
        connection.connection_made(transport)
        connection.data_received(frame(Type.HELLO, b"hi"))
        connection.data_received(frame(0x10, b"x" * (TURN_BYTES - 100)))
        assert transport.said == []
        connection.data_received(frame(0x10, b"x" * 100))
        connection.data_received(frame(0x10, b"what was read already is taken all the same"))
        assert transport.said == ["pause"]
        await until(lambda: transport.said == ["pause", "resume"])
        assert len(port.echo.seen) == 4
        connection.connection_lost(None)


async def test_a_port_in_use_is_an_error() -> None:
    async with serving() as port:
        other = ClientServer(Echo(), limits=Limits(), now_s=port.clock.now_s)
        with pytest.raises(OSError, match="in use"):
            await other.start(*port.address)


async def test_clocks_are_looked_after_again_after_a_look_that_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[float] = []

    def refuse(_server: ClientServer, now_s: float) -> None:
        looks.append(now_s)
        raise MemoryError

    monkeypatch.setattr(tcp, "SWEEP_S", 0.0)
    monkeypatch.setattr(ClientServer, "sweep", refuse)
    async with serving():
        await until(lambda: len(looks) > 1)
