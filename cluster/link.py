"""One connection between two nodes: handshake, frames, bounded outbox.

A link lives through `hello -> ready -> live -> closed`; it delivers nothing before it is
live and nothing after it was closed, whatever the socket still holds.
"""

from __future__ import annotations

import asyncio
import socket
from enum import Enum
from typing import NamedTuple, Protocol, cast

from cluster.handshake import Hello, Kind, cluster_id_of, state_of, text_of
from cluster.identity import BootstrapState
from cluster.messages import Message, PeerProtocolError, decode
from cluster.wire import FRAME_MAX_BYTES, HANDSHAKE_MAX_BYTES, Decoder, WireError, encode


class Limits(NamedTuple):
    """Bounds of the peer connections.

    Attributes:
        frame_max_bytes: Largest body of one frame between nodes that know each other.
        outbox_max_bytes: Bytes that may wait for a slow peer before it is dropped (one
            larger frame may wait alone).
        handshake_s: A connection that is not live by then ends.
        ping_s: Interval of signs of life.
        silence_max_s: A live connection that brought nothing for so long ends.
        redial_min_s: First pause before dialling again; it doubles.
        redial_max_s: Longest pause, before the jitter of a quarter.
        strangers_max: Connections that may be in their handshake at once.
    """

    frame_max_bytes: int = FRAME_MAX_BYTES
    outbox_max_bytes: int = 64 << 20
    handshake_s: float = 5.0
    ping_s: float = 1.0
    silence_max_s: float = 5.0
    redial_min_s: float = 0.05
    redial_max_s: float = 0.8
    strangers_max: int = 32


class Phase(Enum):
    """What a link waits for."""

    HELLO = "hello"
    READY = "ready"
    LIVE = "live"
    CLOSED = "closed"


class LinkOwner(Protocol):
    """What a link asks of the transport it belongs to."""

    limits: Limits

    def opened(self, link: Link) -> bool:
        """Count a connection in; False when it must go at once."""

    def own_hello(self, to: int) -> Hello:
        """Return the hello of this node."""

    def judge(self, link: Link, hello: Hello) -> str | None:
        """Say why the peer is refused, None when it is welcome."""

    def live(self, link: Link) -> None:
        """Take the handshake as done."""

    def state_said(self, link: Link, state: BootstrapState, cluster_id: bytes | None) -> None:
        """Take a bootstrap state."""

    def message_came(self, link: Link, message: Message) -> None:
        """Take a message of the engine."""

    def drained(self) -> None:
        """Act on everything that one read has brought."""

    def refused(self, link: Link, reason: str) -> None:
        """Hear that a handshake ended in a refusal, by either side."""

    def gone(self, link: Link, reason: str) -> None:
        """Hear, once, that the link is closed."""


