"""How what a client sends comes to a node: in segments, in order, whole or cut off at its end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

from tests.simulation import links
from tests.simulation.links import ClientLink
from tests.simulation.options import Options
from tests.simulation.world import World


class Port:
    """The node's side: notes what it is handed, and when."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.came: list[tuple[float, bytes]] = []
        self.is_lost = False

    def connection_made(self, _transport: object) -> None:
        pass

    def data_received(self, data: bytes) -> None:
        self.came.append((self.world.now, data))

    def connection_lost(self, _error: object) -> None:
        self.is_lost = True


class Nobody:
    """A client that hears nothing."""

    def opened(self, link: ClientLink) -> None:
        pass

    def came(self, message_type: int, body: bytes) -> None:
        pass

    def closed(self) -> None:
        pass


@pytest.fixture
def world() -> World:
    world = World(1, Options(nodes=1, kinds=()))
    world.nodes[1].start()
    world.run_until(world.now + 2.0)
    return world


@pytest.fixture
def never_split() -> Iterator[None]:
    with mock.patch.object(links, "_SPLIT", 0.0):
        yield


def connected(world: World) -> tuple[ClientLink, Port]:
    node = world.nodes[1]
    assert node.process is not None
    link = ClientLink(world, node, node.process, Nobody())
    port: Any = Port(world)
    link.connection = port
    world.run_until(world.now + 0.1)
    return link, port


def busy(world: World, turn_s: float) -> World:
    object.__setattr__(world.options, "turn_s", turn_s)
    return world


@pytest.mark.usefixtures("never_split")
def test_what_is_sent_at_one_instant_comes_as_one_segment(world: World) -> None:
    link, port = connected(world)
    link.send(b"one")
    link.send(b"two")
    world.run_until(world.now + 0.1)
    link.send(b"three")
    world.run_until(world.now + 0.1)
    assert [data for _, data in port.came] == [b"onetwo", b"three"]


def test_segments_in_pieces_lose_nothing_and_keep_their_order(world: World) -> None:
    with mock.patch.object(links, "_SPLIT", 1.0):
        link, port = connected(world)
        sent = [b"%03d" % number for number in range(200)]
        for frame in sent:
            link.send(frame)
            world.run_until(world.now + 0.0004)
        link.close()
        world.run_until(world.now + 1.0)
    assert b"".join(data for _, data in port.came) == b"".join(sent)
    assert any(len(data) % 3 for _, data in port.came)
    assert port.is_lost


@pytest.mark.usefixtures("never_split")
def test_a_cut_loses_what_was_sent_last_and_nothing_before_it(world: World) -> None:
    link, port = connected(world)
    link.send(b"first")
    world.run_until(world.now + 0.1)
    link.send(b"second")
    link.send(b"third")
    link.cut()
    world.run_until(world.now + 5.0)
    assert [data for _, data in port.came] == [b"first"]


@pytest.mark.usefixtures("never_split")
def test_a_busy_node_reads_all_its_clients_in_one_turn(world: World) -> None:
    busy(world, 0.02)
    pairs = [connected(world) for _ in range(3)]
    world.run_until(round(world.now + 1.0))
    for number, (link, _) in enumerate(pairs):
        link.send(b"%d" % number)
    world.run_until(world.now + 0.1)
    times = [at for _, port in pairs for at, _ in port.came]
    assert len(times) == 3
    assert len(set(times)) == 1
    assert not world.nodes[1].arrivals
