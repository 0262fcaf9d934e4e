"""Everything the SDK raises, in one tree.

TqError
├── Unavailable        no leader answered within the deadline; certainly not accepted
├── UnknownOutcome     sent, never answered; ask again with the same task id
├── Rejected           refused by the rules; has .code, .text, .retry_after_s
│   ├── BadRequest     a field is wrong; the text names it
│   ├── ChangeRefused  the members of the cluster stay as they are; .code says why
│   ├── Conflict       this task id is taken by a task with other content
│   ├── Forbidden      the token's role does not allow this request
│   ├── LeaseLost      the token is stale: stop working, send no result
│   ├── NotCancellable the task runs already, or is over
│   ├── NotFound       no such task in this namespace
│   ├── QueueFull      the queue's depth threshold is reached
│   │   └── DiskFull   the disks of the cluster have no room for new tasks
│   ├── RateLimited    too many requests
│   ├── TooNew         the task id lies in the future: this machine's clock is ahead
│   ├── TooOld         the task id is older than the window in which it protects
│   ├── Unauthenticated
│   └── UnknownSession the worker's session is over: register again
├── TaskTimeout        waited long enough; the task goes on
├── TaskFailed         the task is over without a result; has .status
├── ProtocolError      bytes that make no sense: a bug, here or there
│   └── FrameTooLarge
└── ConfigError        an argument, an address or a use that cannot be right; nothing was sent
"""

# ruff: noqa: N818 -- what went wrong is the name: `except tq.QueueFull` needs no suffix

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tq.status import TaskStatus


class TqError(Exception):
    """Any error of the SDK.

    Attributes:
        shard: Of a `tq.ShardedClient`: the name of the shard it came from. None otherwise.
    """

    shard: str | None = None


class Unavailable(TqError):
    """No leader answered within the deadline, and nothing was accepted.

    For a request that changes nothing (status, statistics) it also stands for
    "sent, never answered".
    """


class UnknownOutcome(TqError):
    """A request was sent and never answered within its deadline.

    It may have been accepted or not. Asking again with the same task id is safe.

    Attributes:
        task_id: The task it was about, canonical UUID text; None if it was about none.
    """

    task_id: str | None = None


class Rejected(TqError):
    """The cluster understood the request and refused it.

    Attributes:
        code: One of `tq.protocol.Code`, or a code this version does not know.
        text: For humans: what, and why.
        retry_after_s: Seconds after which asking again makes sense; None if never said.
        repeated: Whether the request had been sent before, without an answer: what was refused
            is the repetition, and the first sending may be why.
    """

    repeated: bool = False

    def __init__(self, code: str, text: str, retry_after_s: float | None = None) -> None:
        super().__init__(f"{code}: {text}" if text else code)
        self.code = str(code)
        self.text = text
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[Any, ...]:
        """Say how to make this error again, in another process."""
        return type(self), (self.code, self.text, self.retry_after_s), self.__dict__


class BadRequest(Rejected):
    """A field of the request is wrong or too large; the text names it."""


class ChangeRefused(Rejected):
    """The members of the cluster stay as they are.

    `code` is `NO_SUCH_MEMBER`, `ALREADY` (there is nothing to do), `NOT_WAITING` (the node to be
    added does not answer), `NOT_CAUGHT_UP` (see `retry_after_s`), `QUORUM_AT_RISK` or
    `TOO_MANY_MEMBERS`. With `repeated`, `ALREADY` and `NO_SUCH_MEMBER` may mean that the first
    sending of this very request did it.
    """


class Conflict(Rejected):
    """The task id belongs to a task with other content, the node id to a node elsewhere."""


class Forbidden(Rejected):
    """The token of the connection is good, and its role does not allow this request."""


class LeaseLost(Rejected):
    """The token is stale: the task is someone else's now. Stop working on it."""


class NotCancellable(Rejected):
    """The task is running already, or over."""


class NotFound(Rejected):
    """There is no such task in this namespace.

    Attributes:
        applied_index: Of a stale read: the log index of the state without it. None otherwise.
    """

    applied_index: int | None = None


