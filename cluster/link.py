"""One connection between two nodes: handshake, frames, bounded outbox.

A link lives through `hello -> ready -> live -> closed`; it delivers nothing before it is
live and nothing after it was closed, whatever the socket still holds.
"""

from __future__ import annotations

import asyncio
import socket
from enum import Enum
from typing import Protocol, cast

from cluster.handshake import Hello, Kind, Refused, Standing, asker_of
from cluster.limits import Limits
from cluster.messages import Message, PeerProtocolError, decode
from cluster.refusals import Reason, Refusal
from cluster.tls import Session, TlsError, looks_like_tls
from cluster.vitals import Report
from cluster.wire import (
    HANDSHAKE_MAX_BYTES,
    Decoder,
    FrameTooLargeError,
    WireError,
    encode,
)

__all__ = ["Limits", "Link", "LinkOwner", "Phase"]


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

    def session(self, *, dialled: bool) -> Session | None:
        """Return the TLS of a new connection, None when nodes speak in the clear."""

    def own_hello(self, to: int) -> Hello:
        """Return the hello of this node."""

    def judge(self, link: Link, hello: Hello) -> Refusal | None:
        """Say why the peer is refused, None when it is welcome."""

    def live(self, link: Link) -> None:
        """Take the handshake as done."""

    def state_said(self, link: Link, standing: Standing) -> None:
        """Take what a peer says of itself and its cluster."""

    def message_came(self, link: Link, message: Message) -> None:
        """Take a message of the engine."""

    def reported(self, link: Link, report: Report) -> None:
        """Take what a peer says of itself."""

    def drained(self) -> None:
        """Act on everything that one read has brought."""

    def refused(self, link: Link, refusal: Refusal) -> None:
        """Hear that a handshake ended in a refusal, by either side."""

    def refused_by(self, link: Link, refusal: Refused) -> None:
        """Hear, after `refused`, what a peer that was dialled said with its refusal."""

    def gone(self, link: Link, reason: str) -> None:
        """Hear, once, that the link is closed; a `Refusal` is a reason to count."""


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
        self._session = owner.session(dialled=dialled is not None)
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
    def certified(self) -> int | None:
        """The node its certificate names; None when it names none, or there is no TLS."""
        return self._session.node_id if self._session else None

    @property
    def is_proved(self) -> bool:
        """Whether the other end has proved what `certified` says."""
        return self._session is not None and self._session.established

    @property
    def remote(self) -> str:
        """Address of the other end, for the log: of one that dialled its port says nothing."""
        address = self._transport.get_extra_info("peername") if self._transport else None
        if not address:
            return "an unknown address"
        return f"{address[0]}" if self.dialled is None else f"{address[0]}:{address[1]}"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        self._transport = cast("asyncio.Transport", transport)
        handle = transport.get_extra_info("socket")
        if handle is not None:
            handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self._owner.opened(self):
            self.end(Refusal(Reason.CROWDED, "too many connections in their handshake"))
            return
        self._deadline = self._loop.call_later(
            self._owner.limits.handshake_s,
            self.end,
            Refusal(Reason.TIMEOUT, "the handshake took too long"),
        )
        if self._session is not None:
            self._decrypted(b"")
        elif self.dialled is not None:
            self._write(self._owner.own_hello(self.dialled).to_list())

    def data_received(self, data: bytes) -> None:
        """Take bytes, act on whole frames."""
        if self.is_closed:
            return
        if self.heard_at == 0.0 and looks_like_tls(data) != (self._session is not None):
            self._differently_spoken()
            return
        if self._session is not None:
            data = self._decrypted(data)
        self.heard_at = self._loop.time()
        self._decoder.feed(data)
        try:
            while not self.is_closed and (fields := self._decoder.next()) is not None:
                self._frame(fields)
        except (WireError, PeerProtocolError) as error:
            self.end(self._malformed(error))
        self._owner.drained()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner at once."""
        reason = str(exc) if exc else "closed by the other side"
        if self._session is not None and not self._session.established:
            reason = Refusal(
                Reason.TLS, f"{self.remote} broke the TLS handshake off: is raft.tls set there?"
            )
        self.end(reason)
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
        self._put(frame)

    def say_state(self, standing: Standing) -> None:
        """Announce the bootstrap state and the configuration."""
        self.send(encode(standing.to_list()))

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

    def _malformed(self, error: Exception) -> Refusal:
        reason = Reason.OVERSIZED if isinstance(error, FrameTooLargeError) else Reason.MALFORMED
        return Refusal(reason, f"{self.remote} does not speak the protocol of peers: {error}")

    def _write(self, fields: list[object]) -> None:
        self._put(encode(fields, HANDSHAKE_MAX_BYTES))

    def _put(self, frame: bytes) -> None:
        if self._transport is None:
            return
        if self._session is not None:
            self._session.send(frame)
            frame = self._session.take()
        self._transport.write(frame)

    def _decrypted(self, data: bytes) -> bytes:
        """Take bytes of TLS, begin with the hello once both sides have proved who they are."""
        session = self._session
        assert session is not None, "nothing to decrypt"
        was_established = session.established
        try:
            plain = session.receive(data)
        except TlsError as error:
            self._pass_on(session.take())
            refusal = error.refusal
            self.end(Refusal(refusal.reason, f"{self.remote} {refusal}"), flush=True)
            return b""
        self._pass_on(session.take())
        if session.established and not was_established and self.dialled is not None:
            self._greet(self.dialled)
        return plain

    def _differently_spoken(self) -> None:
        """End a connection of which one side speaks TLS; the one that does not can be told."""
        if self._session is None:
            text = f"{self.remote} speaks TLS, this node does not: set raft.tls on every node"
        else:
            text = f"{self.remote} does not speak TLS: set raft.tls on every node"
            answer = Refused("this node speaks TLS: set raft.tls on every node", None)
            self._pass_on(encode(answer.to_list()[:2]))
        self.end(Refusal(Reason.TLS, text), flush=True)

    def _greet(self, peer: int) -> None:
        """Say hello to whom was meant, and to nobody else."""
        if self.certified != peer:
            text = (
                f"{self.remote} has the certificate of {_named(self.certified)}, not of node {peer}"
            )
            self._owner.refused(self, Refusal(Reason.CERTIFICATE, text))
            self.end("refused")
            return
        self._write(self._owner.own_hello(peer).to_list())

    def _pass_on(self, data: bytes) -> None:
        if data and self._transport is not None:
            self._transport.write(data)

    def _frame(self, fields: list[object]) -> None:
        kind = fields[0] if fields else None
        if self.phase is Phase.LIVE:
            self._live_frame(kind, fields)
        elif kind == Kind.REFUSED:
            refusal = Refused.from_list(fields)
            text = f"{self.remote} refused: {refusal.text}"
            self._owner.refused(self, Refusal(Reason.BY_PEER, text))
            self.end("refused")
            if self.dialled is not None:
                self._owner.refused_by(self, refusal)
        elif self.phase is Phase.HELLO and kind == Kind.QUESTION and self.dialled is None:
            self._write(self._owner.own_hello(asker_of(fields)).to_list())
            self.end("asked", flush=True)
        elif self.phase is Phase.HELLO:
            self._hello(Hello.from_list(fields))
        elif kind == Kind.READY and len(fields) == 1:
            self._go_live()
        else:
            raise PeerProtocolError("expected ready")

    def _hello(self, hello: Hello) -> None:
        reason = self._owner.judge(self, hello)
        if reason is not None:
            own = self._owner.own_hello(hello.node_id)
            known = (own.cluster_id, own.configuration_index, own.configuration)
            refusal = Refused(str(reason), *known).to_list()
            # One of another version may know the reason only.
            self._write(refusal if hello.version == own.version else refusal[:2])
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
        elif kind == Kind.STATE:
            self._owner.state_said(self, Standing.from_list(fields))
        elif kind == Kind.REPORT:
            self._owner.reported(self, Report.from_list(fields[1:]))
        elif kind != Kind.PING or len(fields) != 1:
            raise PeerProtocolError("unknown kind of frame")


def _named(node_id: int | None) -> str:
    return "no node" if node_id is None else f"node {node_id}"
