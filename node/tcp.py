"""The client port: sockets, their limits and their clocks; no rule about tasks.

A connection gives whole frames to the dispatcher and writes what its session
collected. Every bound that a stranger could lean on is here: connections, time for
the handshake, idle time, time for one frame, answers nobody reads.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final, Protocol, cast

from node.session import HELLO_MAX_BYTES, Limits, Outbox, Session
from tq.errors import FrameTooLarge, ProtocolError
from tq.protocol import Code, Decoder, Type, encode

SWEEP_S: Final = 1.0
_CLOSE_S: Final = 5.0
"""How long a closing connection may take to read its last answers."""
REFUSED_MAX: Final = 256
"""Connections over the limit that are told so at one time; more are closed without a word."""
_WRITE_HIGH_BYTES: Final = 1024 * 1024
TURN_BYTES: Final = 128 * 1024
"""After so much from one client the others have their turn; an event loop may otherwise
read a socket again and again for as long as it has data."""


class Receiver(Protocol):
    """Takes the frames of sessions (`node.dispatcher.Dispatcher`)."""

    def receive(self, session: Session, message_type: int, body: bytes) -> None:
        """Handle one frame; answers go to the session. Never raises for any input."""

    def closed(self, session: Session) -> None:
        """Forget a session whose connection is gone."""


class Connection(asyncio.Protocol):
    """One client connection; the `Wire` of its session."""

    def __init__(self, server: ClientServer) -> None:
        self._server = server
        self._limits = server.limits
        self._now_s = server.now_s
        self._decoder = Decoder(HELLO_MAX_BYTES)
        self._session = Session(wire=self, outbox=server.outbox, limits=server.limits)
        self._transport: asyncio.Transport | None = None
        self._opened_s = 0.0
        self._frame_s = 0.0
        """When the last whole frame came."""
        self._partial_s: float | None = None
        """When the unfinished frame began."""
        self._closing_s: float | None = None
        self._stuck_s: float | None = None
        """Since when the client, over the high-water mark, has read nothing."""
        self._unread_bytes = 0
        self._reading = True
        self._turn_bytes = 0
        self._resting = False

    # ------------------------------------------------------------ asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection; refuse it when there are too many."""
        # uvloop's transports have the methods of asyncio.Transport, not its class.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_WRITE_HIGH_BYTES)
        self._opened_s = self._frame_s = self._now_s()
        if not self._server.admit(self):
            if self._server.refused > REFUSED_MAX:
                self.abort()
                return
            text = f"the node serves {self._limits.connections_max} connections already"
            self._session.end(encode(Type.NACK, [0, Code.TOO_MANY_CONNECTIONS, text, 1000]))

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the session; its answers are dropped from here on.

        What is left is freed at once, and not when garbage is looked for: half a frame may be
        megabytes, and there may be many such connections.
        """
        del exc
        self._session.closed = True
        self._server.forget(self)
        self._server.receiver.closed(self._session)
        self._session.forget()
        self._decoder = Decoder(HELLO_MAX_BYTES)
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Cut bytes into frames and hand them over."""
        session = self._session
        if session.closing:
            return
        try:
            frames = self._decoder.feed(data)
        except ProtocolError as error:
            self._hand_over(error.frames)
            self._refuse(error)
            return
        if frames:
            self._frame_s = self._now_s()
            self._partial_s = None
            self._hand_over(frames)
        if self._decoder.held_bytes:
            if self._partial_s is None:
                self._partial_s = self._now_s()
        else:
            self._partial_s = None
        self._turn_bytes += len(data)
        if self._turn_bytes >= TURN_BYTES and not self._resting:
            self._resting = True
            self._set_reading()
            self._server.schedule(self._rested)

    def _rested(self) -> None:
        self._resting = False
        self._turn_bytes = 0
        self._set_reading()

    def pause_writing(self) -> None:
        """Stop reading from a client that does not read."""
        self._stuck_s = self._now_s()
        self._unread_bytes = 0
        self._session.stuck = True
        self._set_reading()

    def resume_writing(self) -> None:
        """Read again: the client took its answers."""
        self._stuck_s = None
        self._session.unstick()
        self._set_reading()

    # ------------------------------------------------------------ the session's side

    def write(self, data: bytes) -> None:
        """Write whole frames; abort a client that leaves too much unread."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(data)
        if transport.get_write_buffer_size() > self._limits.unread_max_bytes:
            transport.abort()

    def close(self) -> None:
        """Close after what was written has left."""
        if self._transport is not None and not self._transport.is_closing():
            self._closing_s = self._now_s()
            self._transport.close()

    def pause(self) -> None:
        """Stop reading: too much is under way."""
        self._set_reading()

    def resume(self) -> None:
        """Read again."""
        self._frame_s = self._now_s()
        self._set_reading()

    # ------------------------------------------------------------ the sweep

    def sweep(self, now_s: float) -> None:
        """Close the connection if one of its times is over."""
        limits = self._limits
        if self._closing_s is not None:
            if now_s - self._closing_s > _CLOSE_S:
                self.abort()
        elif self._stuck_s is not None:
            self._sweep_stuck(now_s)
        elif not self._reading:
            return
        elif not self._session.accepted:
            if now_s - self._opened_s > limits.handshake_s:
                self.abort()
        elif self._partial_s is not None:
            if now_s - self._partial_s > limits.frame_s:
                self.abort()
        elif now_s - self._frame_s > limits.idle_s:
            self.close()

    def _sweep_stuck(self, now_s: float) -> None:
        assert self._transport is not None
        unread_bytes = self._transport.get_write_buffer_size()
        if unread_bytes < self._unread_bytes or self._stuck_s is None:
            self._stuck_s = now_s
        elif now_s - self._stuck_s > self._limits.idle_s:
            self.abort()
        self._unread_bytes = unread_bytes

    def abort(self) -> None:
        """Close at once, dropping what was not read."""
        if self._transport is not None:
            self._transport.abort()

    def _hand_over(self, frames: list[tuple[int, bytes]]) -> None:
        session = self._session
        receive = self._server.receiver.receive
        for message_type, body in frames:
            if session.closing:
                return
            receive(session, message_type, body)
        if session.accepted:
            self._decoder.frame_max_bytes = self._limits.frame_max_bytes

    def _refuse(self, error: ProtocolError) -> None:
        if self._session.closing:
            return
        code = Code.TOO_LARGE if isinstance(error, FrameTooLarge) else Code.MALFORMED
        self._session.end(encode(Type.NACK, [0, code, str(error), None]))

    def _set_reading(self) -> None:
        wanted = not self._session.paused and self._stuck_s is None and not self._resting
        if wanted == self._reading or self._transport is None:
            return
        self._reading = wanted
        if self._transport.is_closing():
            return
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()


class ClientServer:
    """The listening socket and every connection.

    Args:
        receiver: Takes the frames.
        limits: Bounds of the port.
        now_s: The monotonic clock, seconds.
        schedule: Runs a callback soon in the event loop; the running loop's by default.
        secure: Puts TLS between a connection and its socket.
    """

    def __init__(
        self,
        receiver: Receiver,
        *,
        limits: Limits,
        now_s: Callable[[], float],
        schedule: Callable[[Callable[[], None]], object] | None = None,
        secure: Callable[[asyncio.Protocol], asyncio.Protocol] | None = None,
    ) -> None:
        self._secure = secure or (lambda connection: connection)
        self.receiver = receiver
        self.limits = limits
        self.now_s = now_s
        self.schedule = schedule or asyncio.get_running_loop().call_soon
        self.outbox = Outbox(self.schedule)
        self._connections: set[Connection] = set()
        self._refused: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._empty: asyncio.Event | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def connections(self) -> int:
        """Connections that are served."""
        return len(self._connections)

    @property
    def refused(self) -> int:
        """Connections over the limit that are still being told so."""
        return len(self._refused)

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; return the bound address.

        Raises:
            OSError: The address is in use or not ours.
        """
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: self._secure(Connection(self)), host, port)
        self._timer = loop.call_later(SWEEP_S, self._tick)
        bound = self._server.sockets[0].getsockname()
        return str(bound[0]), int(bound[1])

    def stop_accepting(self) -> None:
        """Close the listening socket; connections live on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def stop(self) -> None:
        """Write what is left, close every connection and wait a moment for it."""
        self.stop_accepting()
        if self._timer is not None:
            self._timer.cancel()
        self.outbox.flush()
        for connection in [*self._connections, *self._refused]:
            connection.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wait_empty(), _CLOSE_S)
        for connection in [*self._connections, *self._refused]:
            connection.abort()
        await self._wait_empty()

    async def _wait_empty(self) -> None:
        if self._connections or self._refused:
            self._empty = asyncio.Event()
            await self._empty.wait()

    def admit(self, connection: Connection) -> bool:
        """Count a new connection; False when there are too many."""
        if len(self._connections) >= self.limits.connections_max:
            self._refused.add(connection)
            return False
        self._connections.add(connection)
        return True

    def forget(self, connection: Connection) -> None:
        """Count a connection no longer."""
        self._connections.discard(connection)
        self._refused.discard(connection)
        if self._empty is not None and not self._connections and not self._refused:
            self._empty.set()

    def sweep(self, now_s: float) -> None:
        """Look after the clocks of every connection."""
        for connection in [*self._connections, *self._refused]:
            connection.sweep(now_s)

    def _tick(self) -> None:
        # First: a sweep that raises must not be the last one.
        self._timer = asyncio.get_running_loop().call_later(SWEEP_S, self._tick)
        self.sweep(self.now_s())
