"""Addresses of servers: `tq://n1:7401,n2:7401`, `n1,n2` or a list of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tq.errors import ConfigError
from tq.protocol import DEFAULT_PORT

if TYPE_CHECKING:
    from collections.abc import Sequence

_SCHEME = "tq://"


def parse_servers(servers: str | Sequence[str]) -> tuple[str, ...]:
    """Read the endpoints of a cluster.

    Args:
        servers: One text, endpoints separated by commas, or a sequence of such
            texts. An endpoint is `host`, `host:port`, `[ipv6]` or `[ipv6]:port`;
            the port is 7401 unless said.

    Returns:
        `host:port` each, in the order given, none twice.

    Raises:
        ConfigError: There is none, or one cannot be an endpoint; the text names it.
    """
    texts = [servers] if isinstance(servers, str) else list(servers)
    endpoints: dict[str, None] = {}
    for text in texts:
        for part in text.removeprefix(_SCHEME).rstrip("/").split(","):
            if part.strip():
                host, port = split_address(part.strip())
                endpoints[join_address(host, port)] = None
    if not endpoints:
        raise ConfigError("no servers given: write them like 'tq://n1:7401,n2:7401'")
    return tuple(endpoints)


def split_address(address: str) -> tuple[str, int]:
    """Part one endpoint into host and port.

    Raises:
        ConfigError: It cannot be an endpoint.
    """
    if address.startswith("["):
        host, closed, port_text = address[1:].partition("]")
        fits = bool(closed) and (not port_text or port_text.startswith(":"))
        port_text = port_text.removeprefix(":")
    else:
        host, _, port_text = address.partition(":")
        fits = ":" not in port_text and "/" not in host and "@" not in host
    if not fits or not host:
        raise ConfigError(f"{address!r} is no endpoint: write it like 'host:7401'")
    if not port_text:
        return host, DEFAULT_PORT
    if not (port_text.isascii() and port_text.isdigit() and 0 < int(port_text) < 65_536):
        raise ConfigError(f"{address!r} is no endpoint: the port must be 1..65535")
    return host, int(port_text)


def join_address(host: str, port: int) -> str:
    """Write an endpoint as `host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
