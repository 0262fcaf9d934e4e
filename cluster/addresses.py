"""Peer addresses: whether they are safe, and what went wrong when one was bound."""

from __future__ import annotations

import errno
import ipaddress

Address = tuple[str, int]
"""(host, port)."""


def is_loopback(host: str) -> bool:
    """Whether an address is reachable from this host alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bind_error(host: str, port: int, error: OSError) -> str:
    """Return the sentence for an address that cannot be listened on."""
    if error.errno == errno.EADDRINUSE:
        return f"the peer address {host}:{port} is in use: stop what listens there"
    return f"the peer address {host}:{port} cannot be bound: {error.strerror}"
