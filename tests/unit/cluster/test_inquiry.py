"""Who answers at the address of a node that is to be added: it alone, and ready to join."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.addresses import Address
from cluster.handshake import PROTOCOL_VERSION, Kind, question
from cluster.identity import BootstrapState
from cluster.inquiry import Finding, inquire
from cluster.tls import PeerTls
from cluster.transport import PeerTransport
from tests.support.authority import Authority
from tests.support.peer_raw import CLUSTER, DEADLINE_S, Handler, RawPeer, make_transport
from tests.support.ports import free_ports

WAITING: dict[str, Any] = {"state": BootstrapState.EMPTY, "cluster_id": None, "voters": ()}

Stand = Callable[..., Any]


@pytest.fixture
def address() -> Address:
    return "127.0.0.1", free_ports(1)[0]


@pytest.fixture
async def stand(address: Address) -> AsyncIterator[Stand]:
    """Have a node listen at the address, one that waits to be let in unless told otherwise."""
    started: list[PeerTransport] = []

    async def one(node_id: int = 4, tls: PeerTls | None = None, **changes: Any) -> Handler:
        handler = Handler(node_id, **{**WAITING, **changes})
        transport = make_transport(handler, {node_id: address}, tls=tls)
        await transport.start()
        started.append(transport)
        return handler

    yield one
    for transport in started:
        await transport.stop()


async def ask(address: Address, **changes: Any) -> Finding | None:
    given: dict[str, Any] = {"me": 1, "cluster_id": CLUSTER, **changes}
    return await inquire(4, address, **given)


async def test_a_node_that_waits_is_found_and_notices_nothing_of_it(
    address: Address, stand: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    waiting = await stand()
    assert await ask(address) is None
    # Whatever the order of the two ids.
    assert await ask(address, me=9) is None
    assert waiting.heard == []
    assert caplog.text == ""


async def test_both_sides_prove_who_they_are(
    address: Address, stand: Stand, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "ca")
    await stand(tls=authority.tls(4))
    assert await ask(address, tls=authority.tls(1)) is None

    stranger = Authority(tmp_path / "other").tls(1)
    finding = await ask(address, tls=stranger)
    assert finding is not None
    assert "shows a certificate that no authority in" in finding.text
    assert not finding.may_pass


async def test_the_certificate_of_another_node_is_not_taken(
    address: Address, stand: Stand, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "ca")
    await stand(5, tls=authority.tls(5))
    finding = await ask(address, tls=authority.tls(1))
    assert finding is not None
    assert "has the certificate of node 5, not of node 4" in finding.text


async def test_one_side_without_certificates_is_told(
    address: Address, stand: Stand, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "ca")
    await stand(tls=authority.tls(4))
    finding = await ask(address)
    assert finding is not None
    assert "refused: this node speaks TLS: set raft.tls on every node" in finding.text


async def test_a_node_in_the_clear_is_no_match_for_one_with_certificates(
    address: Address, stand: Stand, tmp_path: Path
) -> None:
    await stand()
    finding = await ask(address, tls=Authority(tmp_path / "ca").tls(1))
    assert finding is not None
    assert "set raft.tls on every node" in finding.text or "it hung up" in finding.text


@pytest.mark.parametrize(
    ("node_id", "changes", "text"),
    [
        (5, {}, "is node 5, not node 4: correct the address"),
        (4, {"cluster_id": b"D" * 16}, "belongs to another cluster: start node 4 with --join"),
        (4, {"voters": (1, 4)}, "waits to found a cluster of its own"),
        (4, {"version": PROTOCOL_VERSION + 1}, f"speaks version {PROTOCOL_VERSION + 1}"),
    ],
)
async def test_whoever_could_not_join_is_named_and_stays_out(
    address: Address, stand: Stand, node_id: int, changes: dict[str, Any], text: str
) -> None:
    await stand(node_id, **changes)
    finding = await ask(address)
    assert finding is not None
    assert text in finding.text
    assert finding.text.startswith(f"127.0.0.1:{address[1]} ")
    assert not finding.may_pass


async def test_a_node_that_has_joined_this_cluster_before_the_answer_came_is_welcome(
    address: Address, stand: Stand
) -> None:
    await stand(state=BootstrapState.BOOTSTRAPPED, cluster_id=CLUSTER)
    assert await ask(address) is None


async def test_where_nobody_listens_it_may_pass(address: Address) -> None:
    finding = await ask(address)
    assert finding is not None
    assert f"node 4 does not answer at 127.0.0.1:{address[1]} (" in finding.text
    assert finding.text.endswith("start it there with --join first, or correct the address")
    assert finding.may_pass


@pytest.mark.parametrize(
    ("says", "heard"),
    [(b"", "(nothing within 0.05 s)"), (b"HTTP/1.1 400 Bad Request\r\n\r\n", "(a frame of")],
)
async def test_whoever_says_nothing_or_nonsense_is_not_waited_for(
    address: Address, says: bytes, heard: str
) -> None:
    left = asyncio.Event()

    async def mumble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(says)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        left.set()

    async with await asyncio.start_server(mumble, *address):
        async with asyncio.timeout(DEADLINE_S):
            finding = await ask(address, patience_s=0.05)
            await left.wait()
    assert finding is not None
    assert heard in finding.text
    assert finding.may_pass


async def test_the_question_is_answered_once_and_the_connection_ends(
    address: Address, stand: Stand
) -> None:
    await stand()
    asker = await RawPeer.dial(address)
    await asker.say(*question(1))
    answer = await asker.listen()
    assert answer is not None
    assert answer[:4] == [Kind.HELLO, PROTOCOL_VERSION, 4, 1]
    assert await asker.listen() is None
    asker.close()
