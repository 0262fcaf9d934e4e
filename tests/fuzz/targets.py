"""What is fed. Each target takes a generator, mutates an example of its own and feeds it.

A target raises only when something is wrong: every error a decoder may raise is caught here.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any, cast
from zlib import crc32

import msgpack

from cluster.chunks import ChunkError, decode_records
from cluster.configuration import Configuration, ConfigurationError
from cluster.handshake import Hello, Refused, Standing
from cluster.identity import Identity
from cluster.link import Limits, Link, Phase
from cluster.messages import Message, PeerProtocolError, decode
from cluster.refusals import Refusal
from cluster.tls import PeerTls, Session, TlsError
from cluster.vitals import Report
from cluster.watermark import HighWater
from cluster.wire import HANDSHAKE_MAX_BYTES, Decoder, WireError, encode, unpack
from node import requests
from statemachine import codec
from statemachine.types import Invalid
from tests.fuzz import corpus
from tests.fuzz.mutate import mutate_bytes, mutate_value
from tests.support.peer_raw import hello_of
from tq import protocol
from tq.errors import ProtocolError

Target = Callable[[random.Random], None]

BOUND_BYTES = 64 << 10
PIECE_MAX_BYTES = 256 << 10


def _stream(rng: random.Random) -> bytes:
    """A few frames between nodes, mutated above, below or beside their checksums."""
    pieces = []
    for _ in range(rng.randrange(1, 5)):
        fields = rng.choice(corpus.FRAMES)
        what = rng.randrange(4)
        if what == 0:
            pieces.append(encode(list(fields)))
        elif what == 1:
            pieces.append(_packed(mutate_value(fields, rng)))
        elif what == 2:
            pieces.append(framed(mutate_bytes(msgpack.packb(fields), rng)))
        else:
            pieces.append(mutate_bytes(encode(list(fields)), rng))
    return b"".join(pieces)


def _packed(value: object) -> bytes:
    try:
        return framed(msgpack.packb(value))
    except (OverflowError, ValueError):
        return b""


def framed(body: bytes) -> bytes:
    """Return a body with its length and its checksum."""
    return len(body).to_bytes(4, "big") + crc32(body).to_bytes(4, "big") + body


def _cut(data: bytes, rng: random.Random) -> list[bytes]:
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(4)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def frames(rng: random.Random) -> None:
    """The decoder of frames between nodes; what it keeps is bounded."""
    decoder = Decoder(BOUND_BYTES)
    try:
        for piece in _cut(_stream(rng), rng):
            decoder.feed(piece)
            while decoder.next() is not None:
                pass
            assert decoder._held_bytes <= BOUND_BYTES + 8 + PIECE_MAX_BYTES
    except WireError:
        assert not decoder._buffer
        assert not decoder._later


def bodies(rng: random.Random) -> None:
    """The body of a frame."""
    with contextlib.suppress(WireError):
        unpack(mutate_bytes(msgpack.packb(rng.choice(corpus.FRAMES)), rng))


def messages(rng: random.Random) -> None:
    """Messages of the engine; what is taken is what would be sent."""
    form = rng.choice(corpus.MESSAGES).to_list()
    try:
        message = decode(mutate_value(form, rng))
    except PeerProtocolError:
        return
    assert decode(unpack(msgpack.packb(message.to_list()))) == message


def handshakes(rng: random.Random) -> None:
    """Everything else that nodes say."""
    value = mutate_value(rng.choice(corpus.FRAMES), rng)
    fields = value if isinstance(value, list) else [value]
    readers: list[Callable[[list[object]], Any]] = [
        Hello.from_list,
        Standing.from_list,
        Refused.from_list,
        lambda form: Report.from_list(form[1:]),
    ]
    for read in readers:
        try:
            read(fields)
        except PeerProtocolError:
            continue


def files(rng: random.Random) -> None:
    """Configurations, records of snapshots, and the small files of a data directory."""
    readers: list[tuple[Callable[[bytes], object], bytes]] = [
        (Configuration.from_bytes, corpus.CONFIGURATION),
        (Identity.from_bytes, corpus.IDENTITY),
        (HighWater.from_bytes, corpus.HIGH_WATER),
        (decode_records, corpus.RECORDS),
    ]
    read, example = rng.choice(readers)
    with contextlib.suppress(ConfigurationError, ValueError, ChunkError):
        read(mutate_bytes(example, rng))


def clients(rng: random.Random) -> None:
    """Frames between clients and nodes."""
    decoder = protocol.Decoder(BOUND_BYTES)
    data = b"".join(
        mutate_bytes(frame, rng) if rng.random() < 0.7 else frame
        for frame in rng.choices(corpus.CLIENT_FRAMES, k=rng.randrange(1, 4))
    )
    try:
        for piece in _cut(data, rng):
            for type_, body in decoder.feed(piece):
                _client_body(type_, body)
    except ProtocolError:
        pass


def _client_body(type_: int, body: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        protocol.unpack(body)
    _unlogged_body(body)
    try:
        command = codec.decode_command(type_, body, namespace="default", principal="")
    except Invalid:
        return
    spliced = codec.command_prefix(type_, "default", "") + body
    _, listed = codec.decode_entry(codec.join_entry(1_700_000_000_000, [spliced]))
    assert listed == [command], "the door took what apply does not"


def _unlogged_body(body: bytes) -> None:
    """Give a body to every reader of requests that enter no log, whatever its type."""
    readers: tuple[Callable[[bytes], object], ...] = (
        requests.parse_hello,
        requests.parse_heartbeat,
        requests.parse_query,
        requests.parse_wait,
        requests.parse_change,
        requests.parse_log,
        requests.parse_bare,
        requests.request_id_of,
        lambda body: requests.parse_list(body, "default"),
    )
    for read in readers:
        with contextlib.suppress(requests.RequestError):
            read(body)


def entries(rng: random.Random) -> None:
    """Log entries: total, for any bytes."""
    frame = rng.choice(corpus.CLIENT_FRAMES)
    spliced = codec.command_prefix(frame[4], "default", "") + frame[5:]
    entry = codec.join_entry(1_700_000_000_000, [spliced])
    codec.decode_entry(mutate_bytes(entry, rng))


class _Socket:
    """An asyncio transport that swallows what is written."""

    def __init__(self) -> None:
        self.written_bytes = 0

    def get_extra_info(self, name: str) -> object:
        return ("127.0.0.1", 7400) if name == "peername" else None

    def write(self, data: bytes) -> None:
        self.written_bytes += len(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        """Nothing to close."""

    abort = close


class _Owner:
    """A transport that lets everyone in and hears everything."""

    limits = Limits(frame_max_bytes=BOUND_BYTES)

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.came: list[object] = []

    def opened(self, link: Link) -> bool:
        return True

    def session(self, *, dialled: bool) -> Session | None:
        return None

    def own_hello(self, to: int) -> Hello:
        return hello_of(1, to)

    def judge(self, link: Link, hello: Hello) -> Refusal | None:
        return None

    def live(self, link: Link) -> None:
        self.came.append("live")

    def state_said(self, link: Link, standing: Standing) -> None:
        self.came.append(standing)

    def message_came(self, link: Link, message: Message) -> None:
        self.came.append(message)

    def reported(self, link: Link, report: Report) -> None:
        self.came.append(report)

    def drained(self) -> None:
        """Nothing is queued."""

    def refused(self, link: Link, refusal: Refusal) -> None:
        assert isinstance(refusal, Refusal)

    def refused_by(self, link: Link, refusal: Refused) -> None:
        """Nothing to do."""

    def gone(self, link: Link, reason: str) -> None:
        self.ended.append(reason)


def links(rng: random.Random) -> None:
    """A whole connection, dialled or accepted, in its handshake or live. Needs a loop."""
    owner = _Owner()
    link = Link(owner, rng.choice((None, 3)))
    link.connection_made(cast("asyncio.BaseTransport", _Socket()))
    if rng.random() < 0.7:
        link.data_received(encode(hello_of(3, 1).to_list()))
        if link.dialled is None:
            link.data_received(encode([1]))
        assert link.phase is Phase.LIVE
    for piece in _cut(_stream(rng), rng):
        link.data_received(piece)
        assert link._decoder._held_bytes <= BOUND_BYTES + 8 + PIECE_MAX_BYTES
        if link.phase is not Phase.LIVE:
            assert link._decoder.frame_max_bytes in {HANDSHAKE_MAX_BYTES, BOUND_BYTES}
            assert all(what == "live" for what in owner.came) or link.is_closed
    link.connection_lost(None)
    assert len(owner.ended) == 1, owner.ended


class Handshake:
    """TLS handshakes of a node with certificates, from the side that is dialled.

    Args:
        dialling: Certificates of the node that dials.
        accepting: Certificates of the node that is dialled.
    """

    def __init__(self, dialling: PeerTls, accepting: PeerTls) -> None:
        self._dialling = dialling
        self._accepting = accepting

    def __call__(self, rng: random.Random) -> None:
        """Mutate one flight of a handshake, on either side, or what comes after it."""
        one = self._dialling.session(dialled=True)
        two = self._accepting.session(dialled=False)
        one.receive(b"")
        flights = [(one, two), (two, one), (one, two), (two, one)]
        struck = rng.randrange(len(flights))
        with contextlib.suppress(TlsError):
            for number, (source, sink) in enumerate(flights):
                if number == 2 and one.established:
                    one.send(b"word" * 10)
                data = source.take()
                for piece in _cut(mutate_bytes(data, rng) if number == struck else data, rng):
                    sink.receive(piece)


SIMPLE: tuple[Target, ...] = (
    frames,
    bodies,
    messages,
    handshakes,
    files,
    clients,
    entries,
    links,
)
"""Every target that needs nothing but a loop."""
