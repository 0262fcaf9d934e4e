"""TLS of the SDK: whom it believes, what it says when it does not, and where a token goes."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cluster.certificates import issue, make_authority
from cluster.tls import today
from node.client_tls import ClientTls, Secured
from node.entrance import _IN_THE_CLEAR
from tests.support.fake_server import FakeNode, FakePeer
from tq import App, Client, ConfigError, SyncClient, Unauthenticated, Unavailable
from tq.dialling import Dialler
from tq.environment import read_token
from tq.protocol import Type

HOST = "127.0.0.1"
DEADLINE = "1.5s"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TQ_SERVERS", "TQ_CA", "TQ_TOKEN", "TQ_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority that has issued for 127.0.0.1 (node 1) and for another host (node 2)."""
    directory = tmp_path_factory.mktemp("ca")
    make_authority(directory, now=today())
    issue(directory, 1, addresses=[HOST], days=5, now=today())
    issue(directory, 2, addresses=["tq-2", "10.9.9.9"], days=5, now=today())
    return directory / "ca.pem"


@contextlib.asynccontextmanager
async def a_node(ca: Path, node_id: int | None) -> AsyncIterator[FakeNode]:
    """Serve a scripted node on a port of its own, with a certificate or in the clear."""
    node = FakeNode("")
    tls = None
    if node_id is not None:
        certificate = ca.parent / f"node-{node_id}.pem"
        tls = ClientTls(certificate, certificate.with_suffix(".key"), now=today())

    def accept() -> asyncio.Protocol:
        peer = FakePeer(node)
        if tls is None:
            return peer
        return Secured(peer, tls.context, refused=lambda _: None, in_the_clear=_IN_THE_CLEAR)

    server = await asyncio.get_running_loop().create_server(accept, HOST, 0)
    node.address = node.leader = f"{HOST}:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield node
        node.crash()


async def test_with_the_authority_a_node_is_spoken_to_by_tls(ca: Path) -> None:
    async with a_node(ca, 1) as node, Client(node.address, ca=ca, token="s3cret") as client:
        node.on(Type.SUBMIT_TASK, lambda request: request.ack(17))
        assert (await client.submit("echo", b"x" * 2_000_000)).log_index == 17
        assert node.seen[0].fields[2] == {"namespace": "default", "token": "s3cret"}


async def test_a_node_that_a_redirect_names_must_prove_its_name_too(ca: Path) -> None:
    async with a_node(ca, 1) as one, a_node(ca, 2) as two:
        one.leader = two.address
        one.on(Type.HEARTBEAT, lambda request: request.redirect(two.address))
        client = Client(one.address, ca=ca, deadline=DEADLINE)
        with pytest.raises(Unavailable, match=rf"its certificate is not for {HOST}"):
            await client.connect()
        assert two.seen == []
        await client.close()


async def trouble(address: str, ca: Path | None) -> str:
    client = Client(address, ca=ca, token="s3cret", deadline=DEADLINE)
    with pytest.raises((Unavailable, Unauthenticated)) as caught:
        await client.connect()
    await client.close()
    assert "s3cret" not in str(caught.value)
    return str(caught.value)


async def test_a_certificate_for_another_host_is_not_believed(ca: Path) -> None:
    async with a_node(ca, 2) as node:
        said = await trouble(node.address, ca)
        assert f"its certificate is not for {HOST}: dial it by a name it has" in said
        assert node.seen == []
        named = node.address.replace(HOST, "localhost")
        assert "its certificate is not for localhost" in await trouble(named, ca)


async def test_a_certificate_of_another_authority_is_not_believed(ca: Path, tmp_path: Path) -> None:
    other = make_authority(tmp_path / "other", now=today()).certificate
    async with a_node(ca, 1) as node:
        said = await trouble(node.address, other)
        assert f"its certificate was not issued by an authority in {other}" in said
        assert node.seen == []


