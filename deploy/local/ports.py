"""Ports nobody listens on."""

from __future__ import annotations

import random
import socket
from typing import Final

_HOST: Final = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Find `count` ports nobody listens on.

    They lie below the ephemeral range: a client that retries a dead port inside that
    range can be given the very port as its own end and connect to itself.
    """
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randrange(12_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind((_HOST, port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found
