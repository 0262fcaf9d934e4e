"""Bytes on their way through the proxy: directions, the flows in them, sockets, connections."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Final

from chaos.links import PASS, Link

_HELD_MAX_BYTES: Final = 256 * 1024
_DRIP_S: Final = 0.05
_RESET: Final = struct.pack("ii", 1, 0)  # linger for no time


class Way:
    """One direction: its policy, and what flows in it."""

    def __init__(self, rng: random.Random) -> None:
        self.policy = PASS
        self.flows: dict[Flow, None] = {}
        self.bytes = 0
        self._rng = rng

    def delay_s(self) -> float:
        """Draw how long a piece takes."""
        if self.policy.mode != "delay":
            return 0.0
        return self._rng.uniform(self.policy.low_ms, self.policy.high_ms) / 1000


class Flow:
    """One direction of one connection: bytes, then the end, in order."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._held: deque[tuple[float, bytes | None]] = deque()
        self._held_bytes = 0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.source: End | None = None
        self.sink: End | None = None
        self.sink_full = False
        self.begun = False
        way.flows[self] = None

    def take(self, piece: bytes | None) -> None:
        """Take what the source sent; None is its end."""
        straight = self.begun and not self._held and self._way.policy.mode == "pass"
        if straight and piece is not None:
            self._write(piece)
            return
        now = asyncio.get_running_loop().time()
        self._due = max(self._due, now + self._way.delay_s())
        self._held.append((self._due, piece))
        self._held_bytes += len(piece or b"")
        self.turn()

    def turn(self) -> None:
        """Hand on what may go now; the policy may have changed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.begun:  # some loops read before they are told not to
            return
        policy = self._way.policy
        if policy.mode == "slow":
            self._drip(policy.rate)
        elif policy.mode != "drop":
            self._hand_on(heed_due=policy.mode == "delay")
        if self.source is not None:
            held = policy.mode == "drop" or self._held_bytes > _HELD_MAX_BYTES
            self.source.listen(held=held or self.sink_full)

    def close(self) -> None:
        """Hand nothing on any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._held.clear()
        self.source = self.sink = None
        self._way.flows.pop(self, None)

    def _hand_on(self, *, heed_due: bool) -> None:
        loop = asyncio.get_running_loop()
        while self._held and not self.sink_full:
            due, piece = self._held[0]
            if heed_due and due > loop.time():
                self._timer = loop.call_at(due, self.turn)
                return
            self._held.popleft()
            self._held_bytes -= len(piece or b"")
            self._write(piece)

    def _drip(self, rate: int) -> None:
        left = max(1, int(rate * _DRIP_S))
        while self._held and left > 0 and not self.sink_full:
            due, piece = self._held.popleft()
            if piece is not None and len(piece) > left:
                self._held.appendleft((due, piece[left:]))
                piece = piece[:left]
            left -= len(piece or b"")
            self._held_bytes -= len(piece or b"")
            self._write(piece)
        if self._held:
            self._timer = asyncio.get_running_loop().call_later(_DRIP_S, self.turn)

    def _write(self, piece: bytes | None) -> None:
        if self.sink is None:
            return
        if piece is None:
            self.sink.finish()
        else:
            self._way.bytes += len(piece)
            self.sink.write(piece)


class End(asyncio.Protocol):
    """One of the two sockets of a connection.

    Args:
        out: Takes what is read here.
        into: Brings what is written here.
        made: Is told of the open socket.
        lost: Is told of its end.
    """

    def __init__(
        self, out: Flow, into: Flow, *, made: Callable[[], None], lost: Callable[[], None]
    ) -> None:
        self._out = out
        self._into = into
        self._made = made
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._paused = False

    @property
    def is_open(self) -> bool:
        """Between the beginning and the end of the socket."""
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102 - asyncio's
        self._transport = transport  # type: ignore[assignment]  # a stream has one of both ways
        self._out.source = self
        self._into.sink = self
        self._made()

    def data_received(self, data: bytes) -> None:  # noqa: D102 - asyncio's
        self._out.take(data)

    def eof_received(self) -> bool:  # noqa: D102 - asyncio's
        self._out.take(None)
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102 - asyncio's
        self._out.source = None
        self._into.sink = None
        self._out.take(None)
        self._lost()

    def pause_writing(self) -> None:  # noqa: D102 - asyncio's
        self._into.sink_full = True
        self._into.turn()

    def resume_writing(self) -> None:  # noqa: D102 - asyncio's
        self._into.sink_full = False
        self._into.turn()

    def listen(self, *, held: bool) -> None:
        """Read from the socket, or leave what comes to the kernel and so to the sender."""
        if self._transport is None or held == self._paused or self._transport.is_closing():
            return
        self._paused = held
        if held:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def write(self, piece: bytes) -> None:
        """Send."""
        if self.is_open and self._transport is not None:
            self._transport.write(piece)

    def finish(self) -> None:
        """Close when all is sent: nobody here goes on speaking to one that has stopped."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Reset the connection."""
        if self._transport is not None:
            # Without this the kernel would say that the end has come in good order.
            if self.is_open:
                handle = self._transport.get_extra_info("socket")
                handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()


class Connection:
    """A connection of a dialler through a link: two ends, two flows."""

    def __init__(self, link: Link, out: Way, back: Way, gone: Callable[[Connection], None]) -> None:
        self.link = link
        self._ways = (out, back)
        self._forth, self._back = Flow(out), Flow(back)
        self._gone = gone
        self._dialling: asyncio.Task[None] | None = None
        self.near = End(self._forth, self._back, made=self._accepted, lost=self._ended)
        self.far: End | None = None

    @property
    def blocked(self) -> bool:
        """No handshake of TCP gets through."""
        return any(way.policy.mode == "drop" for way in self._ways)

    def turn(self) -> None:
        """A policy has changed: dial if this had to wait for it."""
        if self._dialling is not None or self.far is not None or not self.near.is_open:
            return
        if any(way.policy.mode == "refuse" for way in self._ways):
            self.near.abort()
        elif not self.blocked:
            self._dialling = asyncio.create_task(self._dial())

    def abort(self) -> None:
        """Reset both ends."""
        for end in (self.near, self.far):
            if end is not None:
                end.abort()
        self._ended()

    def halve(self) -> None:
        """Reset the dialler's end; the other is never told."""
        for flow in (self._forth, self._back):
            flow.sink = None
        self.near.abort()

    def _accepted(self) -> None:
        self.near.listen(held=True)
        self.turn()

    async def _dial(self) -> None:
        self.far = End(self._back, self._forth, made=self._reached, lost=self._ended)
        far = self.far
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: far, "127.0.0.1", self.link.upstream)
        except OSError:
            self.near.abort()

    def _reached(self) -> None:
        if not self.near.is_open and self.far is not None:
            self.far.abort()
        for flow in (self._forth, self._back):
            flow.begun = True
            flow.turn()

    def _ended(self) -> None:
        """Forget the connection when both ends are gone."""
        if not self.near.is_open and (self.far is None or not self.far.is_open):
            self._forth.close()
            self._back.close()
            self._gone(self)