async def test_tls_to_a_port_without_it_is_told_apart(ca: Path) -> None:
    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # What a node answers to the first bytes of TLS: a NACK in the clear.
        writer.write(_IN_THE_CLEAR)
        writer.close()

    async with await asyncio.start_server(refuse, HOST, 0) as server:
        said = await trouble(f"{HOST}:{server.sockets[0].getsockname()[1]}", ca)
    assert "does not speak TLS here: leave out the authority" in said


async def test_a_client_in_the_clear_is_told_by_a_port_with_tls(ca: Path) -> None:
    async with a_node(ca, 1) as node:
        said = await trouble(node.address, None)
        assert said.startswith("UNAUTHENTICATED: this port speaks TLS: give the client")
        assert node.seen == []


async def test_a_client_closes_at_once_although_tls_says_goodbye(ca: Path) -> None:
    async with a_node(ca, 1) as node:
        client = Client(node.address, ca=ca)
        await client.connect()
        node.deaf = True
        began_s = asyncio.get_running_loop().time()
        await client.close()
        assert asyncio.get_running_loop().time() - began_s < 1.0


def test_a_token_is_not_sent_in_the_clear_beyond_this_host(ca: Path) -> None:
    for address in ("tq-1", "10.0.0.1:7401", f"{HOST},tq-1"):
        with pytest.raises(ConfigError, match="in the clear: give the file"):
            Client(address, token="s3cret")
        Client(address, token="s3cret", ca=ca)
        Client(address)
    for address in (HOST, "localhost", "[::1]:7401", "127.1.2.3"):
        Client(address, token="s3cret")
    with pytest.raises(ConfigError, match="in the clear"):
        Dialler(has_token=True).check("tq-2:7401")  # where a redirect may lead


def test_an_authority_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*none.pem: no such file"):
        Client(HOST, ca=tmp_path / "none.pem")
    (tmp_path / "bad.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match=r"bad.pem holds no certificate in PEM form"):
        SyncClient(HOST, ca=tmp_path / "bad.pem")


def test_an_app_takes_authority_and_token_from_the_environment(
    ca: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TQ_SERVERS", "tq-1:7401")
    monkeypatch.setenv("TQ_CA", str(ca))
    monkeypatch.setenv("TQ_TOKEN", "s3cret")
    assert App().make_client()._options["token"] == "s3cret"
    assert App(token="mine").make_client()._options["token"] == "mine"

    path = tmp_path / "token"
    path.write_text("from-file\n")
    monkeypatch.setenv("TQ_TOKEN_FILE", str(path))
    with pytest.raises(ConfigError, match="TQ_TOKEN and TQ_TOKEN_FILE are both set"):
        App().make_client()
    monkeypatch.delenv("TQ_TOKEN")
    assert App().make_client()._options["token"] == "from-file"
    monkeypatch.delenv("TQ_CA")
    with pytest.raises(ConfigError, match="in the clear"):
        App().make_client()


@pytest.mark.parametrize("text", ["", "two words\n", "x" * 3000])
def test_a_file_must_hold_one_token(tmp_path: Path, text: str) -> None:
    path = tmp_path / "token"
    with pytest.raises(ConfigError, match="no such file"):
        read_token(path)
    path.write_text(text)
    with pytest.raises(ConfigError, match="must hold one token and nothing else") as caught:
        read_token(path)
    assert not text or text.strip() not in str(caught.value)


def test_old_versions_of_tls_are_not_spoken(ca: Path) -> None:
    context = Dialler(ca=ca)._context
    assert context is not None
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize("name", ["a" * 70 + ".example", "x..example", "a\0b"])
async def test_a_leader_whose_name_cannot_be_one_is_out_of_reach(ca: Path, name: str) -> None:
    async with a_node(ca, None) as node, Client(node.address) as client:
        node.on(Type.SUBMIT_TASK, lambda request: request.ack(1))
        node.leader = f"{name}:7401"
        node.crash()
        node.up = True
        await client.submit("echo", deadline="5s")
        with pytest.raises(Unavailable, match="cannot be the name of a host"):
            await client.node_status(node.leader)
