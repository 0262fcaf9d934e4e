"""Connecting to a node: TCP, or TLS with a certificate that names the host dialled.

With an authority (`ca`) every connection is TLS and every certificate is checked, also those
of nodes a redirect names. Without, connections are in the clear, and a token is sent over
loopback only. What goes wrong is told in words that say what to do.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from typing import TYPE_CHECKING, Final

from tq.addresses import split_address
from tq.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

GOODBYE_S: Final = 1.0
"""How long the end of a TLS connection may take, seconds."""

_EXPIRED: Final = 10
_NOT_YET_VALID: Final = 9
_OTHER_HOST: Final = frozenset({62, 64})
_UNKNOWN_ISSUER: Final = frozenset({2, 18, 19, 20, 21})
_NO_TLS: Final = frozenset(
    {"WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"}
)


class TlsError(ConnectionError):
    """No connection, because of TLS; the text says why and what to do."""


class Dialler:
    """Makes the connections of a client.

    Args:
        ca: File with the certificates of the authorities that are trusted; None speaks in
            the clear.
        has_token: Whether what is sent first proves who we are.

    Raises:
        ConfigError: The file cannot be used.
    """

    def __init__(self, *, ca: str | Path | None = None, has_token: bool = False) -> None:
        self._ca = ca
        self._has_token = has_token
        self._context = None if ca is None else _trusting(ca)

    async def __call__(self, address: str, protocol: asyncio.Protocol) -> None:
        """Connect `protocol` to `host:port`.

        Raises:
            OSError: Nobody listens there, the name is unknown or cannot be one, or there is no
                TLS with it.
            ConfigError: The token would be sent in the clear.
        """
        self.check(address)
        host, port = split_address(address)
        try:
            await self._connect(host, port, protocol)
        except ValueError as error:  # what it is made of; the resolver was not even asked
            raise OSError(f"{host[:80]!r} cannot be the name of a host") from error

    async def _connect(self, host: str, port: int, protocol: asyncio.Protocol) -> None:
        loop = asyncio.get_running_loop()
        if self._context is None:
            await loop.create_connection(lambda: protocol, host, port)
            return
        try:
            await loop.create_connection(
                lambda: protocol,
                host,
                port,
                ssl=self._context,
                server_hostname=host,
                ssl_shutdown_timeout=GOODBYE_S,
            )
        except ssl.SSLError as error:
            raise TlsError(self._told(error, host)) from error
        except ConnectionError as error:
            if not error.errno:  # asyncio's own: the node closed before TLS was there
                raise TlsError("closed during the TLS handshake") from error
            raise

    def check(self, address: str) -> None:
        """Refuse to send a token where others could read it.

        Raises:
            ConfigError: It would be.
        """
        if self._has_token and self._context is None:
            host, _ = split_address(address)
            if not _is_loopback(host):
                raise ConfigError(
                    f"the token would be sent to {host} in the clear: give the file with the "
                    "certificate of the cluster's authority (TQ_CA=ca.pem, or ca= in Python)"
                )

    def _told(self, error: ssl.SSLError, host: str) -> str:
        if isinstance(error, ssl.SSLCertVerificationError):
            return self._unverified(error, host)
        if error.reason in _NO_TLS:
            return (
                "does not speak TLS here: leave out the authority (TQ_CA, ca=) if the cluster "
                "has no certificates for clients, or correct the port"
            )
        return f"no TLS: {error.reason or error}"

    def _unverified(self, error: ssl.SSLCertVerificationError, host: str) -> str:
        code = error.verify_code
        if code in _OTHER_HOST:
            return (
                f"its certificate is not for {host}: dial it by a name it has, or issue one with "
                f"'tq-node certificates issue ... --address {host}'"
            )
        if code in _UNKNOWN_ISSUER:
            return f"its certificate was not issued by an authority in {self._ca}"
        if code == _EXPIRED:
            return "its certificate has expired"
        if code == _NOT_YET_VALID:
            return "its certificate is not valid yet: compare the clocks of the hosts"
        return f"its certificate is not valid: {error.verify_message}"


def _trusting(ca: str | Path) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        if isinstance(error, ssl.SSLError):
            raise ConfigError(f"{ca} holds no certificate in PEM form") from error
        reason = (error.strerror or type(error).__name__).lower()
        raise ConfigError(f"cannot read the authority's certificate {ca}: {reason}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
