"""What the unmodified SyncObj takes from strangers and from its process: H6, H9k, P8, P10.

Each test asserts the defect; `docs/hazards.md` names the test of the fix beside it.
"""

from __future__ import annotations

import gzip
import pickle
import random
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pysyncobj import SyncObj, SyncObjConf, replicated, syncobj
from pysyncobj.tcp_connection import TcpConnection

from tests.support.ports import free_ports
from tests.support.sim_stock import Clock, StockNode, stock_clock

__all__ = ["stock_clock"]

_ran: list[str] = []


def _run(what: str) -> str:
    _ran.append(what)
    return what


class Payload:
    """Bytes that call a function where they are decoded."""

    def __reduce__(self) -> tuple[Callable[[str], str], tuple[str]]:
        return _run, ("as the node",)


class Stranger:
    """A socket that was never introduced, and the stock node it talks to."""

    def __init__(self, node: SyncObj, port: int) -> None:
        self.node = node
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self.socket.settimeout(0.02)

    def say(self, message: object) -> None:
        body = zlib.compress(pickle.dumps(message, protocol=2))
        self.socket.sendall(struct.pack("i", len(body)) + body)

    def hear(self, enough: Callable[[bytes], bool]) -> bytes:
        heard, deadline = b"", time.monotonic() + 20
        while not enough(heard):
            assert time.monotonic() < deadline, heard
            self.node.doTick(0.02)
            try:
                heard += self.socket.recv(65_536)
            except TimeoutError:
                continue
        return heard


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    port, other = free_ports(2)
    conf = SyncObjConf(autoTick=False, dynamicMembershipChange=True)
    node = SyncObj(f"127.0.0.1:{port}", [f"127.0.0.1:{other}"], conf=conf)
    guest = Stranger(node, port)
    try:
        yield guest
    finally:
        guest.socket.close()
        node.destroy()


def test_stock_runs_what_a_stranger_sends(stranger: Stranger) -> None:
    _ran.clear()
    stranger.say(Payload())
    stranger.hear(lambda _heard: bool(_ran))
    assert _ran == ["as the node"]


def test_stock_tells_a_stranger_its_state(stranger: Stranger) -> None:
    stranger.say(["status"])
    heard = stranger.hear(lambda heard: len(heard) > 4)
    assert b"raft_term" in zlib.decompress(heard[4:])


def test_stock_lets_a_stranger_change_the_members(stranger: Stranger) -> None:
    asked: list[object] = []
    stranger.node._applyCommand = lambda command, *_: asked.append(command)
    stranger.say(["add", "127.0.0.1:9"])
    stranger.hear(lambda _heard: bool(asked))
    assert b"127.0.0.1:9" in asked[0]  # type: ignore[operator]  # it is bytes


class NullPoller:
    """Watches nothing: the test fills the buffer itself."""

    def subscribe(self, *_arguments: object) -> None:
        return

    unsubscribe = subscribe


def _parse(data: bytes) -> tuple[Any, bytes]:
    """What a stock connection makes of its read buffer, and what it keeps of it."""
    connection = TcpConnection(NullPoller())
    connection._TcpConnection__readBuffer = data
    message = connection._TcpConnection__processParseMessage()
    return message, connection._TcpConnection__readBuffer


def test_stock_waits_for_a_frame_of_any_length() -> None:
    header = struct.pack("i", (1 << 31) - 1)
    message, kept = _parse(header + bytes(1000))
    assert message is None
    assert len(kept) == 1004  # and it would keep two gibibytes


def test_stock_inflates_whatever_it_is_sent() -> None:
    body = zlib.compress(pickle.dumps(bytes(32 << 20), protocol=4), 9)
    assert len(body) < 64 << 10
    message, _ = _parse(struct.pack("i", len(body)) + body)
    assert len(message) == 32 << 20


def test_stock_takes_a_negative_length_for_a_length() -> None:
    message, kept = _parse(struct.pack("i", -3) + b"x")
    assert message is None
    assert kept == b""  # closed by the error of decoding nothing; the length was never looked at


class Versioned(StockNode):
    """A stock node with two versions of one method."""

    @replicated(ver=0)
    def put(self) -> None:
        """The first version."""

    @replicated(ver=1)  # type: ignore[no-redef]
    def put(self) -> None:  # noqa: F811  # one name, two versions
        """The second version."""


def test_stock_goes_back_to_the_first_version_with_each_snapshot(stock_clock: Clock) -> None:
    node = Versioned(stock_clock)
    node._SyncObj__onSetCodeVersion(1)
    assert node._getFuncName("put") == "put_v1"
    before, last = (b"\x00x", 3, 1), (b"\x00y", 4, 1)
    snapshot = gzip.compress(pickle.dumps(({}, last, before, set()), protocol=2))
    node.receive(
        2, type="append_entries", term=1, commit_index=4, serialized=(snapshot, True, True)
    )
    assert node._getFuncName("put") == "put_v0"


def test_stock_draws_its_waits_from_everybodys_chance(
    stock_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[float] = []
    monkeypatch.setattr(random, "random", lambda: drawn.append(0.5) or 0.5)  # type: ignore[func-returns-value]
    node = StockNode(stock_clock)
    assert drawn
    assert type(node._SyncObj__otherNodes) is set  # and asks its peers in the order of a set
    assert syncobj.SyncObj is not StockNode
