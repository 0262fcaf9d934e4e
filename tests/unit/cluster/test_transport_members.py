"""Peer connections while the cluster changes: who is dialled, who is refused, what is counted."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from cluster.dialler import Dialler
from cluster.handshake import Kind
from cluster.link import Limits, Link
from cluster.messages import TimeoutNow
from cluster.refusals import Reason, Refusal
from cluster.transport import Address, PeerTransport
from cluster.vitals import Report
from cluster.wire import HANDSHAKE_MAX_BYTES, encode
from tests.support.peer_raw import DEADLINE_S, Handler, RawPeer, hello_of, make_transport
from tests.support.ports import free_ports

Start = Callable[..., Coroutine[Any, Any, PeerTransport]]


@pytest.fixture
def addresses() -> dict[int, Address]:
    return {n + 1: ("127.0.0.1", port) for n, port in enumerate(free_ports(4))}


@pytest.fixture
async def start(addresses: dict[int, Address]) -> AsyncIterator[Start]:
    """Start transports that the test's end stops."""
    started: list[PeerTransport] = []

    async def start_one(handler: Handler, *members: int, **options: Any) -> PeerTransport:
        known = {n: addresses[n] for n in members or addresses}
        bind = addresses[handler.node_id]
        transport = make_transport(handler, known, bind=bind, **options)
        started.append(transport)
        await transport.start()
        return transport

    yield start_one
    for transport in reversed(started):  # who dials first: nobody meets a server that is closing
        await transport.stop()


