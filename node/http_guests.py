"""Bounds of the HTTP port: how many connections, how long each, and TLS if it has any.

The library that serves HTTP waits for a request as long as its client likes, and for as many
clients as come. Here a connection has `GUEST_S` for everything, its handshake included;
clients that keep theirs open connect again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

from node.client_tls import ClientTls, Secured

GUESTS_MAX: Final = 256
"""Connections at one time."""
GUEST_S: Final = 60.0
"""How long a connection may stay, seconds."""

_IN_THE_CLEAR: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b"This port speaks TLS: write https:// and trust this cluster's authority (ca.pem).\n"
)


class Guests:
    """Makes the protocols of a port's connections, and counts them.

    Args:
        serve: Makes what serves one connection.
        tls: The port's certificate, None to speak in the clear.
        refused: Told with a reason of `node.gate` when somebody was not let in.
        guests_max: Connections at one time; one more is closed at once.
        guest_s: How long each may stay, seconds.
    """

    def __init__(
        self,
        serve: Callable[[], asyncio.Protocol],
        *,
        tls: ClientTls | None,
        refused: Callable[[str], None],
        guests_max: int = GUESTS_MAX,
        guest_s: float = GUEST_S,
    ) -> None:
        self._serve = serve
        self._tls = tls
        self._refused = refused
        self._guests_max = guests_max
        self._guest_s = guest_s
        self._guests: set[_Guest] = set()

    def make(self) -> asyncio.Protocol:
        """Return the protocol of one more connection."""
        inner = self._serve()
        if self._tls is not None:
            inner = Secured(
                inner, self._tls.context, refused=self._refused, in_the_clear=_IN_THE_CLEAR
            )
        return _Guest(self, inner)

    def admit(self, guest: _Guest) -> float | None:
        """Count a connection; return how long it may stay, None when there are too many."""
        if len(self._guests) >= self._guests_max:
            return None
        self._guests.add(guest)
        return self._guest_s

    def forget(self, guest: _Guest) -> None:
        """Count a connection no longer."""
        self._guests.discard(guest)


class _Guest(asyncio.Protocol):
    """One connection, handed on to what serves it."""

    def __init__(self, guests: Guests, inner: asyncio.Protocol) -> None:
        self._guests = guests
        self._inner = inner
        self._timer: asyncio.TimerHandle | None = None
        self._served = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        socket = cast("asyncio.Transport", transport)
        stay_s = self._guests.admit(self)
        if stay_s is None:
            socket.abort()
            return
        self._served = True
        self._timer = asyncio.get_running_loop().call_later(stay_s, socket.abort)
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._guests.forget(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._served:
            self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._served:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._served else None

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()