class Link(asyncio.Protocol):
    """One connection, dialled by this node or accepted.

    Args:
        owner: The transport.
        dialled: The peer it was dialled to, None when it was accepted.
    """

    def __init__(self, owner: LinkOwner, dialled: int | None) -> None:
        self.dialled = dialled
        self.hello: Hello | None = None
        self.phase = Phase.HELLO
        self.heard_at = 0.0
        self._owner = owner
        self._decoder = Decoder(HANDSHAKE_MAX_BYTES)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self.closed: asyncio.Future[None] = self._loop.create_future()

    @property
    def is_closed(self) -> bool:
        """Whether nothing is sent or delivered any more."""
        return self.phase is Phase.CLOSED

    @property
    def peer(self) -> int:
        """The node at the other end; known once its hello was accepted."""
        assert self.hello is not None, "no hello yet"
        return self.hello.node_id

    @property
    def remote(self) -> str:
        """Address of the other end, for the log."""
        address = self._transport.get_extra_info("peername") if self._transport else None
        return f"{address[0]}:{address[1]}" if address else "an unknown address"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        self._transport = cast("asyncio.Transport", transport)
        handle = transport.get_extra_info("socket")
        if handle is not None:
            handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self._owner.opened(self):
            self.end("too many connections in their handshake")
            return
        self._deadline = self._loop.call_later(
            self._owner.limits.handshake_s, self.end, "the handshake took too long"
        )
        if self.dialled is not None:
            self._write(self._owner.own_hello(self.dialled).to_list())

    def data_received(self, data: bytes) -> None:
        """Take bytes, act on whole frames."""
        if self.is_closed:
            return
        self.heard_at = self._loop.time()
        self._decoder.feed(data)
        try:
            while not self.is_closed and (fields := self._decoder.next()) is not None:
                self._frame(fields)
        except (WireError, PeerProtocolError) as error:
            self.end(f"{self.remote} does not speak the protocol of peers: {error}")
        self._owner.drained()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner at once."""
        self.end(str(exc) if exc else "closed by the other side")
        if not self.closed.done():
            self.closed.set_result(None)

    def send(self, frame: bytes) -> None:
        """Send one encoded frame; a peer too slow to take it is dropped."""
        if self.phase is not Phase.LIVE or self._transport is None:
            return
        waiting_bytes = self._transport.get_write_buffer_size()
        if waiting_bytes and waiting_bytes + len(frame) > self._owner.limits.outbox_max_bytes:
            self.end(f"too slow: {waiting_bytes} bytes wait to be taken")
            return
        self._transport.write(frame)

    def say_state(self, state: BootstrapState, cluster_id: bytes | None) -> None:
        """Announce the bootstrap state."""
        self.send(encode([int(Kind.STATE), int(state), cluster_id]))

    def ping(self) -> None:
        """Give a sign of life."""
        self.send(encode([int(Kind.PING)]))

    def end(self, reason: str, *, flush: bool = False) -> None:
        """Close the link; nothing is delivered from here on. May be called twice.

        Args:
            reason: For the log.
            flush: Let what was written leave first.
        """
        if self.phase is Phase.CLOSED:
            return
        self.phase = Phase.CLOSED
        if self._deadline is not None:
            self._deadline.cancel()
        if self._transport is not None:
            if flush:
                self._transport.close()
            else:
                self._transport.abort()
        self._owner.gone(self, reason)

    def _write(self, fields: list[object]) -> None:
        if self._transport is not None:
            self._transport.write(encode(fields, HANDSHAKE_MAX_BYTES))

    def _frame(self, fields: list[object]) -> None:
        kind = fields[0] if fields else None
        if self.phase is Phase.LIVE:
            self._live_frame(kind, fields)
        elif kind == Kind.REFUSED and len(fields) == 2:
            self._owner.refused(self, f"{self.remote} refused: {text_of(fields[1])}")
            self.end("refused")
        elif self.phase is Phase.HELLO:
            self._hello(Hello.from_list(fields))
        elif kind == Kind.READY and len(fields) == 1:
            self._go_live()
        else:
            raise PeerProtocolError("expected ready")

    def _hello(self, hello: Hello) -> None:
        reason = self._owner.judge(self, hello)
        if reason is not None:
            self._write([int(Kind.REFUSED), reason])
            self._owner.refused(self, reason)
            self.end("refused", flush=True)
            return
        self.hello = hello
        if self.dialled is None:
            self._write(self._owner.own_hello(hello.node_id).to_list())
            self.phase = Phase.READY
        else:
            self._write([int(Kind.READY)])
            self._go_live()

    def _go_live(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._decoder.frame_max_bytes = self._owner.limits.frame_max_bytes
        self.phase = Phase.LIVE
        self._owner.live(self)

    def _live_frame(self, kind: object, fields: list[object]) -> None:
        if kind == Kind.MESSAGE and len(fields) == 2:
            self._owner.message_came(self, decode(fields[1]))
        elif kind == Kind.STATE and len(fields) == 3:
            self._owner.state_said(self, state_of(fields[1]), cluster_id_of(fields[2]))
        elif kind != Kind.PING or len(fields) != 1:
            raise PeerProtocolError("unknown kind of frame")
