"""What an exit code of `tq-admin` means; scripts rely on it."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from tq.errors import (
    BadRequest,
    ChangeRefused,
    ConfigError,
    Conflict,
    Forbidden,
    NotCancellable,
    NotFound,
    TaskTimeout,
    TooNew,
    TooOld,
    TqError,
    Unauthenticated,
    Unavailable,
    UnknownOutcome,
)


class Exit(IntEnum):
    """Exit codes, part of the interface."""

    OK = 0
    ERROR = 1
    """Anything else; also a task that ended without a result, and a cluster nobody could see."""
    USAGE = 2
    NOT_FOUND = 3
    UNAUTHENTICATED = 4
    CONFLICT = 5
    DEGRADED = 6
    NO_QUORUM = 7
    TIMEOUT = 8
    """Not over in time, or sent and never answered: it may have happened."""


_BY_ERROR: Final[tuple[tuple[type[TqError], Exit], ...]] = (
    (NotFound, Exit.NOT_FOUND),
    (Unauthenticated, Exit.UNAUTHENTICATED),
    (Forbidden, Exit.UNAUTHENTICATED),
    (Conflict, Exit.CONFLICT),
    (ChangeRefused, Exit.CONFLICT),
    (NotCancellable, Exit.CONFLICT),
    (TooOld, Exit.CONFLICT),
    (TooNew, Exit.CONFLICT),
    (BadRequest, Exit.USAGE),
    (ConfigError, Exit.USAGE),
    (Unavailable, Exit.NO_QUORUM),
    (UnknownOutcome, Exit.TIMEOUT),
    (TaskTimeout, Exit.TIMEOUT),
)


def exit_for(error: TqError) -> Exit:
    """Return the exit code that stands for an error."""
    if isinstance(error, ChangeRefused) and error.code == "NO_SUCH_MEMBER":
        return Exit.NOT_FOUND
    for kind, code in _BY_ERROR:
        if isinstance(error, kind):
            return code
    return Exit.ERROR
