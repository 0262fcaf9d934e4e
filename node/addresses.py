"""Network addresses as operators write them: ``HOST:PORT``, IPv6 in brackets."""

from __future__ import annotations

import errno
import ipaddress
import re
from typing import NamedTuple

_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?", re.ASCII)
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)


class Address(NamedTuple):
    """A host (name or IP, IPv6 without brackets) and a TCP port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``127.0.0.1:7400``, ``host:7400`` or ``[::1]:7400``.

        Raises:
            ValueError: With a sentence that names what is wrong.
        """
        host, colon, port = text.rpartition(":")
        if not colon or not host:
            raise ValueError("must be HOST:PORT")
        if host.startswith("[") and host.endswith("]"):
            host = _ip6(host[1:-1])
        elif ":" in host:
            raise ValueError("an IPv6 address needs brackets: [::1]:7400")
        if not _PORT.fullmatch(port) or int(port) > 65535:
            raise ValueError(f"the port must be a number from 0 to 65535, not {port[:20]!r}")
        return cls(parse_host(host), int(port))

    @property
    def key(self) -> tuple[str, int]:
        """Equal for two spellings of the same loopback address."""
        host = self.host.lower()
        return ("127.0.0.1" if host == "localhost" else host, self.port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_host(text: str) -> str:
    """Check a host name or an IP address; nothing is resolved.

    Raises:
        ValueError: It is neither.
    """
    if ":" in text:
        return _ip6(text)
    if len(text) > 253 or not _HOST_NAME.fullmatch(text):
        raise ValueError(f"{text[:60]!r} is not a host name or an IP address")
    if re.fullmatch(r"[0-9.]+", text):
        try:
            ipaddress.IPv4Address(text)
        except ValueError:
            raise ValueError(f"{text[:60]!r} is not an IPv4 address") from None
    return text


def is_loopback(host: str) -> bool:
    """Whether only processes of this machine can reach a listener on ``host``.

    Names other than ``localhost`` count as reachable from elsewhere: what they resolve to
    can change after the check.
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_any_address(host: str) -> bool:
    """Whether a listener on ``host`` takes connections to every address of this machine."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _ip6(text: str) -> str:
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise ValueError(f"{text[:60]!r} is not an IPv6 address") from None


def listen_error(kind: str, address: Address, error: OSError, *, flag: str) -> OSError:
    """Return the error for an address that cannot be listened on, with what to do about it.

    Args:
        kind: Whose address: `client` or `HTTP`.
        address: As it was configured.
        error: What the system said.
        flag: Where another one can be given.
    """
    if error.errno == errno.EADDRINUSE:
        remedy = f"stop what listens there, or choose another port with {flag} HOST:PORT"
        return OSError(f"the {kind} address {address} is in use: {remedy}")
    return OSError(f"the {kind} address {address} cannot be used: {error}")
