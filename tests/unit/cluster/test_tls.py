"""Mutual TLS between nodes: the right node gets in, everyone else is told why not."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from cluster.certificates import read_facts
from cluster.handshake import Kind
from cluster.link import Limits
from cluster.messages import AppendEntries, TimeoutNow
from cluster.tls import PeerTls, TlsFiles, today
from cluster.transport import Address, PeerTransport
from cluster.wire import encode
from tests.support.authority import Authority
from tests.support.peer_raw import DEADLINE_S, Handler, RawPeer, hello_of, make_transport
from tests.support.ports import free_ports

Start = Callable[..., Coroutine[Any, Any, PeerTransport]]
QUICK = Limits(redial_min_s=0.01, redial_max_s=0.05, handshake_s=3600.0)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "another-ca")


@pytest.fixture
def addresses() -> dict[int, Address]:
    return {n + 1: ("127.0.0.1", port) for n, port in enumerate(free_ports(3))}


@pytest.fixture
async def start(addresses: dict[int, Address], authority: Authority) -> AsyncIterator[Start]:
    """Start transports with their certificates; the test's end stops them."""
    started: list[PeerTransport] = []

    async def start_one(handler: Handler, **options: Any) -> PeerTransport:
        options.setdefault("limits", QUICK)
        if "tls" not in options:
            options["tls"] = authority.tls(handler.node_id)
        transport = make_transport(handler, options.pop("given", addresses), **options)
        started.append(transport)
        await transport.start()
        return transport

    yield start_one
    for transport in reversed(started):  # who dials first: nobody meets a server that is closing
        await transport.stop()


