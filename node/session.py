"""What the node knows of one client connection, apart from its socket.

Answers are collected in the session and leave in one write per turn of the event
loop; `node.tcp` owns the socket.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from node.tokens import Role

_LOG = logging.getLogger(__name__)

HELLO_MAX_BYTES: Final = 4096
"""Longest frame before HELLO was accepted, bytes."""
ROOM_BYTES: Final = 1024 * 1024
"""Answers that one turn of the loop collects for one client before long ones wait."""


@dataclass(frozen=True)
class Limits:
    """Bounds of the client port; times in seconds, sizes in bytes."""

    connections_max: int = 1000
    frame_max_bytes: int = 16 * 1024 * 1024
    handshake_s: float = 30.0
    idle_s: float = 30.0
    frame_s: float = 30.0
    in_flight_max: int = 4096
    """Unanswered requests of one connection before its socket is no longer read."""
    in_flight_max_bytes: int = 32 * 1024 * 1024
    """The same, by the length of the requests."""
    parked_max: int = 10_000
    """Claims and waits of one connection that may be parked."""
    unread_max_bytes: int = 64 * 1024 * 1024
    """Answers a client has not read before its connection is aborted."""


class Wire(Protocol):
    """The socket of a session, as `node.tcp` offers it."""

    def write(self, data: bytes) -> None:
        """Hand over bytes of whole frames."""

    def close(self) -> None:
        """Close after what was written has left."""

    def pause(self) -> None:
        """Stop reading."""

    def resume(self) -> None:
        """Read again."""


class _Gone:
    """The wire of a session whose socket is gone."""

    def write(self, data: bytes) -> None:
        """Drop it: nobody is there to read it."""

    def close(self) -> None:
        """It is closed."""

    def pause(self) -> None:
        """Nothing comes any more."""

    def resume(self) -> None:
        """Nothing comes any more."""


_GONE: Final = _Gone()


class Outbox:
    """The sessions that have answers to write, flushed once per turn of the loop.

    Args:
        schedule: Runs a callback soon in the event loop (`loop.call_soon`).
    """

    def __init__(self, schedule: Callable[[Callable[[], None]], object]) -> None:
        self._schedule = schedule
        self._dirty: list[Session] = []

    def mark(self, session: Session) -> None:
        """Note that `session` has something to write."""
        if not self._dirty:
            self._schedule(self.flush)
        self._dirty.append(session)

    def flush(self) -> None:
        """Write what was collected: one write per session.

        Whatever goes wrong with one must not reach the others: a session that is passed over
        here is not marked again, and nothing would ever leave it.
        """
        dirty, self._dirty = self._dirty, []
        for session in dirty:
            try:
                session.flush()
            except Exception:  # noqa: BLE001 - see above
                _LOG.exception("the answers to a client could not be written")
                session.give_up()


@dataclass(slots=True, eq=False)
class Session:
    """One client connection.

    Args:
        wire: Its socket.
        outbox: Collects the sessions that have answers.
        limits: Bounds of the port.
    """

    wire: Wire
    outbox: Outbox
    limits: Limits
    accepted: bool = False
    """HELLO was accepted."""
    closed: bool = False
    closing: bool = False
    name: str = ""
    namespace: str = "default"
    principal: str = ""
    role: Role = Role.ADMIN
    """What the token of HELLO allows; everything where there are no tokens."""
    prefixes: dict[int, bytes] = field(default_factory=dict)
    """Head of a spliced command by type: it depends on namespace and principal alone."""
    parked: set[object] = field(default_factory=set)
    """Claims and waits of this connection in the waiting room."""
    in_flight: int = 0
    in_flight_bytes: int = 0
    paused: bool = False
    stuck: bool = False
    """The client has not read what was written."""
    _out: list[bytes] = field(default_factory=list)
    _out_bytes: int = 0
    _waiting: deque[Callable[[], None]] = field(default_factory=deque)
    """What makes long answers, held back until the client has read the ones before."""

    def send(self, frame: bytes) -> None:
        """Queue one whole frame; drop it if the connection is gone."""
        if self.closed or self.closing:
            return
        if not self._out:
            self.outbox.mark(self)
        self._out.append(frame)
        self._out_bytes += len(frame)

    def when_room(self, answer: Callable[[], None]) -> None:
        """Make a long answer now, or once the client has read what waits for it.

        A short request may ask for megabytes: answering all of them as they come would
        fill the memory and stop the loop for everybody else.

        Args:
            answer: Makes and sends it; not called if the connection ends before.
        """
        if self._waiting or not self.has_room:
            self._waiting.append(answer)
        else:
            answer()

    def unstick(self) -> None:
        """Go on: the client has read."""
        self.stuck = False
        self._catch_up()

    def end(self, frame: bytes) -> None:
        """Queue a last frame and close the connection once it has left."""
        self.send(frame)
        self.closing = True

    def flush(self) -> None:
        """Write what was queued, in one piece."""
        out, self._out = self._out, []
        self._out_bytes = 0
        if self.closed:
            self._waiting.clear()
            return
        if out:
            self.wire.write(out[0] if len(out) == 1 else b"".join(out))
        if self.closing:
            self._waiting.clear()
            self.wire.close()
        if self._waiting:
            self._catch_up()

    @property
    def has_room(self) -> bool:
        """Whether a long answer may be made now."""
        return not self.stuck and self._out_bytes < ROOM_BYTES

    def give_up(self) -> None:
        """Close: answers are lost, and the client must not wait for them."""
        self.closing = True
        self._waiting.clear()
        with contextlib.suppress(Exception):
            self.wire.close()

    def forget(self) -> None:
        """Let go of everything: the connection is gone.

        Requests under way hold the session until they are answered. It must not hold the
        socket in return, nor what waits for its client, which holds the session again: that
        is a circle, and full collections are rare.
        """
        self.closed = True
        self.stuck = False
        self.wire = _GONE
        self._out = []
        self._out_bytes = 0
        self._waiting.clear()
        self.prefixes.clear()

    def _catch_up(self) -> None:
        """Make the answers that there is room for; one that fails holds up no others."""
        while self._waiting and self.has_room and not self.closed:
            try:
                self._waiting.popleft()()
            except Exception:  # noqa: BLE001 - see above
                _LOG.exception("a long answer could not be made")

    def begin(self, size_bytes: int) -> None:
        """Count a request that is under way; stop reading when too much is."""
        self.in_flight += 1
        self.in_flight_bytes += size_bytes
        if not self.paused and (
            self.in_flight >= self.limits.in_flight_max
            or self.in_flight_bytes >= self.limits.in_flight_max_bytes
        ):
            self.paused = True
            self.wire.pause()

    def settle(self, size_bytes: int) -> None:
        """Count a request that is no longer under way; read again when half is done."""
        self.in_flight -= 1
        self.in_flight_bytes -= size_bytes
        if (
            self.paused
            and self.in_flight <= self.limits.in_flight_max // 2
            and self.in_flight_bytes <= self.limits.in_flight_max_bytes // 2
        ):
            self.paused = False
            if not self.closed:
                self.wire.resume()
