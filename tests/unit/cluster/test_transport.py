"""Peer connections: one per pair, only among the right nodes, bounded, honest about loss."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from cluster import transport as transport_module
from cluster.faults import AddressError
from cluster.handshake import Hello, Kind, Refused, Standing
from cluster.identity import BootstrapState
from cluster.link import Limits
from cluster.messages import AppendEntries, TimeoutNow, VoteReply
from cluster.transport import Address, PeerTransport, is_loopback
from cluster.wire import encode
from tests.support.peer_raw import CLUSTER, DEADLINE_S, Handler, RawPeer, hello_of, make_transport
from tests.support.ports import free_ports

Start = Callable[..., Any]


@pytest.fixture
def addresses() -> dict[int, Address]:
    return {n + 1: ("127.0.0.1", port) for n, port in enumerate(free_ports(3))}


@pytest.fixture
async def start(addresses: dict[int, Address]) -> AsyncIterator[Start]:
    """Start transports that the test's end stops."""
    started: list[PeerTransport] = []

    async def start_one(
        handler: Handler, given: dict[int, Address] | None = None, **options: Any
    ) -> PeerTransport:
        transport = make_transport(handler, given or addresses, **options)
        started.append(transport)
        await transport.start()
        return transport

    yield start_one
    for transport in reversed(started):  # who dials first: nobody meets a server that is closing
        await transport.stop()


