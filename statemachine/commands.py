"""Commands: what a decoded log entry asks the machine to do.

Client commands carry the namespace and the principal that the server put in
front of the client's body; internal ones come from the leader itself.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple, TypeAlias

from statemachine.kinds import Kind
from statemachine.types import SessionId, TaskId, Token


class CommandType(IntEnum):
    """Type byte of a command; those from 0x40 are refused from clients."""

    REGISTER_WORKER = 0x02
    DEREGISTER_WORKER = 0x03
    SUBMIT_TASK = 0x05
    SUBMIT_BATCH = 0x06
    CLAIM_TASK = 0x07
    TASK_RESULT = 0x08
    EXTEND = 0x09
    PROGRESS = 0x0A
    RELEASE = 0x0B
    CANCEL_TASK = 0x0C
    ADVANCE = 0x40
    EXPIRE = 0x41
    EXPIRE_SESSIONS = 0x42
    RETIRE = 0x43
    SETTINGS = 0x44


class TaskOutcome(IntEnum):
    """How a worker says a task ended."""

    SUCCESS = 0
    FAILURE = 1
    FAILURE_FINAL = 2
    """Failed, and trying again is of no use."""


class Submit(NamedTuple):
    """Add one task."""

    request_id: int
    namespace: str
    principal: str
    task_id: TaskId
    kind: Kind
    payload: bytes


class NewTask(NamedTuple):
    """One task of a batch."""

    task_id: TaskId
    kind: Kind
    payload: bytes


class SubmitBatch(NamedTuple):
    """Add many tasks; each is answered for itself, all or nothing is not promised."""

    request_id: int
    namespace: str
    principal: str
    tasks: tuple[NewTask, ...]


class Claim(NamedTuple):
    """Lease up to `tasks_max` tasks of the queues to a worker's session.

    `wait_ms` is for the server, which parks a claim that found nothing; the
    machine ignores it.
    """

    request_id: int
    namespace: str
    principal: str
    session: SessionId
    queues: tuple[str, ...]
    tasks_max: int
    wait_ms: int


class TaskResult(NamedTuple):
    """Complete or fail a leased task."""

    request_id: int
    namespace: str
    principal: str
    task_id: TaskId
    token: Token
    outcome: TaskOutcome
    result: bytes
    error: str


class Extend(NamedTuple):
    """Change the length of one lease."""

    request_id: int
    namespace: str
    principal: str
    task_id: TaskId
    token: Token
    lease_ms: int


class Progress(NamedTuple):
    """Record how far a leased task is."""

    request_id: int
    namespace: str
    principal: str
    task_id: TaskId
    token: Token
    permille: int
    note: str


class Release(NamedTuple):
    """Give a leased task back; neither budget is charged."""

    request_id: int
    namespace: str
    principal: str
    task_id: TaskId
    token: Token


class Cancel(NamedTuple):
    """End a task that does not run."""

    request_id: int
    namespace: str
    principal: str
    task_id: TaskId
    reason: str


class RegisterWorker(NamedTuple):
    """Open a session for a worker; an older session of the same worker ends."""

    request_id: int
    namespace: str
    principal: str
    worker_id: bytes
    name: str
    queues: tuple[str, ...]
    capabilities: tuple[tuple[str, str], ...]
    """Sorted by name."""


class DeregisterWorker(NamedTuple):
    """Close a session and release its leases."""

    request_id: int
    namespace: str
    principal: str
    session: SessionId


class Advance(NamedTuple):
    """Nothing but the entry's time stamp: lets due timers act."""

    request_id: int = 0


class Expire(NamedTuple):
    """Take leases away that the leader saw run out."""

    leases: tuple[tuple[TaskId, Token], ...]
    request_id: int = 0


class ExpireSessions(NamedTuple):
    """End sessions whose workers went silent; their leases are lost."""

    sessions: tuple[SessionId, ...]
    request_id: int = 0


class Retire(NamedTuple):
    """Drop terminal records past retention and stubs past the idempotency window."""

    task_ids: tuple[TaskId, ...]
    request_id: int = 0


class ChangeSettings(NamedTuple):
    """Change replicated settings; those not named stay as they are.

    A seed, which holds what a new leader's file says, has no effect once anybody set any:
    the machine decides that and not the leader, which may not have applied it yet.
    """

    changes: tuple[tuple[str, int], ...]
    """(name of a field of `Settings`, value), sorted by name."""
    is_seed: bool = False
    request_id: int = 0


class Malformed(NamedTuple):
    """Stands where bytes of an entry gave no command."""

    text: str


ClientCommand: TypeAlias = (
    Submit
    | SubmitBatch
    | Claim
    | TaskResult
    | Extend
    | Progress
    | Release
    | Cancel
    | RegisterWorker
    | DeregisterWorker
)
InternalCommand: TypeAlias = Advance | Expire | ExpireSessions | Retire | ChangeSettings
Command: TypeAlias = ClientCommand | InternalCommand
