"""The proxy does to bytes what it is told, and nothing else."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from chaos.links import CLIENTS, DROP, PASS, Link, Policy, between, both
from chaos.proxies import Proxies, ProxyError
from chaos.proxy import Proxy
from tests.support.ports import free_ports

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Node:
    """What a link leads to: it keeps what it is sent, and says what it is told to say."""

    def __init__(self) -> None:
        self.connections: asyncio.Queue[Streams] = asyncio.Queue()

    @asynccontextmanager
    async def listening(self, port: int) -> AsyncIterator[None]:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self.connections.put((reader, writer))

        async with await asyncio.start_server(accept, "127.0.0.1", port):
            yield


class Pair:
    """Nodes 1 and 2, and two links by which 1 reaches 2; the other one is a client's."""

    def __init__(self, seed: int = 7) -> None:
        self.proxy = Proxy(seed)
        self.node = Node()
        self.ports = free_ports(3)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Pair:
        upstream, peer, door = self.ports
        await self._stack.enter_async_context(self.node.listening(upstream))
        links = [Link(1, 2, peer, upstream), Link(CLIENTS, 2, door, upstream)]
        await self.proxy.obey({"do": "open", "links": [list(link) for link in links]})
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.proxy.obey({"do": "shut", "links": [[1, 2], [CLIENTS, 2]]})
        await self._stack.aclose()

    async def set(self, ways: list[tuple[int, int]], policy: Policy) -> None:
        await self.proxy.obey({"do": "set", "ways": ways, "policy": policy.to_dict()})

    async def dial(self, port: int) -> Streams:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        self._stack.callback(writer.close)
        return reader, writer

    async def connect(self, *, client: bool = False) -> tuple[Streams, Streams]:
        """Return both ends of a connection: the dialler's, and the node's."""
        near = await self.dial(self.ports[2] if client else self.ports[1])
        return near, await self.arrived()

    async def arrived(self) -> Streams:
        far = await self.node.connections.get()
        self._stack.callback(far[1].close)
        return far

    async def others_get_through(self) -> None:
        """Return after a client was answered: what was to come before has come."""
        (reader, writer), far = await self.connect(client=True)
        await carry(writer, far[0], b"question")
        await carry(far[1], reader, b"answer")


async def carry(writer: asyncio.StreamWriter, reader: asyncio.StreamReader, data: bytes) -> None:
    writer.write(data)
    assert data == await reader.readexactly(len(data))


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    async with Pair() as made:
        yield made


async def test_bytes_pass_in_both_directions_and_the_end_does_too(pair: Pair) -> None:
    near, far = await pair.connect()
    await carry(near[1], far[0], b"x" * 500_000)
    await carry(far[1], near[0], b"y" * 500_000)
    near[1].close()
    assert b"" == await far[0].read()
    moved = (await pair.proxy.obey({"do": "stats"}))["bytes"]
    assert (500_000, 500_000) == (moved["1>2"], moved["2>1"])


async def test_what_is_dropped_arrives_when_packets_come_through_again(pair: Pair) -> None:
    near, far = await pair.connect()
    await carry(near[1], far[0], b"before")
    await pair.set(both(1, 2), DROP)
    near[1].write(b"meanwhile")
    await pair.others_get_through()
    assert 6 == (await pair.proxy.obey({"do": "stats"}))["bytes"]["1>2"]
    await pair.set(both(1, 2), PASS)
    assert b"meanwhile" == await far[0].readexactly(9)


async def test_no_connection_is_made_while_packets_are_dropped(pair: Pair) -> None:
    await pair.set([(2, 1)], DROP)
    near = await pair.dial(pair.ports[1])
    near[1].write(b"hello")
    await pair.others_get_through()
    assert pair.node.connections.empty()
    await pair.set([(2, 1)], PASS)
    far = await pair.arrived()
    assert b"hello" == await far[0].readexactly(5)


async def test_one_direction_can_be_cut_alone(pair: Pair) -> None:
    near, far = await pair.connect()
    await pair.set([(2, 1)], DROP)
    await carry(near[1], far[0], b"heard")
    far[1].write(b"not heard")
    await pair.others_get_through()
    moved = (await pair.proxy.obey({"do": "stats"}))["bytes"]
    assert (5, 0) == (moved["1>2"], moved["2>1"])


async def test_the_end_of_a_connection_is_not_noticed_through_a_cut(pair: Pair) -> None:
    near, far = await pair.connect()
    await carry(near[1], far[0], b"x")
    await pair.set(both(1, 2), DROP)
    near[1].transport.abort()
    await pair.others_get_through()
    assert not far[0].at_eof()
    assert far[0].exception() is None
    await pair.set(both(1, 2), PASS)
    assert b"" == await far[0].read()


