"""What a connection writes: short data at once, long data in pieces.

A long frame on a slow line is under way for many seconds, in which the node can answer
nothing. Whether it moves is all there is to see, and a transport hides it: TLS does not
count what it has handed to the transport below, and neither counts what the kernel holds.
So long data is handed over a piece at a time, each when the ones before are on their way,
and the kernel is asked what it still has.

What the kernel has it goes on sending when the connection is closed, for minutes if nothing
gets through. A request would arrive when it has long been answered over another connection:
a transport that is aborted is to take it along.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from array import array
from collections import deque
from typing import TYPE_CHECKING, Any, Final

if sys.platform != "win32":
    import fcntl
    import termios

if TYPE_CHECKING:
    import asyncio

PIECE_BYTES: Final = 64 * 1024
"""Longest write. The transport below TLS takes this and as much again before it says that
it is full, which nobody can see: a line has to move that much in the time of a silence."""

_TAKE_ALONG: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
"""For SO_LINGER: wait for no time at all, then send a reset."""


class Outflow:
    """Writes to one transport, in order.

    Attributes:
        is_full: Whether more is waiting to be written than should be.
    """

    def __init__(self) -> None:
        self.is_full = False
        self._transport: asyncio.Transport | None = None
        self._socket: Any = None
        self._paused = False
        self._pieces: deque[memoryview[int]] = deque()
        self._waiting_bytes = 0
        self._accepted_bytes = 0
        self._gone_bytes = 0

    def attach(self, transport: asyncio.Transport) -> None:
        """Write to this transport from now on."""
        self._transport = transport
        self._socket = transport.get_extra_info("socket")
        transport.set_write_buffer_limits(high=PIECE_BYTES)

    def write(self, data: bytes) -> None:
        """Write, or keep what has to wait until the transport has room."""
        assert self._transport is not None
        self._accepted_bytes += len(data)
        if not self._pieces and len(data) <= PIECE_BYTES:
            self._transport.write(data)
            return
        whole = memoryview(data)
        self._pieces.extend(whole[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES))
        self._waiting_bytes += len(data)
        self._pump()

    def pause(self) -> None:
        """Note that the transport is full."""
        self._paused = self.is_full = True

    def resume(self) -> None:
        """Go on, since the transport has room."""
        self._paused = False
        self._pump()

    def finish(self) -> None:
        """Hand over all that waits, room or not: the transport is about to be closed."""
        transport = self._transport
        while self._pieces and transport is not None and not transport.is_closing():
            transport.write(self._pieces.popleft())
        self._pieces.clear()
        self._waiting_bytes = 0

    def abort(self) -> None:
        """Close the transport at once, with all that it and the kernel still hold."""
        transport = self._transport
        if transport is None:
            return
        # Of one that is closing the socket may be gone, and its number be another's.
        if self._socket is not None and not transport.is_closing():
            with contextlib.suppress(OSError, ValueError):  # not this system
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _TAKE_ALONG)
        transport.abort()

    def has_moved(self) -> bool:
        """Tell whether some of a long frame left since the last time this was asked.

        False when nothing is left to be sent: what the kernel on the other side has taken
        is no sign of life.
        """
        assert self._transport is not None
        left_bytes = self._waiting_bytes + self._transport.get_write_buffer_size()
        left_bytes += self._in_kernel_bytes()
        gone_bytes = self._accepted_bytes - left_bytes
        moved = left_bytes > 0 and gone_bytes > self._gone_bytes
        self._gone_bytes = gone_bytes
        return moved

    def _pump(self) -> None:
        assert self._transport is not None
        while self._pieces and not self._paused and not self._transport.is_closing():
            piece = self._pieces.popleft()
            self._waiting_bytes -= len(piece)
            self._transport.write(piece)
        self.is_full = self._paused or bool(self._pieces)

    def _in_kernel_bytes(self) -> int:
        """Return how much of something long the other side has not acknowledged; 0 if unknown.

        Less than a piece is the traffic of every day, and says nothing: small requests to a
        node that hangs move too.
        """
        if self._socket is None or sys.platform == "win32":
            return 0
        queued = array("i", [0])
        with contextlib.suppress(OSError, ValueError):  # not this system, or just closed
            fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, queued)
        return queued[0] if queued[0] >= PIECE_BYTES else 0