async def until(condition: Callable[[], object], what: str) -> None:
    """Look at each turn of the loop: counts have no signal."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                await asyncio.sleep(0)
    except TimeoutError:
        raise AssertionError(f"never came: {what}") from None


async def test_a_new_member_is_dialled_and_let_in(
    start: Start, addresses: dict[int, Address]
) -> None:
    one, two, four = Handler(1), Handler(2), Handler(4)
    first = await start(one, 1, 2)
    second = await start(two, 1, 2)
    fourth = await start(four, 1, 2, 4)
    await two.until("connected", 1)
    await until(lambda: first.refusal_counts["not_a_member"], "a refusal")
    assert fourth.connected == ()
    for transport in (first, second):
        transport.set_members({n: addresses[n] for n in (1, 2, 4)})
    for handler in (one, two):
        await handler.until("connected", 4)
    await four.until("connected", 1)
    await four.until("connected", 2)


async def test_a_member_of_a_lower_id_that_comes_later_is_dialled(
    start: Start, addresses: dict[int, Address]
) -> None:
    one, three = Handler(1), Handler(3)
    await start(one, 1, 3)
    transport = await start(three, 3)
    transport.set_members({n: addresses[n] for n in (1, 3)})
    await three.until("connected", 1)
    transport.set_members({n: addresses[n] for n in (1, 3)})
    one.heard.clear()
    await one.until("connected", 3, times=0)
    assert three.heard.count(("connected", 1)) == 1


async def test_a_member_that_leaves_is_cut_off_after_what_was_written_and_not_let_in_again(
    start: Start, addresses: dict[int, Address]
) -> None:
    one, two, three = Handler(1), Handler(2), Handler(3)
    first = await start(one, 1, 2, 3)
    await start(two, 1, 2, 3)
    await start(three, 1, 2, 3)
    await one.until("connected", 3)
    await one.until("connected", 2)
    first.send(3, TimeoutNow(7))
    first.set_members({n: addresses[n] for n in (1, 2)})
    await three.until("received", 1, TimeoutNow(7))
    await three.until("disconnected", 1)
    await one.until("disconnected", 3)
    await until(lambda: first.refusal_counts["not_a_member"] >= 2, "refusals")
    assert first.connected == (2,)
    assert one.heard.count(("connected", 3)) == 1


async def test_who_leaves_is_not_dialled_any_more(
    start: Start, addresses: dict[int, Address]
) -> None:
    one, three = Handler(1), Handler(3)
    first = await start(one, 1, 3)
    third = await start(three, 1, 3)
    await three.until("connected", 1)
    third.set_members({3: addresses[3]})
    await one.until("disconnected", 3)
    assert third._dialler._tasks == {}
    assert first.connected == ()
    third.set_members({n: addresses[n] for n in (1, 3)})
    await three.until("connected", 1, times=2)


async def test_a_changed_address_counts_from_the_next_attempt(
    start: Start, addresses: dict[int, Address]
) -> None:
    one, three = Handler(1), Handler(3)
    third = await start(three, 3)
    dead = ("127.0.0.1", free_ports(1)[0])
    third.set_members({1: dead, 3: addresses[3]})
    await start(one, 1, 3)
    third.set_members({n: addresses[n] for n in (1, 3)})
    await three.until("connected", 1)


async def test_members_set_before_the_start_or_after_the_end_start_nothing(
    start: Start, addresses: dict[int, Address]
) -> None:
    three = make_transport(Handler(3), {3: addresses[3]})
    three.set_members(addresses)
    assert three._dialler._tasks == {}
    await three.start()
    assert set(three._dialler._tasks) == {1, 2}
    await three.stop()
    three.set_members(addresses)
    assert three._dialler._tasks == {}


async def test_a_link_in_its_handshake_does_not_outlive_the_membership(
    start: Start, addresses: dict[int, Address]
) -> None:
    one = Handler(1)
    transport = await start(one, 1, 3)
    peer = await RawPeer.dial(addresses[1])
    await peer.say(*hello_of(3, 1).to_list())
    assert (await peer.listen() or [None])[0] == Kind.HELLO
    transport.set_members({1: addresses[1]})
    await peer.ended()
    assert one.heard == []
    peer.close()


async def test_without_tls_a_member_beyond_loopback_is_named_and_not_dialled(
    start: Start, addresses: dict[int, Address], caplog: pytest.LogCaptureFixture
) -> None:
    three = Handler(3)
    transport = await start(three, 3)
    transport.set_members({1: ("192.0.2.1", 7400), 3: addresses[3]})
    assert "node 1 at 192.0.2.1:7400 is beyond loopback: set raft.tls" in caplog.text
    assert transport._dialler._tasks == {}


async def test_a_report_reaches_every_connected_peer(start: Start) -> None:
    handlers = {n: Handler(n) for n in (1, 2, 3)}
    transports = {n: await start(handlers[n], 1, 2, 3) for n in handlers}
    await handlers[1].until("connected", 2)
    await handlers[1].until("connected", 3)
    report = Report(1_700_000_000_000, 1000, b"d" * 32, disk_low=True)
    transports[1].report(report)
    await handlers[2].until("reported", 1, report)
    await handlers[3].until("reported", 1, report)


async def test_a_report_that_is_none_ends_the_connection(
    start: Start, addresses: dict[int, Address]
) -> None:
    one = Handler(1)
    transport = await start(one)
    peer = await RawPeer.join(addresses[1], hello_of(3, 1))
    await one.until("connected", 3)
    await peer.say(int(Kind.REPORT), -1, 0, b"", False)
    await peer.ended()
    assert dict(transport.refusal_counts) == {"malformed": 1}
    peer.close()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (encode(hello_of(3, 1, version=9).to_list()), Reason.VERSION),
        (encode(hello_of(1, 1, nonce=b"another!").to_list()), Reason.OWN_ID),
        (encode(hello_of(1, 1).to_list()), Reason.OWN_ID),
        (encode(hello_of(3, 2).to_list()), Reason.MISDIRECTED),
        (encode(hello_of(9, 1).to_list()), Reason.NOT_A_MEMBER),
        (encode([int(Kind.PING)]), Reason.MALFORMED),
        (b"\x00\x00\x00\x01\x00\x00\x00\x00\xc0", Reason.MALFORMED),
        (struct.pack(">II", HANDSHAKE_MAX_BYTES + 1, 0), Reason.OVERSIZED),
        (b"GET / HTTP/1.1\r\n\r\n", Reason.OVERSIZED),
        (b"\x16\x03\x01\x02\x00\x01", Reason.TLS),
        (encode([int(Kind.REFUSED), "go away"]), Reason.BY_PEER),
    ],
    ids=lambda value: str(value) if isinstance(value, Reason) else "",
)
async def test_each_refusal_is_counted_under_its_reason(
    start: Start, addresses: dict[int, Address], data: bytes, reason: Reason
) -> None:
    one = Handler(1)
    transport = await start(one)
    for _ in range(2):
        stranger = await RawPeer.dial(addresses[1])
        stranger.writer.write(data)
        await stranger.ended()
        stranger.close()
    await until(lambda: transport.refusal_counts[reason] == 2, "two refusals")
    assert dict(transport.refusal_counts) == {str(reason): 2}
    assert one.heard == []


async def test_the_handlers_own_reasons_are_counted_and_plain_texts_as_other(
    start: Start, addresses: dict[int, Address]
) -> None:
    one = Handler(1)
    transport = await start(one)
    for refuse in (Refusal(Reason.FOREIGN_CLUSTER, "node 3 is of another cluster"), "no"):
        one.refuse = refuse
        peer = await RawPeer.dial(addresses[1])
        await peer.say(*hello_of(3, 1).to_list())
        answer = await peer.listen()
        assert answer is not None
        assert answer[:2] == [Kind.REFUSED, str(refuse)]
        peer.close()
    assert dict(transport.refusal_counts) == {"foreign_cluster": 1, "other": 1}


async def test_a_stale_incarnation_a_late_and_a_superfluous_handshake_are_counted(
    start: Start, addresses: dict[int, Address]
) -> None:
    one = Handler(1)
    transport = await start(one, limits=Limits(handshake_s=1.0, strangers_max=1))
    newer = await RawPeer.join(addresses[1], hello_of(3, 1, incarnation=5))
    await one.until("connected", 3)
    older = await RawPeer.dial(addresses[1])
    await older.say(*hello_of(3, 1, incarnation=4).to_list())
    await older.ended()
    silent = await RawPeer.dial(addresses[1])
    late = await RawPeer.dial(addresses[1])
    await late.ended()
    await silent.ended()
    expected = {"stale_incarnation": 1, "timeout": 1, "crowded": 1}
    assert dict(transport.refusal_counts) == expected
    for peer in (newer, older, silent, late):
        peer.close()


async def test_strangers_from_many_places_do_not_fill_the_memory_of_complaints(
    start: Start, addresses: dict[int, Address]
) -> None:
    transport = await start(Handler(1))
    for number in range(1000):
        transport._complaints.tell(f"link 10.0.0.{number}", "does not speak the protocol")
    assert len(transport._complaints._said) <= 256


async def test_silence_is_looked_for_again_after_a_look_that_failed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinged = asyncio.Event()
    looks: list[Link] = []

    def refuse(link: Link) -> None:
        looks.append(link)
        if len(looks) > 1:
            pinged.set()
        raise MemoryError

    monkeypatch.setattr(Link, "ping", refuse)
    one = Handler(1)
    await start(one, limits=Limits(ping_s=0.01))
    await start(Handler(2), limits=Limits(ping_s=100.0))
    await one.until("connected", 2)
    async with asyncio.timeout(DEADLINE_S):
        await pinged.wait()


async def test_a_peer_is_dialled_again_whatever_an_attempt_has_raised() -> None:
    again = asyncio.Event()
    errors = [RuntimeError("no memory"), OSError("refused"), MemoryError()]
    left = errors.copy()
    told: list[Exception] = []

    async def connect(_peer: int) -> Link:
        if not left:
            again.set()
            await asyncio.Event().wait()
        raise left.pop(0)

    dialler = Dialler(
        limits=Limits(redial_min_s=0.0, redial_max_s=0.0),
        rng=random.Random(1),
        connect=connect,
        failed=lambda _peer, error: told.append(error),
    )
    dialler.keep([2])
    async with asyncio.timeout(DEADLINE_S):
        await again.wait()
    dialler.keep([])
    await dialler.stopped()
    assert told == errors