async def test_a_delay_is_kept_and_the_order_as_well(pair: Pair) -> None:
    near, far = await pair.connect()
    await pair.set([(1, 2)], Policy("delay", 50, 100))
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number in range(5):
        near[1].write(b"%d" % number)
        await near[1].drain()
        await asyncio.wait({asyncio.create_task(pair.others_get_through())})
    assert b"01234" == await far[0].readexactly(5)
    assert loop.time() - began >= 0.05
    await pair.set([(1, 2)], PASS)
    await carry(near[1], far[0], b"at once")


async def test_what_is_still_on_its_way_is_held_by_a_cut(pair: Pair) -> None:
    near, far = await pair.connect()
    await pair.set([(1, 2)], Policy("delay", 60_000, 60_000))
    near[1].write(b"late")
    await pair.others_get_through()
    await pair.set([(1, 2)], DROP)
    assert 0 == (await pair.proxy.obey({"do": "stats"}))["bytes"]["1>2"]
    await pair.set([(1, 2)], PASS)
    assert b"late" == await far[0].readexactly(4)


async def test_bytes_drip_at_the_rate(pair: Pair) -> None:
    near, far = await pair.connect()
    await pair.set([(1, 2)], Policy("slow", rate=10_000))
    loop = asyncio.get_running_loop()
    began = loop.time()
    await carry(near[1], far[0], b"x" * 3_000)
    assert loop.time() - began >= 0.2


async def test_connections_are_refused_while_others_live_on(pair: Pair) -> None:
    near, far = await pair.connect()
    await pair.set(both(1, 2), Policy("refuse"))
    refused = await pair.dial(pair.ports[1])
    with pytest.raises(ConnectionResetError):
        await refused[0].readexactly(1)
    await carry(near[1], far[0], b"x")


async def test_a_reset_ends_both_sides(pair: Pair) -> None:
    near, far = await pair.connect()
    assert {"connections": 1} == await pair.proxy.obey({"do": "reset", "ways": [[2, 1]]})
    for reader, _ in (near, far):
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
    await pair.others_get_through()


async def test_a_half_open_connection_is_known_to_one_side_alone(pair: Pair) -> None:
    near, far = await pair.connect()
    await pair.proxy.obey({"do": "reset", "ways": [[1, 2]], "half": True})
    with pytest.raises(ConnectionResetError):
        await near[0].readexactly(1)
    far[1].write(b"is anybody there?")
    await pair.others_get_through()
    assert not far[0].at_eof()
    assert far[0].exception() is None


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ({"do": "sing"}, "no such command"),
        ({"do": "set", "ways": [], "policy": {"mode": "bend"}}, "no such mode"),
        ({"do": "set", "ways": [], "policy": {"mode": "slow"}}, "never arrive"),
        ({"do": "set", "ways": [], "policy": {"mode": "delay", "low_ms": 5}}, "5 to 0 ms"),
        ({"do": "set", "ways": [], "policy": {"mode": "pass", "x": 1}}, "unexpected keyword"),
    ],
)
async def test_a_command_that_makes_no_sense_is_refused(
    command: dict[str, object], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        await Proxy(0).obey(command)


def test_the_ways_between_two_groups_are_all_of_them_and_none_within() -> None:
    assert {(1, 2), (2, 1), (1, 3), (3, 1)} == set(between([1], [1, 2, 3]))


async def test_the_process_of_its_own_obeys_refuses_and_ends_with_its_owner(tmp_path: Path) -> None:
    node = Node()
    upstream, port, taken = free_ports(3)
    proxies = Proxies(tmp_path, seed=1)
    async with asyncio.timeout(60), node.listening(upstream), Node().listening(taken):
        await proxies.start([Link(1, 2, port, upstream)])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        far = await node.connections.get()
        await carry(writer, far[0], b"through another process")
        for _ in range(50):  # what is said before the other side is reached is not lost
            hasty = socket.create_connection(("127.0.0.1", port))
            hasty.sendall(b"at once")
            other = await node.connections.get()
            assert b"at once" == await other[0].readexactly(7)
            hasty.close()
            assert b"" == await other[0].read()
            other[1].close()
        with pytest.raises(ProxyError, match=r"'open'.*in use"):
            await proxies.open([Link(2, 1, taken, upstream)])
        await proxies.set([(1, 2)], DROP)
        await proxies.heal()
        await carry(writer, far[0], b"healed")
        await proxies.close()
        assert not proxies.process.running
        assert b"" == await reader.read()
        for end in (writer, far[1]):
            end.close()