async def until(condition: Callable[[], object], what: str) -> None:
    """Look at each turn of the loop: neither counts nor logs have a signal."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                await asyncio.sleep(0)
    except TimeoutError:
        raise AssertionError(f"never came: {what}") from None


# ------------------------------------------------------------------------------ good ones


async def _talk(authority: Authority, addresses: dict[int, Address]) -> None:
    handlers = {n: Handler(n) for n in (1, 2, 3)}
    transports = {
        n: make_transport(handlers[n], addresses, tls=authority.tls(n)) for n in (1, 2, 3)
    }
    for transport in transports.values():
        await transport.start()
    large = AppendEntries(1, 1, 0, 0, 0, [(os.urandom(5_000_000), 1)])
    pairs = [(a, b) for a in handlers for b in handlers if a != b]
    for a, b in pairs:
        await handlers[a].until("connected", b)
    for a, b in pairs:
        for term in range(20):
            transports[a].send(b, TimeoutNow(a * 100 + term))
        transports[a].send(b, large)
    for a, b in pairs:
        await handlers[b].until("received", a, large)
        got = [what[2] for what in handlers[b].heard if what[:2] == ("received", a)]
        assert got == [*(TimeoutNow(a * 100 + term) for term in range(20)), large]
    assert [dict(transport.refusal_counts) for transport in transports.values()] == [{}, {}, {}]
    for transport in transports.values():
        await transport.stop()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_nodes_with_certificates_of_one_authority_talk(
    run: Any, authority: Authority, addresses: dict[int, Address]
) -> None:
    run(_talk(authority, addresses))


async def test_what_is_said_cannot_be_read_on_the_way(
    start: Start, addresses: dict[int, Address]
) -> None:
    seen = bytearray()
    port = free_ports(1)[0]

    async def eavesdrop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs = await asyncio.open_connection(*addresses[1])

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(65536):
                    seen.extend(data)
                    sink.write(data)
            sink.close()

        await asyncio.gather(pump(reader, theirs[1]), pump(theirs[0], writer))

    server = await asyncio.start_server(eavesdrop, "127.0.0.1", port)
    one, two = Handler(1), Handler(2)
    await start(one)
    transport = await start(two, given={**addresses, 1: ("127.0.0.1", port)})
    await two.until("connected", 1)
    message = AppendEntries(1, 1, 0, 0, 0, [(b"a secret of some length", 1)])
    transport.send(1, message)
    await one.until("received", 2, message)
    assert b"a secret of some length" not in seen
    assert b"client-2" not in seen
    assert len(seen) > 1000
    await transport.stop()
    server.close()


async def test_addresses_beyond_loopback_are_allowed_with_certificates(
    start: Start, addresses: dict[int, Address]
) -> None:
    far = {**addresses, 1: ("192.0.2.1", 7400)}
    await start(Handler(2), given=far)


# ------------------------------------------------------------------------------- bad ones

Attack = Callable[[Address, Authority, Authority], Coroutine[Any, Any, None]]


async def plain_tcp(address: Address, ours: Authority, theirs: Authority) -> None:
    peer = await RawPeer.dial(address)
    await peer.say(*hello_of(3, 1).to_list())
    await peer.reader.read()
    peer.close()


async def _come(address: Address, context: ssl.SSLContext, node_id: int = 3) -> None:
    """Dial with TLS and say hello; whatever the other side does about it."""
    with contextlib.suppress(OSError, ssl.SSLError):
        peer = await RawPeer.dial(address, context)
        peer.writer.write(encode(hello_of(node_id, 1).to_list()))
        await peer.reader.read()
        peer.close()


async def wrong_authority(address: Address, ours: Authority, theirs: Authority) -> None:
    await _come(address, theirs.client(theirs.files(3)))


async def another_id(address: Address, ours: Authority, theirs: Authority) -> None:
    await _come(address, ours.client(ours.files(2)))


async def expired(address: Address, ours: Authority, theirs: Authority) -> None:
    await _come(address, ours.client(ours.files(3, age_days=20, days=10)))


async def no_certificate(address: Address, ours: Authority, theirs: Authority) -> None:
    await _come(address, ours.client(None))


async def the_authority_itself(address: Address, ours: Authority, theirs: Authority) -> None:
    files = TlsFiles(ours.ca, ours.ca, ours.ca.with_suffix(".key"))
    await _come(address, ours.client(files))


async def old_version(address: Address, ours: Authority, theirs: Authority) -> None:
    context = ours.client(ours.files(3))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    await _come(address, context)


async def garbage(address: Address, ours: Authority, theirs: Authority) -> None:
    peer = await RawPeer.dial(address)
    peer.writer.write(b"\x16\x03\x01\x00\x20" + bytes(32))
    await peer.reader.read()
    peer.close()


@pytest.mark.parametrize(
    ("attack", "reason", "text"),
    [
        (plain_tcp, "tls", "127.0.0.1 does not speak TLS: set raft.tls on every node"),
        (wrong_authority, "certificate", "shows a certificate that no authority in"),
        (another_id, "certificate", "says it is node 3 and shows the certificate of node 2"),
        (expired, "certificate", "shows a certificate that has expired"),
        (no_certificate, "certificate", "shows no certificate"),
        (the_authority_itself, "certificate", "shows a certificate that is not valid"),
        (old_version, "tls", "speaks broken TLS: UNSUPPORTED_PROTOCOL"),
        (garbage, "tls", "speaks broken TLS"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_whoever_has_not_the_right_certificate_is_refused_with_one_reason(
    start: Start,
    addresses: dict[int, Address],
    authority: Authority,
    stranger: Authority,
    caplog: pytest.LogCaptureFixture,
    attack: Attack,
    reason: str,
    text: str,
) -> None:
    one = Handler(1)
    transport = await start(one)
    friend = await RawPeer.join(addresses[1], hello_of(2, 1), authority.client(authority.files(2)))
    await one.until("connected", 2)
    for _ in range(3):
        await attack(addresses[1], authority, stranger)
    await until(lambda: transport.refusal_counts[reason] == 3, f"three refusals: {reason}")
    assert dict(transport.refusal_counts) == {reason: 3}
    said = [line for line in caplog.messages if text in line]
    assert len(said) == 1, caplog.text
    assert len(caplog.messages) == 1, caplog.text
    await friend.say(int(Kind.MESSAGE), TimeoutNow(4).to_list())
    await one.until("received", 2, TimeoutNow(4))
    assert one.heard == [("connected", 2), ("received", 2, TimeoutNow(4))]
    friend.close()


async def test_a_handshake_that_never_ends_is_ended(
    start: Start, addresses: dict[int, Address], caplog: pytest.LogCaptureFixture
) -> None:
    one = Handler(1)
    transport = await start(one, limits=Limits(handshake_s=0.05))
    silent = await RawPeer.dial(addresses[1])
    slow = await RawPeer.dial(addresses[1])
    slow.writer.write(b"\x16\x03\x01\x02\x00\x01")
    await silent.reader.read()
    await slow.reader.read()
    assert dict(transport.refusal_counts) == {"timeout": 2}
    assert "the handshake took too long" in caplog.text
    silent.close()
    slow.close()


async def test_strangers_in_a_tls_handshake_are_counted_like_others(
    start: Start, addresses: dict[int, Address]
) -> None:
    limits = Limits(strangers_max=2, handshake_s=3600.0)
    transport = await start(Handler(1), limits=limits)
    waiting = [await RawPeer.dial(addresses[1]) for _ in range(3)]
    await until(lambda: transport.refusal_counts["crowded"] == 1, "a refusal")
    for peer in waiting:
        peer.close()


async def test_a_node_with_tls_and_one_without_say_so_on_both_sides(
    start: Start, addresses: dict[int, Address], caplog: pytest.LogCaptureFixture
) -> None:
    one, two, three = Handler(1), Handler(2), Handler(3)
    transports = [await start(one), await start(two, tls=None), await start(three)]
    await until(lambda: all(t.refusal_counts["tls"] for t in transports), "three refusals")
    await until(lambda: transports[1].refusal_counts["by_peer"], "the answer to node 2")
    host = "127.0.0.1"
    # Node 2 dials node 1 in the clear; node 3 dials node 2 with TLS.
    assert f"{host} does not speak TLS" in caplog.text
    assert f"{host}:{addresses[1][1]} refused: this node speaks TLS" in caplog.text
    assert f"{host} speaks TLS, this node does not" in caplog.text
    assert f"{host}:{addresses[2][1]} broke the TLS handshake off" in caplog.text
    await one.until("connected", 3)
    assert {what[0] for what in two.heard} == {"refused by"}


@pytest.mark.parametrize(
    ("files", "reason", "text"),
    [
        ("stranger", "certificate", "shows a certificate that no authority in"),
        ("node 3", "certificate", "has the certificate of node 3, not of node 1"),
        ("expired", "certificate", "shows a certificate that has expired"),
    ],
)
async def test_a_dialled_node_proves_itself_before_it_hears_a_word(
    start: Start,
    addresses: dict[int, Address],
    authority: Authority,
    stranger: Authority,
    caplog: pytest.LogCaptureFixture,
    files: str,
    reason: str,
    text: str,
) -> None:
    shown = {
        "stranger": lambda: stranger.files(1),
        "node 3": lambda: authority.files(3),
        "expired": lambda: authority.files(1, age_days=20, days=10),
    }[files]()
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            heard.append(await reader.read())
        writer.close()

    server = await asyncio.start_server(listen, *addresses[1], ssl=authority.server(shown))
    two = Handler(2)
    transport = await start(two, given={n: addresses[n] for n in (1, 2)})
    await until(lambda: transport.refusal_counts[reason] >= 2, "refusals")
    assert text in caplog.text
    assert b"".join(heard) == b""
    assert two.heard == []
    await transport.stop()
    server.close()


async def test_a_refused_node_says_which_of_its_files_was_refused(
    start: Start,
    addresses: dict[int, Address],
    authority: Authority,
    stranger: Authority,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await start(Handler(1))
    mixed = stranger.files(2)._replace(ca=authority.ca)
    transport = await start(Handler(2), tls=PeerTls(2, mixed, now=today()))
    await until(lambda: transport.refusal_counts["by_peer"], "the answer")
    assert f"refuses this node's certificate {mixed.certificate}" in caplog.text

    late = authority.files(3, age_days=20, days=10)
    earlier = today() - datetime.timedelta(days=15)
    transport = await start(Handler(3), tls=PeerTls(3, late, now=earlier))
    await until(lambda: transport.refusal_counts["by_peer"], "the answer")
    ends = read_facts(late.certificate).ends
    assert f"{late.certificate}: it has expired; it was good until {ends:%Y-%m-%d}" in caplog.text
