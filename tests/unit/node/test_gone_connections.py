"""What is left of a connection when it has closed: nothing, without a garbage collection."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from node.session import Session
from node.tcp import Connection
from tests.unit.node.test_tcp import frame, serving, until


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Answer:
    """Makes an answer, and holds on to its session as those of a node do."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def __call__(self) -> None:
        raise AssertionError("the client has not read")


def held_bytes(there: weakref.ref[Connection]) -> int:
    connection = there()
    return 0 if connection is None else connection._decoder.held_bytes


async def test_a_connection_that_broke_within_a_frame_leaves_nothing() -> None:
    async with serving() as port:
        client = await port.connect()
        [session] = port.echo.sessions
        [connection] = port.server._connections
        client.send(frame(0x05, bytes(8 * 1024 * 1024))[: 4 * 1024 * 1024])
        there = weakref.ref(connection)
        del connection
        await until(lambda: held_bytes(there) > 1024 * 1024)
        client.writer.transport.abort()
        await port.echo.until(lambda: session.closed)
        await until(lambda: there() is None)


async def test_a_connection_that_somebody_still_holds_keeps_no_part_of_a_frame() -> None:
    async with serving() as port:
        client = await port.connect()
        [session] = port.echo.sessions
        [connection] = port.server._connections
        client.send(frame(0x05, bytes(8 * 1024 * 1024))[: 4 * 1024 * 1024])
        await until(lambda: connection._decoder.held_bytes > 1024 * 1024)
        client.writer.transport.abort()
        await port.echo.until(lambda: session.closed)
        assert connection._decoder.held_bytes == 0


async def test_answers_that_nobody_will_read_are_let_go_with_the_connection() -> None:
    async with serving() as port:
        client = await port.connect()
        [session] = port.echo.sessions
        session.stuck = True
        answer = Answer(session)
        session.when_room(answer)
        waiting = weakref.ref(answer)
        del answer
        session.send(b"x" * 1000)
        client.writer.transport.abort()
        await port.echo.until(lambda: session.closed)
        await until(lambda: waiting() is None)
        assert session.has_room, "what is made for it later waits for nobody"
        session.begin(100_000_000)
        session.send(b"late")
        session.settle(100_000_000)
