"""What the cluster says of a task: `TaskStatus`, read from a status map of the wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tq.errors import ProtocolError
from tq.ids import TaskId

if TYPE_CHECKING:
    from collections.abc import Mapping

TERMINAL_STATES = frozenset({"completed", "dead_letter", "cancelled"})
"""States a task never leaves by itself."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a task.

    Attributes:
        at_ms: Log time, milliseconds since the Unix epoch.
        event: What: `submitted`, `claimed`, `failed`, ...
        detail: For humans; often empty.
    """

    at_ms: int
    event: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStatus:
    """A task as the cluster sees it; a linearizable read unless `applied_index` is set.

    Attributes:
        task_id: Chosen by the submitter.
        queue: Its line.
        name: The task function's name.
        namespace: Where its queue lives.
        state: `scheduled`, `pending`, `in_progress`, `failed` (waits for its next
            attempt), `completed`, `dead_letter` or `cancelled`.
        priority: 0..255, higher first.
        attempt: Claims so far; 0 before the first.
        failures: Attempts that ended with an error.
        lost: Attempts whose worker lost its lease.
        created_at_ms: Log time of the submit, milliseconds since the Unix epoch.
        due_at_ms: When it may be claimed (again); None if that is not a matter of time.
        finished_at_ms: When it became terminal; None before.
        result: What the successful attempt gave; None before.
        error: The last error text; None if there was none.
        progress: Permille, as the worker said; None if it never did.
        note: The worker's words with it.
        worker: Name of the worker that holds or held it last; None before the first claim.
        history: The latest events, oldest first.
        result_bytes: Of a list, which leaves long results and histories out: the length of
            the result. None otherwise.
        applied_index: Of a stale read: the log index of the state it shows. None otherwise.
    """

    task_id: TaskId
    queue: str
    name: str
    namespace: str
    state: str
    priority: int
    attempt: int
    failures: int
    lost: int
    created_at_ms: int
    due_at_ms: int | None = None
    finished_at_ms: int | None = None
    result: bytes | None = None
    error: str | None = None
    progress: int | None = None
    note: str | None = None
    worker: str | None = None
    history: tuple[Event, ...] = ()
    result_bytes: int | None = None
    applied_index: int | None = None

    @property
    def is_final(self) -> bool:
        """Whether the task is over: completed, dead letter or cancelled."""
        return self.state in TERMINAL_STATES

    @classmethod
    def from_map(cls, status: Mapping[str, Any], *, applied_index: int | None = None) -> TaskStatus:
        """Read a status map of the wire.

        Keys this version does not know are passed over.

        Args:
            status: The map.
            applied_index: What a stale read named with it.

        Raises:
            ProtocolError: A field that must be there is missing, or makes no sense.
        """
        try:
            return cls(
                task_id=TaskId.from_bytes(status["task_id"]),
                queue=status["queue"],
                name=status["name"],
                namespace=status["namespace"],
                state=status["state"],
                priority=status["priority"],
                attempt=status["attempt"],
                failures=status["failures"],
                lost=status["lost"],
                created_at_ms=status["created_at_ms"],
                due_at_ms=status.get("due_at_ms"),
                finished_at_ms=status.get("finished_at_ms"),
                result=status.get("result"),
                error=status.get("error"),
                progress=status.get("progress"),
                note=status.get("note"),
                worker=status.get("worker"),
                history=tuple(Event(*event) for event in status.get("history", ())),
                result_bytes=status.get("result_bytes"),
                applied_index=applied_index,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ProtocolError(f"the status map makes no sense: {error!r}") from None
