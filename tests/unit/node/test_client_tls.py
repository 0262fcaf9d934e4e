"""TLS of the client port and the HTTP port, on real sockets: what strangers can and cannot do."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import socket
import ssl
import struct
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from cluster.certificates import issue, make_authority
from cluster.faults import CertificateError
from cluster.tls import today
from node import healthcheck
from node.addresses import Address
from node.client_tls import HANDSHAKE_BYTES_MAX, ClientTls, Secured
from node.entrance import _IN_THE_CLEAR
from node.gate import REFUSAL_DELAY_S, Gate
from node.healthcheck import Target
from node.http import HttpListener, Views
from node.http_guests import Guests
from node.session import Limits
from node.tcp import ClientServer
from node.tokens import Identity, Role, Tokens, digest
from tests.unit.node.test_tcp import DEADLINE_S, Port, Raw, frame, until
from tq.protocol import Type

HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("ca")
    make_authority(directory, now=today())
    issue(directory, 1, addresses=[HOST, "*.tq.example"], days=5, now=today())
    return directory


def a_tls(authority: Path) -> ClientTls:
    return ClientTls(authority / "node-1.pem", authority / "node-1.key", now=today())


def trusting(authority: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority / "ca.pem")


class SecuredPort(Port):
    """A client port with a certificate, and a clock of its own."""

    def __init__(self, authority: Path, limits: Limits) -> None:
        super().__init__(limits)
        tls = a_tls(authority)
        self.refusals: Counter[str] = Counter()
        self.trusted = trusting(authority)

        def secure(connection: asyncio.Protocol) -> asyncio.Protocol:
            return Secured(
                connection,
                tls.context,
                refused=lambda reason: self.refusals.update([reason]),
                in_the_clear=_IN_THE_CLEAR,
            )

        self.server = ClientServer(self.echo, limits=limits, now_s=self.clock.now_s, secure=secure)

    async def connect(self, *, hello: bool = True) -> Raw:
        raw = Raw(*await asyncio.open_connection(*self.address, ssl=self.trusted))
        if hello:
            raw.send(frame(Type.HELLO, b"hi"))
            assert await raw.frame() == (Type.HELLO, b"hi")
        return raw

    async def connect_in_the_clear(self) -> Raw:
        return Raw(*await asyncio.open_connection(*self.address))


@contextlib.asynccontextmanager
async def secured(authority: Path, limits: Limits | None = None) -> AsyncIterator[SecuredPort]:
    port = SecuredPort(authority, limits or Limits())
    port.address = await port.server.start(HOST, 0)
    try:
        yield port
    finally:
        await port.server.stop()


# ---------------------------------------------------------------------------- the certificate


def test_a_certificate_that_names_no_host_is_refused(authority: Path) -> None:
    files = issue(authority, 2, days=5, now=today())
    with pytest.raises(CertificateError, match=r"node-2.pem names no host.*--address HOST"):
        ClientTls(*files, now=today())


def test_a_certificate_that_is_over_or_a_key_for_all_is_refused(authority: Path) -> None:
    files = issue(authority, 3, addresses=[HOST], days=5, now=today())
    later = today() + datetime.timedelta(days=6)
    with pytest.raises(CertificateError, match=r"node-3.pem has expired on"):
        ClientTls(*files, now=later)
    with pytest.raises(CertificateError, match="cannot be used together"):
        ClientTls(files.certificate, authority / "node-1.key", now=today())
    files.key.chmod(0o644)
    with pytest.raises(CertificateError, match="open to every user of this host"):
        ClientTls(*files, now=today())


@pytest.mark.parametrize(
    ("host", "fits"),
    [
        (HOST, True),
        ("a.tq.example", True),
        ("A.TQ.example.", True),
        ("tq.example", False),
        ("a.b.tq.example", False),
        ("10.0.0.1", False),
    ],
)
def test_it_is_known_which_hosts_a_certificate_is_for(
    authority: Path, host: str, *, fits: bool
) -> None:
    assert a_tls(authority).is_for(host) is fits


# ---------------------------------------------------------------------------- the client port


async def test_frames_of_every_size_pass_both_ways(authority: Path) -> None:
    async with secured(authority) as port:
        client = await port.connect()
        for size in (1, 16_000, 16_384, 16_385, 1_000_000, 9_000_000):
            client.send(frame(0x05, b"x" * size))
            assert await client.frame() == (0x05, b"x" * size)
        await client.close()
        await port.echo.until(lambda: len(port.echo.gone) == 1)
        assert not port.refusals


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_1_2_and_1_3_are_spoken(authority: Path, version: ssl.TLSVersion) -> None:
    async with secured(authority) as port:
        port.trusted.minimum_version = port.trusted.maximum_version = version
        client = await port.connect()
        await client.close()


async def test_before_hello_no_more_than_four_kibibytes_are_taken(authority: Path) -> None:
    async with secured(authority) as port:
        good, stranger = await port.connect(), await port.connect(hello=False)
        stranger.send(struct.pack(">IB", 4097, Type.HELLO))
        assert (await stranger.nack())[1] == "TOO_LARGE"
        await stranger.closed()
        good.send(frame(0x05, b"x" * 100_000))
        assert (await good.frame())[0] == 0x05
        await good.close()
        await stranger.close()


@pytest.mark.parametrize("beginning", [b"", b"\x16\x03\x01\x02\x00\x01\x00"])
async def test_a_handshake_that_does_not_end_is_ended(authority: Path, beginning: bytes) -> None:
    async with secured(authority, Limits(handshake_s=5)) as port:
        slow = await port.connect_in_the_clear()
        slow.send(beginning)
        await until(lambda: port.server.connections == 1)
        port.pass_s(4.9)
        assert port.server.connections == 1
        port.pass_s(0.2)
        await slow.closed()
        await until(lambda: port.server.connections == 0)
        await slow.close()


async def test_connections_are_counted_from_their_first_byte_on(authority: Path) -> None:
    async with secured(authority, Limits(connections_max=1)) as port:
        silent = await port.connect_in_the_clear()
        await until(lambda: port.server.connections == 1)
        more = await port.connect(hello=False)
        assert (await more.nack())[1] == "TOO_MANY_CONNECTIONS"
        await more.closed()
        await more.close()
        await silent.close()


async def test_a_client_that_speaks_in_the_clear_is_told_what_it_lacks(authority: Path) -> None:
    async with secured(authority) as port:
        plain = await port.connect_in_the_clear()
        plain.send(frame(Type.HELLO, b"hi"))
        nack = await plain.nack()
        assert nack[:2] == [0, "UNAUTHENTICATED"]
        assert "this port speaks TLS" in nack[2]
        assert "TQ_CA" in nack[2]
        await plain.closed()
        assert port.echo.seen == []
        assert port.refusals == {"in_the_clear": 1}
        await plain.close()


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\x16\x03\x01\x00\x05hello",
        b"\x16" + bytes(2000),
        b"\x16\x03\x01\x40\x00" * 4000,
    ],
)
async def test_rubbish_instead_of_a_handshake_harms_nobody(authority: Path, rubbish: bytes) -> None:
    async with secured(authority) as port:
        good = await port.connect()
        bad = await port.connect_in_the_clear()
        bad.send(rubbish)
        await bad.closed()
        assert port.refusals == {"tls": 1}
        good.send(frame(0x05, b"x"))
        assert await good.frame() == (0x05, b"x")
        await bad.close()
        await good.close()


async def test_a_client_that_leaves_in_its_handshake_is_counted_once(authority: Path) -> None:
    async with secured(authority) as port:
        with pytest.raises(ssl.SSLError):
            await asyncio.open_connection(*port.address, ssl=ssl.create_default_context())
        silent = await port.connect_in_the_clear()
        await silent.close()
        await until(lambda: len(port.echo.gone) == 2)
        assert port.refusals == {"tls": 1}


async def test_a_handshake_has_a_bound_in_bytes(authority: Path) -> None:
    async with secured(authority) as port:
        bad = await port.connect_in_the_clear()
        # A first message as long as OpenSSL would still wait for, in whole records.
        hello = b"\x01\x01\xf0\x00" + b"x" * 15_996
        for part in (hello, *[bytes(16_000)] * (HANDSHAKE_BYTES_MAX // 16_000)):
            bad.send(b"\x16\x03\x01" + struct.pack(">H", len(part)) + part)
        await bad.closed()
        assert port.refusals == {"tls": 1}
        await bad.close()


async def test_a_client_that_says_goodbye_and_one_that_vanishes_are_both_forgotten(
    authority: Path,
) -> None:
    async with secured(authority) as port:
        polite, rude = await port.connect(), await port.connect()
        await polite.close()
        rude.writer.transport.abort()
        await port.echo.until(lambda: len(port.echo.gone) == 2)
        assert port.server.connections == 0


async def test_a_client_that_reads_nothing_is_aborted_as_in_the_clear(authority: Path) -> None:
    async with secured(authority, Limits(unread_max_bytes=8 * 1024 * 1024)) as port:
        hog = await port.connect()
        hog.writer.transport.pause_reading()  # type: ignore[attr-defined] # it is a socket's
        for _ in range(8):
            hog.send(frame(0x7E, b""))
        await port.echo.until(lambda: len(port.echo.gone) == 1)
        hog.writer.transport.abort()


# ---------------------------------------------------------------------------- the HTTP port


def views() -> Views:
    return Views(
        tick_age_s=lambda: 0.0,
        raft=lambda: None,
        is_stopping=lambda: False,
        status=lambda: {"node_id": 1},
        metrics=lambda _: (b"tq_x 1\n", "text/plain"),
    )


def a_gate() -> Gate:
    return Gate(Tokens([(digest("good"), Identity("graphs", Role.METRICS))]))


@contextlib.asynccontextmanager
async def serving(tls: ClientTls | None, gate: Gate) -> AsyncIterator[Address]:
    listener = HttpListener(views(), gate=gate, tls=tls)
    address = await listener.start(Address(HOST, 0))
    try:
        yield address
    finally:
        await listener.stop()


@pytest.mark.parametrize("with_tls", [True, False])
async def test_health_is_open_and_the_rest_wants_a_token(
    authority: Path, *, with_tls: bool
) -> None:
    gate = a_gate()
    scheme = "https" if with_tls else "http"
    connector = aiohttp.TCPConnector(ssl=trusting(authority))
    async with (
        serving(a_tls(authority) if with_tls else None, gate) as address,
        aiohttp.ClientSession(f"{scheme}://{address}", connector=connector) as client,
    ):

        async def status(path: str, authorization: str | None = None) -> int:
            headers = {} if authorization is None else {"Authorization": authorization}
            async with client.get(path, headers=headers) as answer:
                await answer.read()
                return answer.status

        assert await status("/livez") == 200
        assert await status("/readyz") == 503
        for path in ("/status", "/metrics"):
            assert await status(path, "Bearer good") == 200
            assert await status(path, "bearer  good ") == 200
        began_s = asyncio.get_running_loop().time()
        wrong = ("/metrics", "/status", "/metrics", "/other")
        said = [None, "Bearer bad", "Basic good", "Bearer"]
        answers = await asyncio.gather(*(status(*one) for one in zip(wrong, said, strict=True)))
        assert answers == [401] * 4
        assert asyncio.get_running_loop().time() - began_s >= REFUSAL_DELAY_S * 0.9
        async with client.get("/metrics") as answer:
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert "Authorization: Bearer TOKEN" in (await answer.json(content_type=None))["detail"]
    assert gate.refusals == {"http": 5}


async def test_http_in_the_clear_to_a_port_with_tls_is_told_so(authority: Path) -> None:
    gate = Gate()
    async with (
        serving(a_tls(authority), gate) as address,
        aiohttp.ClientSession() as client,
        client.get(f"http://{address}/livez") as answer,
    ):
        assert answer.status == 400
        assert "This port speaks TLS" in await answer.text()
    assert gate.refusals == {"in_the_clear": 1}


async def test_a_healthcheck_asks_by_tls_whatever_the_certificate_names(authority: Path) -> None:
    async with serving(a_tls(authority), a_gate()) as address:
        target = Target.parse(f"https://{address}")
        assert await asyncio.to_thread(healthcheck.ask, target) == ""
        not_ready = await asyncio.to_thread(healthcheck.ask, target, healthcheck.READY)
        assert "[-]leader still starting" in not_ready
        plain = await asyncio.to_thread(healthcheck.ask, Target(address))
        assert "This port speaks TLS" in plain


class Silent(asyncio.Protocol):
    """Serves nothing."""


async def test_guests_of_the_http_port_are_counted_and_do_not_stay_for_ever() -> None:
    guests = Guests(Silent, tls=None, refused=lambda _: None, guests_max=2, guest_s=0.2)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(guests.make, HOST, 0)
    address = server.sockets[0].getsockname()

    async def gone(reader: asyncio.StreamReader) -> float:
        async with asyncio.timeout(DEADLINE_S):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        return loop.time()

    async with server:
        connections = [await asyncio.open_connection(*address) for _ in range(3)]
        began_s = loop.time()
        times = await asyncio.gather(*(gone(reader) for reader, _ in connections))
        assert times[2] < min(times[:2])
        assert min(times[:2]) - began_s > 0.1
        for _, writer in connections:
            writer.close()
        again = await asyncio.open_connection(*address)
        again[1].close()
        await gone(again[0])


# ---------------------------------------------------------------------------- healthcheck


def test_a_healthcheck_does_not_wait_for_ever() -> None:
    with socket.create_server((HOST, 0)) as silent:
        target = Target(Address(HOST, silent.getsockname()[1]))
        assert healthcheck.ask(target, timeout_s=0.05) == "no answer within 0.05 s"


@pytest.mark.parametrize(
    ("tick_age_s", "said"), [(0.0, ""), (9.0, "[+]loop ok; [-]raft has not ticked for 9.0 s")]
)
async def test_a_healthcheck_repeats_what_livez_says(tick_age_s: float, said: str) -> None:
    shown = views()
    listener = HttpListener(
        Views(
            tick_age_s=lambda: tick_age_s,
            raft=shown.raft,
            is_stopping=shown.is_stopping,
            status=shown.status,
            metrics=shown.metrics,
        )
    )
    address = await listener.start(Address(HOST, 0))
    assert said == await asyncio.to_thread(healthcheck.ask, Target(address))
    await listener.stop()


@pytest.mark.parametrize(
    ("arguments", "answered"),
    [
        (["healthcheck", "--http", "127.0.0.1:9"], True),
        (["healthcheck", "--ready", "--http", "https://127.0.0.1:9"], True),
        (["healthcheck"], False),
        (["healthcheck", "--http", "here"], False),
        (["--config", "x", "healthcheck", "--http", "127.0.0.1:9"], False),
        (["healthcheck", "--http", "127.0.0.1:9", "--help"], False),
        ([], False),
    ],
)
def test_plain_healthchecks_are_answered_without_the_whole_command_line(
    arguments: list[str], *, answered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(healthcheck, "ask", lambda *_: "")
    assert healthcheck.run(arguments) == (0 if answered else None)
