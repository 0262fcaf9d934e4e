"""What stands between clients and the node: the certificates of its ports, and the tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

from cluster.tls import today
from node.addresses import Address
from node.client_tls import ClientTls, Secured
from node.config import Config
from node.config_values import PortTlsFiles
from node.gate import Gate
from node.tokens import read_tokens
from tq.protocol import Code, Type, encode

_IN_THE_CLEAR: Final = encode(
    Type.NACK,
    [
        0,
        Code.UNAUTHENTICATED,
        "this port speaks TLS: give the client the certificate of this cluster's authority "
        "(TQ_CA=ca.pem, or ca= in Python)",
        None,
    ],
)
"""What a client is told that speaks in the clear where TLS is spoken."""


class Entrance(NamedTuple):
    """What stands between clients and the node.

    Attributes:
        gate: Knows the tokens.
        clients: Certificate of the client port, None to speak in the clear.
        http: Of the HTTP port.
    """

    gate: Gate
    clients: ClientTls | None
    http: ClientTls | None

    def secure(self, connection: asyncio.Protocol) -> asyncio.Protocol:
        """Put TLS between a connection of the client port and its socket."""
        if self.clients is None:
            return connection
        return Secured(
            connection, self.clients.context, refused=self.gate.refused, in_the_clear=_IN_THE_CLEAR
        )

    def trouble(self, address: str) -> str:
        """Say why clients that are sent to an address would not believe it, "" if they would."""
        host = Address.parse(address).host
        if self.clients is None or self.clients.is_for(host):
            return ""
        return (
            f"the certificate {self.clients.certificate} does not name {host}, where clients are "
            f"sent to: issue one with '--address {host}', or set broker.advertised_address"
        )

    @property
    def ends_s(self) -> list[float]:
        """Until when the certificates are good, seconds since the Unix epoch."""
        return [tls.ends.timestamp() for tls in (self.clients, self.http) if tls is not None]


def entrance(config: Config, *, now_s: Callable[[], float]) -> Entrance:
    """Read tokens and certificates.

    Args:
        config: Of the node.
        now_s: The monotonic clock, seconds.

    Raises:
        TokensError: The file of tokens cannot be used.
        CertificateError: A certificate cannot be used.
    """
    path = config.auth.tokens_file
    tokens = None if path is None else read_tokens(path)
    gate = Gate(tokens, now_s=now_s)
    return Entrance(gate, _port_tls(config.broker.tls), _port_tls(config.api.tls))


def _port_tls(files: PortTlsFiles | None) -> ClientTls | None:
    return None if files is None else ClientTls(*files, now=today())
