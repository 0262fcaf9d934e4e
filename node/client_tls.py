"""TLS of the client port and the HTTP port: the node shows a certificate, clients a token.

`Secured` stands between a socket and the protocol that serves it, and is that protocol's
transport. So the bounds of a port (connections, time, bytes) hold from the first byte of a
connection on, its handshake included, and a client that speaks no TLS can be told so.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

from cluster.certificates import read_facts
from cluster.faults import CertificateError
from cluster.tls import check_key_mode, check_time

HANDSHAKE_BYTES_MAX: Final = 64 * 1024
"""More than any client needs before it may speak."""
_RECORD_BYTES: Final = 16_384
_TLS_HANDSHAKE: Final = 0x16
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2; those of 1.3 are all good."""


class ClientTls:
    """The certificate of a port, read and checked.

    Args:
        certificate: Of this node, with the certificates between it and its authority.
        key: Its private key.
        now: The time, with its zone.

    Attributes:
        context: For connections that are accepted.
        certificate: Where it is.
        ends: Until when it is good.
        hosts: Host names and IP addresses it is good for, as clients check them.

    Raises:
        CertificateError: One of them cannot be used; the text says which, and why.
    """

    def __init__(self, certificate: Path, key: Path, *, now: datetime.datetime) -> None:
        facts = read_facts(certificate)
        check_time(certificate, facts, now)
        if not facts.hosts:
            raise CertificateError(
                f"the certificate {certificate} names no host, so every client would refuse it: "
                "issue one with 'tq-node certificates issue DIR --id N --address HOST', with every "
                "name and IP address that clients use for this node"
            )
        check_key_mode(key)
        self.certificate = certificate
        self.ends = facts.ends
        self.hosts = facts.hosts
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_ciphers(_CIPHERS)
        # Nothing is resumed, nothing is negotiated again: both would be states of strangers.
        self.context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
        self.context.num_tickets = 0
        try:
            # Without a password here OpenSSL would ask for one at the terminal.
            self.context.load_cert_chain(certificate, key, password=lambda: b"")
        except (OSError, ssl.SSLError) as error:
            raise CertificateError(
                f"the certificate {certificate} and the key {key} cannot be used together: "
                f"{getattr(error, 'reason', None) or error.strerror or error}"
            ) from error

    def is_for(self, host: str) -> bool:
        """Whether clients that dial a host accept the certificate."""
        host = host.lower().rstrip(".")
        _, dot, parent = host.partition(".")
        return host in self.hosts or bool(dot and f"*.{parent}" in self.hosts)


class Secured(asyncio.Protocol, asyncio.Transport):
    """TLS of one connection: a protocol for the socket, a transport for what serves it.

    Args:
        inner: Serves the connection; it is told of it at once, before the handshake.
        context: Of the port.
        refused: Told with a reason of `node.gate` when there will be no TLS.
        in_the_clear: What to say, in the clear, to a client that does not speak TLS.
    """

    def __init__(
        self,
        inner: asyncio.Protocol,
        context: ssl.SSLContext,
        *,
        refused: Callable[[str], None],
        in_the_clear: bytes,
    ) -> None:
        super().__init__()
        self._inner = inner
        self._context = context
        self._count_refusal = refused
        self._in_the_clear = in_the_clear
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._socket: asyncio.Transport | None = None
        self._established = False
        self._closing = False
        self._heard_bytes = 0
        self._is_refused = False
        self._early: list[bytes] = []
        """What is said before the handshake is over, which is a refusal at most."""

    # ------------------------------------------------------------ the socket's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket."""
        # uvloop's transports have the methods of asyncio.Transport, not its class.
        self._socket = cast("asyncio.Transport", transport)
        self._inner.connection_made(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on that the socket is gone."""
        if self._heard_bytes and not self._established:
            # Often a client that does not trust the certificate.
            self._refuse("tls")
        self._closing = True
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass on that the client does not read."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that the client has read."""
        self._inner.resume_writing()

    def eof_received(self) -> None:
        """Let the socket close: half a connection is of no use."""

    def data_received(self, data: bytes) -> None:
        """Take ciphertext; hand on what it says."""
        assert self._socket is not None
        if self._socket.is_closing():
            return
        if not self._established and not self._may_go_on(data):
            return
        self._incoming.write(data)
        try:
            ended = self._advance()
        except ssl.SSLError:
            self._refuse("tls")
            self._send()  # the alert that says why
            self._socket.close()
            return
        self._send()
        if ended:
            self.close()

    def _may_go_on(self, data: bytes) -> bool:
        """Whether this can be a handshake; tell a client that speaks in the clear."""
        assert self._socket is not None
        if self._heard_bytes == 0 and data[0] != _TLS_HANDSHAKE:
            self._refuse("in_the_clear")
            self._socket.write(self._in_the_clear)
            self._socket.close()
            return False
        self._heard_bytes += len(data)
        if self._heard_bytes > HANDSHAKE_BYTES_MAX:
            self._refuse("tls")
            self._socket.abort()
            return False
        return True

    def _advance(self) -> bool:
        """Go on with the handshake, then read; True when the client says nothing more."""
        if not self._established:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                return False
            self._established = True
            for early in self._early:
                self._tls.write(early)
            self._early.clear()
            if self._closing:
                return True
        pieces: list[bytes] = []
        ended = False
        try:
            while piece := self._tls.read(_RECORD_BYTES):
                pieces.append(piece)
            ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            ended = True  # what came whole before counts
        if pieces and not self._closing:
            self._inner.data_received(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        return ended

    def _refuse(self, reason: str) -> None:
        if not self._is_refused:
            self._is_refused = True
            self._count_refusal(reason)

    def _send(self) -> None:
        if self._outgoing.pending and self._socket is not None and not self._socket.is_closing():
            self._socket.write(self._outgoing.read())

    # ------------------------------------------------------------ the inner side

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Encrypt and send; what is said before the handshake waits for it."""
        if self._closing:
            return
        if not self._established:
            self._early.append(bytes(data))
            return
        rest = memoryview(data)
        while rest:
            rest = rest[self._tls.write(rest) :]
        self._send()

    def close(self) -> None:
        """Say goodbye and close, once what was written has left."""
        assert self._socket is not None
        self._closing = True
        if self._established:
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()  # the goodbye of the other side is not waited for
            self._send()
        elif self._early:
            return  # the handshake comes first; the port's own clock bounds it
        self._socket.close()

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        if self._socket is not None:
            self._socket.abort()

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._closing or self._socket is None or self._socket.is_closing()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes the client has not read."""
        return 0 if self._socket is None else self._socket.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set from how many unread bytes on `pause_writing` is called."""
        if self._socket is not None:
            self._socket.set_write_buffer_limits(high=high, low=low)

    def pause_reading(self) -> None:
        """Stop reading the socket."""
        if self._socket is not None:
            self._socket.pause_reading()

    def resume_reading(self) -> None:
        """Read the socket again."""
        if self._socket is not None:
            self._socket.resume_reading()

    def is_reading(self) -> bool:
        """Whether the socket is read."""
        return self._socket is not None and self._socket.is_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - as asyncio has it
        """Return what is known of the connection; see `asyncio.BaseTransport`."""
        if name == "sslcontext":
            return self._context
        return default if self._socket is None else self._socket.get_extra_info(name, default)