async def until_logged(caplog: pytest.LogCaptureFixture, text: str) -> None:
    """Wait until a warning was logged; the log has no signal, so each turn looks."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            while text not in caplog.text:
                await asyncio.sleep(0)
    except TimeoutError:
        raise AssertionError(f"never logged {text!r}, but\n{caplog.text}") from None


async def test_every_pair_has_one_connection_and_keeps_the_order(start: Start) -> None:
    handlers = {n: Handler(n) for n in (1, 2, 3)}
    transports = {n: await start(handlers[n]) for n in (2, 3, 1)}
    pairs = [(a, b) for a in handlers for b in handlers if a != b]
    for a, b in pairs:
        await handlers[a].until("connected", b)
    for a, b in pairs:
        for term in range(20):
            transports[a].send(b, TimeoutNow(a * 100 + term))
    for a, b in pairs:
        await handlers[b].until("received", a, TimeoutNow(a * 100 + 19))
        terms = [what[2].term for what in handlers[b].heard if what[:2] == ("received", a)]
        assert terms == [a * 100 + term for term in range(20)]
    for a, b in pairs:
        assert handlers[a].heard.count(("connected", b)) == 1
        assert transports[a].epoch(b) == 1


async def test_one_message_to_several_peers_is_encoded_once(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers = {n: Handler(n) for n in (1, 2, 3)}
    transports = {n: await start(handlers[n]) for n in (1, 2, 3)}
    await handlers[1].until("connected", 2)
    await handlers[1].until("connected", 3)
    encoded: list[object] = []

    def counting(fields: list[object], *rest: int) -> bytes:
        encoded.append(fields)
        return encode(fields, *rest)

    monkeypatch.setattr(transport_module, "encode", counting)
    message = VoteReply(7, True)
    transports[1].send(2, message)
    transports[1].send(3, message)
    transports[1].send(2, VoteReply(8, True))
    await handlers[3].until("received", 1, message)
    await handlers[2].until("received", 1, VoteReply(8, True))
    assert handlers[2].messages() == [message, VoteReply(8, True)]
    assert len(encoded) == 2


async def test_losing_a_peer_is_reported_at_once_and_repaired(start: Start) -> None:
    one, two = Handler(1), Handler(2)
    first = await start(one)
    second = await start(two)
    await one.until("connected", 2)
    second.abort()
    await one.until("disconnected", 2)
    assert first.epoch(2) == 0
    first.send(2, TimeoutNow(1))  # lost, not kept for the next connection
    two.heard.clear()
    await start(two)
    await one.until("connected", 2, times=2)
    assert first.epoch(2) == 2
    first.send(2, TimeoutNow(2))
    await two.until("received", 1, TimeoutNow(2))
    assert two.messages() == [TimeoutNow(2)]


async def test_a_new_connection_ends_the_old_and_what_it_still_brings(
    start: Start, addresses: dict[int, Address]
) -> None:
    one = Handler(1)
    transport = await start(one)
    old = await RawPeer.join(addresses[1], hello_of(3, 1))
    await one.until("connected", 3)
    new = await RawPeer.join(addresses[1], hello_of(3, 1))
    await one.until("connected", 3, times=2)
    assert [what[0] for what in one.heard] == ["connected", "disconnected", "connected"]
    assert transport.epoch(3) == 2
    with contextlib.suppress(ConnectionError):
        await old.say(int(Kind.MESSAGE), TimeoutNow(1).to_list())
    await old.ended()
    await new.say(int(Kind.MESSAGE), TimeoutNow(2).to_list())
    await one.until("received", 3, TimeoutNow(2))
    assert one.messages() == [TimeoutNow(2)]
    old.close()
    new.close()


async def test_bytes_read_before_the_replacement_but_cut_short_are_not_delivered_after(
    start: Start, addresses: dict[int, Address]
) -> None:
    one = Handler(1)
    transport = await start(one)
    old = await RawPeer.join(addresses[1], hello_of(3, 1))
    await one.until("connected", 3)
    link = transport._live[3]
    new = await RawPeer.join(addresses[1], hello_of(3, 1))
    await one.until("connected", 3, times=2)
    link.data_received(encode([int(Kind.MESSAGE), TimeoutNow(1).to_list()]))
    assert one.messages() == []
    old.close()
    new.close()


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        (hello_of(3, 1, version=9), "node 3 speaks version 9, node 1 2"),
        (hello_of(1, 1, nonce=b"another!"), "two nodes have the id 1"),
        (hello_of(1, 1), "node 1 has reached itself"),
        (hello_of(3, 2), "node 3 looks for node 2 where node 1 answers"),
        (hello_of(9, 1), "node 9 is not a voter of node 1"),
    ],
    ids=lambda value: str(value.node_id) if isinstance(value, Hello) else value[:20],
)
async def test_the_wrong_node_is_refused_and_both_sides_are_told(
    start: Start,
    addresses: dict[int, Address],
    caplog: pytest.LogCaptureFixture,
    hello: Hello,
    reason: str,
) -> None:
    one = Handler(1)
    await start(one)
    peer = await RawPeer.dial(addresses[1])
    await peer.say(*hello.to_list())
    answer = await peer.listen()
    assert answer is not None
    assert answer[0] == Kind.REFUSED
    assert reason in str(answer[1])
    await peer.ended()
    assert one.heard == []
    assert reason in caplog.text
    peer.close()


async def test_a_lower_id_does_not_dial(start: Start, addresses: dict[int, Address]) -> None:
    await start(Handler(2), {2: addresses[2], 3: addresses[3], 1: addresses[1]})
    peer = await RawPeer.dial(addresses[2])
    await peer.say(*hello_of(1, 2).to_list())
    assert await peer.listen() == [
        Kind.REFUSED,
        "node 2 dials node 1, not the other way round",
        CLUSTER,
        0,
        b"",
    ]
    peer.close()


async def test_a_wrong_address_is_named_where_it_is_configured(
    start: Start, addresses: dict[int, Address], caplog: pytest.LogCaptureFixture
) -> None:
    one, three = Handler(1), Handler(3)
    await start(one)
    swapped = {**addresses, 2: addresses[1]}
    await start(three, swapped)
    await three.until("connected", 1)
    port = addresses[1][1]
    await until_logged(
        caplog, f"127.0.0.1:{port} refused: node 3 looks for node 2 where node 1 answers"
    )
    assert ("connected", 2) not in three.heard


async def test_an_answer_of_the_wrong_node_is_not_taken(
    start: Start, addresses: dict[int, Address], caplog: pytest.LogCaptureFixture
) -> None:
    async def answer_as_two(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await RawPeer(reader, writer).say(*hello_of(2, 3).to_list())
        await reader.read()
        writer.close()

    server = await asyncio.start_server(answer_as_two, *addresses[1])
    three = Handler(3)
    await start(three, {1: addresses[1], 3: addresses[3]})
    await until_logged(
        caplog, f"node 2 answers at 127.0.0.1:{addresses[1][1]}, where node 1 was expected"
    )
    assert three.heard == []
    server.close()


async def test_a_node_that_dials_itself_says_so(
    start: Start, addresses: dict[int, Address], caplog: pytest.LogCaptureFixture
) -> None:
    two = Handler(2)
    await start(two, {**addresses, 1: addresses[2]})
    await until_logged(caplog, "node 2 has reached itself: the address of a peer is its own")
    assert two.heard == []


async def test_a_refusal_of_the_handler_reaches_the_other_sides_log_once(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = Handler(1), Handler(2)
    one.refuse = "node 2 belongs to another cluster"
    await start(one)
    transport = await start(two)
    tries = 0
    opened = transport.opened

    def counting(link: Any) -> bool:
        nonlocal tries
        tries += 1
        return bool(opened(link))

    transport.opened = counting
    async with asyncio.timeout(DEADLINE_S):
        while tries < 4:
            await asyncio.sleep(0)
    said = [line for line in caplog.messages if "refused: node 2 belongs" in line]
    assert len(said) == 1
    assert one.heard == []
    assert {what[:2] for what in two.heard} == {("refused by", 1)}
    assert two.heard[0][2] == Refused("node 2 belongs to another cluster", CLUSTER)
    one.refuse = None
    await two.until("connected", 1)


async def test_an_older_copy_of_a_directory_does_not_push_out_the_newer(
    start: Start, addresses: dict[int, Address]
) -> None:
    one = Handler(1)
    await start(one)
    newer = await RawPeer.join(addresses[1], hello_of(3, 1, incarnation=5))
    await one.until("connected", 3)
    older = await RawPeer.dial(addresses[1])
    await older.say(*hello_of(3, 1, incarnation=4).to_list())
    answer = await older.listen()
    assert answer is not None
    assert answer[0] == Kind.REFUSED
    assert "incarnation 5; this is 4" in str(answer[1])
    assert one.heard == [("connected", 3)]
    newer.close()
    older.close()


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">II", 16385, 0),
        b"GET / HTTP/1.1\r\n\r\n",
        encode([]),
        encode([int(Kind.READY)]),
        encode([int(Kind.MESSAGE), TimeoutNow(1).to_list()]),
        encode([int(Kind.HELLO), 2, 3]),
    ],
    ids=["too long", "another protocol", "empty", "ready first", "message first", "short hello"],
)
async def test_strangers_are_cut_off_before_the_handshake(
    start: Start, addresses: dict[int, Address], data: bytes
) -> None:
    one = Handler(1)
    await start(one, limits=Limits(handshake_s=3600.0))
    friend = await RawPeer.join(addresses[1], hello_of(2, 1))
    stranger = await RawPeer.dial(addresses[1])
    stranger.writer.write(data)
    await stranger.ended()
    await friend.say(int(Kind.MESSAGE), TimeoutNow(4).to_list())
    await one.until("received", 2, TimeoutNow(4))
    assert one.heard == [("connected", 2), ("received", 2, TimeoutNow(4))]
    friend.close()
    stranger.close()


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [99],
        [int(Kind.MESSAGE)],
        [int(Kind.MESSAGE), [99]],
        [int(Kind.PING), 1],
        [int(Kind.STATE), 3, None, 0, b""],
        [int(Kind.STATE), 1, b"short", 0, b""],
        [int(Kind.STATE), 1, CLUSTER],
        [int(Kind.STATE), 1, CLUSTER, -1, b""],
        [int(Kind.STATE), 1, CLUSTER, 1, bytes(8449)],
        [int(Kind.HELLO)],
    ],
    ids=str,
)
async def test_a_peer_that_breaks_the_protocol_is_cut_off(
    start: Start, addresses: dict[int, Address], fields: list[object]
) -> None:
    one = Handler(1)
    await start(one)
    peer = await RawPeer.join(addresses[1], hello_of(2, 1))
    await one.until("connected", 2)
    await peer.say(*fields)
    await peer.ended()
    await one.until("disconnected", 2)
    assert one.messages() == []
    peer.close()


async def test_states_are_announced_when_live_and_on_change(
    start: Start, addresses: dict[int, Address]
) -> None:
    one = Handler(1)
    transport = await start(one)
    transport.announce(Standing(BootstrapState.EMPTY, None))
    peer = await RawPeer.join(addresses[1], hello_of(2, 1))
    assert await peer.listen() == [Kind.STATE, 0, None, 0, b""]
    recorded = Standing(BootstrapState.RECORDED, CLUSTER, 7, b"members")
    transport.announce(recorded)
    assert await peer.listen() == [Kind.STATE, 1, CLUSTER, 7, b"members"]
    await peer.say(*recorded.to_list())
    await one.until("state", 2, recorded)
    peer.close()


async def test_a_peer_that_does_not_read_is_dropped_at_the_bound(
    start: Start, addresses: dict[int, Address]
) -> None:
    one = Handler(1)
    transport = await start(one, limits=Limits(outbox_max_bytes=1 << 20))
    peer = await RawPeer.join(addresses[1], hello_of(3, 1))
    await one.until("connected", 3)
    message = AppendEntries(1, 1, 0, 0, 0, [(b"x" * 200_000, 1)])
    sent = 0
    while transport.epoch(3):
        transport.send(3, message)
        sent += 1
        assert sent < 1000, "an unbounded outbox"
    assert one.heard[-1] == ("disconnected", 3)
    peer.close()


async def test_one_frame_larger_than_the_outbox_passes_alone(
    start: Start, addresses: dict[int, Address]
) -> None:
    one, two = Handler(1), Handler(2)
    transport = await start(one, limits=Limits(outbox_max_bytes=1000))
    await start(two)
    await one.until("connected", 2)
    message = AppendEntries(1, 1, 0, 0, 0, [(b"x" * 5_000_000, 1)])
    transport.send(2, message)
    await two.until("received", 1, message)


async def test_a_message_over_the_frame_bound_ends_the_connection_not_the_node(
    start: Start, addresses: dict[int, Address]
) -> None:
    one = Handler(1)
    transport = await start(one, limits=Limits(frame_max_bytes=1000))
    peer = await RawPeer.join(addresses[1], hello_of(3, 1))
    await one.until("connected", 3)
    transport.send(3, AppendEntries(1, 1, 0, 0, 0, [(b"x" * 2000, 1)]))
    await one.until("disconnected", 3)
    peer.close()


async def test_a_silent_stranger_is_closed(start: Start, addresses: dict[int, Address]) -> None:
    await start(Handler(1), limits=Limits(handshake_s=0.05))
    stranger = await RawPeer.dial(addresses[1])
    await stranger.ended()
    stranger.close()


async def test_a_peer_that_falls_silent_is_given_up(
    start: Start, addresses: dict[int, Address]
) -> None:
    one = Handler(1)
    await start(one, limits=Limits(ping_s=0.02, silence_max_s=0.1))
    peer = await RawPeer.join(addresses[1], hello_of(3, 1))
    await one.until("connected", 3)
    assert await peer.listen() == [Kind.PING]
    await one.until("disconnected", 3)
    peer.close()


async def test_only_so_many_strangers_are_heard_at_once(
    start: Start, addresses: dict[int, Address]
) -> None:
    one = Handler(1)
    await start(one, limits=Limits(strangers_max=2))
    waiting = [await RawPeer.dial(addresses[1]) for _ in range(2)]
    for stranger in waiting:  # answered, hence counted
        await stranger.say(*hello_of(3, 1).to_list())
        assert (await stranger.listen() or [None])[0] == Kind.HELLO
    third = await RawPeer.dial(addresses[1])
    await third.ended()
    waiting[0].close()
    await waiting[0].writer.wait_closed()
    await waiting[1].say(int(Kind.READY))
    await one.until("connected", 3)
    for stranger in (*waiting, third):
        stranger.close()


async def test_an_address_in_use_is_named(start: Start) -> None:
    await start(Handler(1))
    with pytest.raises(AddressError, match=r"is in use: stop what listens there"):
        await start(Handler(1))


@pytest.mark.parametrize(
    ("host", "safe"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("example.org", False),
    ],
)
def test_only_loopback_is_loopback(host: str, safe: bool) -> None:
    assert is_loopback(host) is safe


async def test_dialling_beyond_loopback_is_refused_as_well(
    start: Start, addresses: dict[int, Address]
) -> None:
    with pytest.raises(AddressError, match=r"10\.1\.1\.1:7400 is beyond loopback"):
        await start(Handler(2), {**addresses, 1: ("10.1.1.1", 7400)})