class QueueFull(Rejected):
    """The queue holds as many tasks as it may; see `retry_after_s`."""


class DiskFull(QueueFull):
    """The disks of the cluster have no room for new tasks; see `retry_after_s`."""


class RateLimited(Rejected):
    """Too many requests; see `retry_after_s`."""


class TooNew(Rejected):
    """The task id is more than ten minutes ahead of the cluster's time."""


class TooOld(Rejected):
    """The task id is unknown and older than the window in which ids are remembered."""


class Unauthenticated(Rejected):
    """The token of the connection is missing or wrong."""


class UnknownSession(Rejected):
    """The worker's session has ended: its leases are lost; register again."""


class TaskTimeout(TqError):
    """The wait for a task is over; the task itself goes on."""


class TaskFailed(TqError):
    """The task is over and has no result: it is a dead letter, or was cancelled.

    Attributes:
        status: The task as it ended.
    """

    def __init__(self, status: TaskStatus) -> None:
        reason = f": {status.error}" if status.error else ""
        super().__init__(f"task {status.task_id} ({status.name}) is {status.state}{reason}")
        self.status = status

    def __reduce__(self) -> tuple[Any, ...]:
        """Say how to make this error again, in another process."""
        return type(self), (self.status,), self.__dict__


class ProtocolError(TqError):
    """Bytes that are no frame, or a frame whose content makes no sense.

    Attributes:
        frames: Whole frames (type, body) that came before the trouble in the same bytes.
    """

    def __init__(self, text: str, frames: Sequence[tuple[int, bytes]] = ()) -> None:
        super().__init__(text)
        self.frames = list(frames)


class FrameTooLarge(ProtocolError):
    """A frame announces, or would need, more bytes than the limit."""


class ConfigError(TqError, ValueError):
    """An argument, an address or a use that cannot be right; nothing was sent."""


_NOT_NOW: frozenset[str] = frozenset(
    {
        "BEHIND",
        "CHANGE_UNDER_WAY",
        "HANDING_OVER",
        "NO_QUORUM",
        "NOT_SETTLED",
        "SHUTTING_DOWN",
        "TOO_MANY_CONNECTIONS",
    }
)
"""Codes of what passes: the same request is sent again, until its deadline."""

_BY_CODE: dict[str, type[Rejected]] = {
    "ALREADY": ChangeRefused,
    "BAD_REQUEST": BadRequest,
    "TOO_LARGE": BadRequest,
    "TOO_MANY_MEMBERS": ChangeRefused,
    "CONFLICT": Conflict,
    "DISK_FULL": DiskFull,
    "FORBIDDEN": Forbidden,
    "LEASE_LOST": LeaseLost,
    "NO_SUCH_MEMBER": ChangeRefused,
    "NOT_CANCELLABLE": NotCancellable,
    "NOT_CAUGHT_UP": ChangeRefused,
    "NOT_FOUND": NotFound,
    "NOT_WAITING": ChangeRefused,
    "QUEUE_FULL": QueueFull,
    "QUORUM_AT_RISK": ChangeRefused,
    "RATE_LIMITED": RateLimited,
    "TOO_NEW": TooNew,
    "TOO_OLD": TooOld,
    "UNAUTHENTICATED": Unauthenticated,
    "UNKNOWN_SESSION": UnknownSession,
}


def from_refusal(code: str, text: str, retry_after_ms: int | None = None) -> TqError:
    """Make the error that stands for a NACK, or for a refused task of a batch.

    Args:
        code: As on the wire; a code this version does not know gives a plain `Rejected`.
        text: For humans.
        retry_after_ms: The hint, in milliseconds; None if there was none.

    Returns:
        The error, not raised.
    """
    if code == "UNKNOWN_OUTCOME":
        return UnknownOutcome(text or code)
    if code in _NOT_NOW:
        return Unavailable(f"{code}: {text}" if text else code)
    retry_after_s = None if retry_after_ms is None else retry_after_ms / 1000
    return _BY_CODE.get(code, Rejected)(code, text, retry_after_s)
