"""What a program is told of its cluster by the environment: TQ_SERVERS, TQ_CA, TQ_TOKEN."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from tq.errors import ConfigError

_TOKEN_MAX_BYTES: Final = 2048


def servers_of_environment() -> str | None:
    """Return TQ_SERVERS, None if it is not set."""
    return os.environ.get("TQ_SERVERS") or None


def ca_of_environment() -> str | None:
    """Return TQ_CA, the file of the authority that is trusted; None if it is not set."""
    return os.environ.get("TQ_CA") or None


def token_of_environment() -> str | None:
    """Return what TQ_TOKEN says, or the file that TQ_TOKEN_FILE names; None if neither is set.

    Raises:
        ConfigError: Both are set, or the file cannot be read or holds no token.
    """
    token, path = os.environ.get("TQ_TOKEN", "").strip(), os.environ.get("TQ_TOKEN_FILE")
    if token and path:
        raise ConfigError("TQ_TOKEN and TQ_TOKEN_FILE are both set: unset one of them")
    return read_token(path) if path else token or None


def read_token(path: str | Path) -> str:
    """Read a token from a file that holds nothing else.

    Raises:
        ConfigError: It cannot be read, or does not hold one word.
    """
    try:
        with Path(path).open("rb") as stream:
            data = stream.read(_TOKEN_MAX_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise ConfigError(f"cannot read the token in {path}: {reason}") from error
    words = data.decode("utf-8", "replace").split()
    if len(words) != 1 or len(data) > _TOKEN_MAX_BYTES:
        raise ConfigError(f"{path} must hold one token and nothing else")
    return words[0]
