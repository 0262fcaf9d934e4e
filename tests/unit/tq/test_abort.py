"""What a connection that is given up leaves behind: nothing that would arrive later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import uvloop

from tests.support.authority import Authority
from tests.support.fake_server import FakeNode, FakePeer
from tq.client import Client
from tq.connection import Connection
from tq.protocol import Type

HOST = "127.0.0.1"

NewLoop = Callable[[], asyncio.AbstractEventLoop]


class Peer(FakePeer):
    """A peer that tells how its connection ended."""

    def __init__(self, node: FakeNode, ended: asyncio.Future[Exception | None]) -> None:
        super().__init__(node)
        self._ended = ended

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._ended.set_result(exc)


async def how_it_ends(directory: Path, *, over_tls: bool, close: bool) -> Exception | None:
    """End a connection over real sockets; return what the node hears of it."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Exception | None] = loop.create_future()
    node = FakeNode(HOST)
    authority = Authority(directory)
    server = await loop.create_server(
        lambda: Peer(node, ended),
        HOST,
        0,
        ssl=authority.server(authority.files(1)) if over_tls else None,
    )
    port = server.sockets[0].getsockname()[1]

    async def dial(_: str, protocol: asyncio.Protocol) -> None:
        tls = authority.client(None) if over_tls else None
        await loop.create_connection(lambda: protocol, HOST, port, ssl=tls)

    connection = Connection(HOST, receive=lambda *_: None, lost=lambda *_: None)
    async with server, asyncio.timeout(10):
        await connection.open(dial, name="test", options={})
        if close:
            connection.close()
        connection.abort("given up")
        await connection.wait_closed()
        return await ended


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("over_tls", [False, True], ids=["clear", "tls"])
def test_the_kernel_sends_nothing_more_of_a_connection_that_is_given_up(
    tmp_path: Path, new_loop: NewLoop, *, over_tls: bool
) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        exc = runner.run(how_it_ends(tmp_path, over_tls=over_tls, close=False))
    assert isinstance(exc, ConnectionResetError), "it ends in good order, after all that was sent"


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_one_that_is_being_closed_may_be_given_up(tmp_path: Path, new_loop: NewLoop) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(how_it_ends(tmp_path, over_tls=False, close=True)) is None


async def what_a_deposed_leader_hears(*, answers_all: bool) -> Exception | None:
    """Be sent to another leader by the first of two answers; return how the old one is left."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Exception | None] = loop.create_future()
    old, new = FakeNode(HOST), FakeNode(HOST)
    async with asyncio.timeout(10), AsyncExitStack() as stack:
        server = await loop.create_server(lambda: Peer(old, ended), HOST, 0)
        await stack.enter_async_context(server)
        other = await new.listen(0)
        await stack.enter_async_context(other)
        old.leader, new.leader = (
            f"{HOST}:{one.sockets[0].getsockname()[1]}" for one in (server, other)
        )
        new.on(Type.SUBMIT_TASK, lambda request: request.ack(1))
        client = await stack.enter_async_context(Client(old.leader))
        calls = [asyncio.create_task(client.submit("echo")) for _ in range(2)]
        first, second = [await old.next(Type.SUBMIT_TASK) for _ in calls]
        if answers_all:
            second.ack(1)
        first.redirect(new.leader)
        await asyncio.gather(*calls)
        return await ended


def test_a_node_with_unanswered_requests_is_left_so_that_none_of_them_arrives_late() -> None:
    exc = asyncio.run(what_a_deposed_leader_hears(answers_all=False))
    assert isinstance(exc, ConnectionResetError)


def test_a_node_that_has_answered_everything_is_left_in_good_order() -> None:
    assert asyncio.run(what_a_deposed_leader_hears(answers_all=True)) is None
