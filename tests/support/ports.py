"""Port numbers no other test is using: below the ephemeral range, unique on this machine.

A client that retries a dead loopback port inside the ephemeral range can be given that very
port as its own, connect to itself, and keep the restarted server from binding. So the
numbers come from below 32768, from one counter that all test processes of a user share
under a lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import tempfile
from pathlib import Path

_FIRST = 10_240
_END = 32_000
_TRIES_MAX = 4_000


def free_ports(count: int) -> list[int]:
    """Return `count` loopback TCP ports that nothing listens on and no other test was given."""
    ports: list[int] = []
    with (Path(tempfile.gettempdir()) / f"tq-test-ports-{os.getuid()}").open("a+") as counter:
        fcntl.flock(counter, fcntl.LOCK_EX)
        counter.seek(0)
        number = _FIRST
        with contextlib.suppress(ValueError):
            number = int(counter.read())
        for _ in range(_TRIES_MAX):
            if len(ports) == count:
                break
            number = number + 1 if _FIRST <= number < _END - 1 else _FIRST
            if _is_free(number):
                ports.append(number)
        counter.seek(0)
        counter.truncate()
        counter.write(str(number))
    assert len(ports) == count, f"only {len(ports)} free ports found"
    return ports


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
