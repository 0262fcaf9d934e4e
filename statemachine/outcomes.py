"""What applying an entry gives: a reply per command, and hints for the leader.

Refusals are values. The hints (`ready`, `finished`, `advance_due`) may be lost
or repeated and never carry truth.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from statemachine.types import Code, LogIndex, QueueKey, SessionId, TaskId, TaskState, Token


class Accepted(NamedTuple):
    """The task exists; `log_index` is that of the entry that first added it."""

    log_index: LogIndex


class Refused(NamedTuple):
    """The command changed nothing that was asked for."""

    code: Code
    text: str
    retry_after_ms: int | None = None


class BatchAccepted(NamedTuple):
    """One answer for each task of a batch, in order."""

    replies: list[Accepted | Refused]


class Grant(NamedTuple):
    """One leased task; its payload is fetched apart, by `Machine.payload`."""

    task_id: TaskId
    token: Token
    queue: str
    name: str
    attempt: int
    """Number of this claim of the task, from 1."""
    lease_ms: int
    timeout_ms: int
    place: int
    """Position in the order of submission; stays the same over attempts."""


class Granted(NamedTuple):
    """The leases of a claim; empty when nothing is ready."""

    grants: list[Grant]


class Recorded(NamedTuple):
    """A result or a cancellation was taken."""

    state: TaskState
    run_ms: int | None = None
    """Log time from claim to result; None when it was not this command that ended it."""


class Registered(NamedTuple):
    """A worker's new session."""

    session: SessionId
    lease_ms: int


class Done(NamedTuple):
    """The command was taken and there is nothing to tell."""


Reply: TypeAlias = Accepted | BatchAccepted | Granted | Recorded | Registered | Done | Refused


class Outcome(NamedTuple):
    """Everything that applying one entry gave."""

    replies: list[Reply]
    """One for each command of the entry, in order."""
    ready: list[QueueKey]
    """Queues that received claimable tasks, each once, in order of the first one."""
    finished: list[TaskId]
    """Tasks that became terminal."""
    advance_due: bool
    """More timers are due than one entry may handle: propose ADVANCE again."""


class Lease(NamedTuple):
    """A live lease, for the leader's clock."""

    task_id: TaskId
    token: Token
    session: SessionId
    lease_ms: int


class Session(NamedTuple):
    """A registered worker; `tokens` are its live leases in order of claiming."""

    session: SessionId
    worker_id: bytes
    name: str
    queues: tuple[str, ...]
    capabilities: tuple[tuple[str, str], ...]
    namespace: str
    principal: str
    registered_at_ms: int
    tokens: list[Token]
