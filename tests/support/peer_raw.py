"""The two ends of a peer connection for tests: a handler that records, a peer by hand."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cluster.handshake import Hello, Kind, Refused, Standing
from cluster.identity import BootstrapState
from cluster.link import Limits
from cluster.messages import Message
from cluster.tls import PeerTls
from cluster.transport import Address, PeerTransport
from cluster.vitals import Report
from cluster.wire import FRAME_MAX_BYTES, Decoder, encode

VOTERS = (1, 2, 3)
CLUSTER = b"C" * 16
DEADLINE_S = 10.0


def hello_of(node_id: int, to: int, **changes: Any) -> Hello:
    hello = Hello(
        node_id=node_id,
        to=to,
        incarnation=1,
        state=BootstrapState.BOOTSTRAPPED,
        cluster_id=CLUSTER,
        voters=VOTERS,
        client_address=f"client-{node_id}",
        http_address=f"http-{node_id}",
        nonce=b"nonce-%02d" % node_id,
    )
    return replace(hello, **changes)


class Handler:
    """A `PeerHandler` that writes down what it hears."""

    def __init__(self, node_id: int, **changes: Any) -> None:
        self.node_id = node_id
        self.changes = changes
        self.heard: list[tuple[Any, ...]] = []
        self.refuse: str | None = None
        self.changed = asyncio.Event()

    def hello(self, to: int) -> Hello:
        return hello_of(self.node_id, to, **self.changes)

    def judge(self, hello: Hello) -> str | None:
        return self.refuse

    def note(self, *what: Any) -> None:
        self.heard.append(what)
        self.changed.set()

    def connected(self, peer: int, hello: Hello) -> None:
        self.note("connected", peer)

    def disconnected(self, peer: int, reason: str) -> None:
        self.note("disconnected", peer)

    def refused_by(self, peer: int, refusal: Refused) -> None:
        self.note("refused by", peer, refusal)

    def state_said(self, peer: int, standing: Standing) -> None:
        self.note("state", peer, standing)

    def received(self, peer: int, message: Message) -> None:
        self.note("received", peer, message)

    def reported(self, peer: int, report: Report) -> None:
        self.note("reported", peer, report)

    def drained(self) -> None:
        """Nothing is queued here."""

    def messages(self) -> list[Message]:
        return [what[2] for what in self.heard if what[0] == "received"]

    async def until(self, *what: Any, times: int = 1) -> None:
        """Wait until something was heard that often."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while self.heard.count(what) < times:
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            raise AssertionError(f"never heard {what}, but {self.heard}") from None


def make_transport(
    handler: Handler,
    addresses: Mapping[int, Address],
    *,
    bind: Address | None = None,
    limits: Limits | None = None,
    tls: PeerTls | None = None,
) -> PeerTransport:
    return PeerTransport(
        node_id=handler.node_id,
        addresses=addresses,
        bind=bind or addresses[handler.node_id],
        handler=handler,
        rng=random.Random(handler.node_id),
        limits=limits or Limits(redial_min_s=0.01, redial_max_s=0.05),
        tls=tls,
    )


class RawPeer:
    """A peer played by hand over a stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._decoder = Decoder(FRAME_MAX_BYTES)

    @classmethod
    async def dial(cls, address: Address, tls: ssl.SSLContext | None = None) -> RawPeer:
        return cls(*await asyncio.open_connection(*address, ssl=tls))

    @classmethod
    async def join(
        cls, address: Address, hello: Hello, tls: ssl.SSLContext | None = None
    ) -> RawPeer:
        """Dial and go through the handshake."""
        peer = await cls.dial(address, tls)
        await peer.say(*hello.to_list())
        answer = await peer.listen()
        assert answer is not None, "closed"
        assert answer[0] == Kind.HELLO, answer
        await peer.say(int(Kind.READY))
        return peer

    async def say(self, *fields: object) -> None:
        self.writer.write(encode(list(fields)))
        await self.writer.drain()

    async def listen(self) -> list[object] | None:
        """Return the next frame, None when the connection has ended."""
        async with asyncio.timeout(DEADLINE_S):
            while (fields := self._decoder.next()) is None:
                try:
                    data = await self.reader.read(65536)
                except ConnectionError:
                    return None
                if not data:
                    return None
                self._decoder.feed(data)
        return fields

    async def ended(self) -> None:
        """Read on until the other side has closed."""
        while await self.listen() is not None:
            pass

    def close(self) -> None:
        self.writer.close()
