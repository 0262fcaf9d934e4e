"""Asks a running node over HTTP how it is; nothing but the standard library is imported.

Whoever runs this may run it every few seconds, in a container with little to spare.
"""

from __future__ import annotations

import contextlib
import http.client
import sys
from collections.abc import Sequence
from typing import Final, NamedTuple

from node.addresses import Address, is_any_address

TIMEOUT_S: Final = 3.0
LIVE: Final = "/livez"
READY: Final = "/readyz"

_HTTPS: Final = "https://"
_HTTP: Final = "http://"
_TEXT_MAX_BYTES: Final = 4096


class Target(NamedTuple):
    """Where a node serves HTTP.

    Attributes:
        address: Host and port.
        tls: Whether it speaks TLS there.
    """

    address: Address
    tls: bool = False

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read `HOST:PORT` or `https://HOST:PORT`.

        Raises:
            ValueError: It is neither.
        """
        rest = text.removeprefix(_HTTPS).removeprefix(_HTTP).removesuffix("/")
        return cls(Address.parse(rest), text.startswith(_HTTPS))

    @classmethod
    def of_listener(cls, address: Address, *, tls: bool) -> Target:
        """Return where a listener of this host is reached."""
        if is_any_address(address.host):
            address = Address("::1" if ":" in address.host else "127.0.0.1", address.port)
        return cls(address, tls)

    def __str__(self) -> str:
        return f"{_HTTPS}{self.address}" if self.tls else str(self.address)


def ask(target: Target, path: str = LIVE, *, timeout_s: float = TIMEOUT_S) -> str:
    """Return what is wrong with a node, "" when it is well.

    Args:
        target: Where it serves HTTP.
        path: `LIVE` or `READY`.
        timeout_s: How long its answer may take, seconds.
    """
    connection = _connection(target, timeout_s)
    try:
        connection.request("GET", f"{path}?verbose")
        answer = connection.getresponse()
        text = answer.read(_TEXT_MAX_BYTES).decode("utf-8", "replace").strip()
    except TimeoutError:
        return f"no answer within {timeout_s:g} s"
    except (OSError, http.client.HTTPException) as error:
        return f"not reachable: {getattr(error, 'strerror', None) or error or type(error).__name__}"
    finally:
        connection.close()
    return "" if answer.status == 200 else "; ".join(text.split("\n"))


def _connection(target: Target, timeout_s: float) -> http.client.HTTPConnection:
    host, port = target.address
    if not target.tls:
        return http.client.HTTPConnection(host, port, timeout=timeout_s)
    import ssl  # noqa: PLC0415 - only this case pays for it

    # Nothing secret is said, and the certificate is for other names than the loopback's.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)


def run(arguments: Sequence[str]) -> int | None:
    """Do what a command line asks, if it is a plain `healthcheck --http WHERE [--ready]`.

    Returns:
        The exit code; None when the whole command line is needed to understand it.
    """
    if list(arguments[:1]) != ["healthcheck"]:
        return None
    rest = list(arguments[1:])
    path = LIVE
    if "--ready" in rest:
        rest.remove("--ready")
        path = READY
    if len(rest) != 2 or rest[0] != "--http":
        return None
    target = None
    with contextlib.suppress(ValueError):
        target = Target.parse(rest[1])
    return None if target is None else report(target, path)


def report(target: Target, path: str) -> int:
    """Ask, and print the answer in a line; return the exit code."""
    flaw = ask(target, path)
    if flaw:
        sys.stderr.write(f"tq-node: {target}: {flaw}\n")
        return 1
    sys.stdout.write("ok\n")
    return 0
