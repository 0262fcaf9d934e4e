"""One task in memory, and its canonical record."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from statemachine.codec import pack, unpack
from statemachine.kinds import Kind, kind_of
from statemachine.types import LIMITS, SessionId, TaskId, TaskState, Token

if TYPE_CHECKING:
    from statemachine.workers import WorkerSession

RECORD_VERSION: Final = 1
UNSETTLED: Final = -1

_FINISHED_AT: Final = 17
"""Where a record says when its task ended, see `encode_task`."""
_STATES: Final = {state.value: state for state in TaskState}

HistoryEvent: TypeAlias = tuple[int, str, str]
"""(log time in milliseconds, event, detail)."""


class Story:
    """What only some tasks have: failures, losses, progress, remarkable events.

    Attributes:
        failures: Failed attempts, charged to `retry_max`.
        lost: Lost leases, charged to `lost_max`.
        settled: Outcome that the holder of the task's latest token reported and that
            did not end the task, or UNSETTLED.
        error: Of the latest failure.
        reason: Why the task is a dead letter or cancelled.
        permille: Progress of the current attempt.
        note: Said with the progress.
        history: The latest events, at most `LIMITS.history_max`.
    """

    __slots__ = (
        "error",
        "failures",
        "history",
        "lost",
        "note",
        "permille",
        "reason",
        "settled",
    )

    def __init__(self) -> None:
        self.failures = 0
        self.lost = 0
        self.settled = UNSETTLED
        self.error = ""
        self.reason = ""
        self.permille: int | None = None
        self.note = ""
        self.history: list[HistoryEvent] = []

    def begin_attempt(self) -> None:
        """Forget what was said of the attempt before."""
        self.settled = UNSETTLED
        self.permille = None
        self.note = ""


class Task:
    """A task that is live, or terminal and not yet written.

    The payload is not here: it is a record of its own that apply never reads.

    Attributes:
        place: Position in the order of submission: `index << POSITION_BITS | n`.
        content: Digest of kind and payload if the payload is long, to tell a repeated
            submit from a conflict; None if it is short and simply compared.
        token: Of the latest claim; 0 before the first. Grows with every claim.
        attempt: Number of claims so far.
        session: Holder of the live lease. Invariant: set exactly while IN_PROGRESS.
        worker: Name of the latest holder.
        claim_id: Request id of the latest claim, by which its reply is repeated.
        lease_ms: Of the latest claim.
        due_at_ms: Log time at which a SCHEDULED or FAILED task becomes claimable.
        result: Of a terminal task: the bytes, or their number when they are a record
            of their own.
        stored: Family that holds the durable record, None if there is none yet.
    """

    __slots__ = (
        "attempt",
        "claim_id",
        "claimed_at_ms",
        "content",
        "created_at_ms",
        "due_at_ms",
        "finished_at_ms",
        "kind",
        "lease_ms",
        "place",
        "result",
        "session",
        "state",
        "stored",
        "story",
        "task_id",
        "token",
        "worker",
    )

    def __init__(
        self,
        task_id: TaskId,
        kind: Kind,
        place: int,
        created_at_ms: int,
        content: bytes | None,
    ) -> None:
        self.task_id = task_id
        self.kind = kind
        self.place = place
        self.created_at_ms = created_at_ms
        self.content = content
        self.state = TaskState.PENDING
        self.token: Token = 0
        self.attempt = 0
        self.session: WorkerSession | None = None
        self.worker: str | None = None
        self.claim_id = 0
        self.lease_ms = 0
        self.claimed_at_ms = 0
        self.due_at_ms = 0
        self.finished_at_ms = 0
        self.result: bytes | int | None = None
        self.stored: str | None = None
        self.story: Story | None = None

    def tell(self) -> Story:
        """Return the story, begun if there was none."""
        if self.story is None:
            self.story = Story()
        return self.story

    def remember(self, at_ms: int, event: str, detail: str) -> bool:
        """Add an event to the history, which drops its oldest when it is full.

        Returns:
            False if the latest event is the same: a worker that repeats itself must
            not push out what happened before.
        """
        history = self.tell().history
        detail = detail[: LIMITS.detail_chars_max]
        if history and history[-1][1:] == (event, detail):
            return False
        history.append((at_ms, event, detail))
        if len(history) > LIMITS.history_max:
            del history[0]
        return True


def content_of(kind: Kind, payload: bytes) -> bytes:
    """Return the digest that tells contents apart: 16 bytes."""
    return sha256(kind.content_prefix + payload).digest()[:16]


def long_content(kind: Kind, payload: bytes) -> bytes | None:
    """Return the digest of a long payload.

    A digest costs more than all the rest of a submit, so a short payload has none
    until it is retired; a long one has it at once, so that nothing has to read it
    again.
    """
    if len(payload) > LIMITS.compared_payload_bytes_max:
        return content_of(kind, payload)
    return None


def result_key(task_id: TaskId) -> bytes:
    """Return the key, in the payload family, of a result too long for the record."""
    return task_id + b"r"


def long_result(task: Task) -> bytes | None:
    """Return the result if it is held here and belongs in a record of its own."""
    result = task.result
    if type(result) is bytes and len(result) > LIMITS.inline_result_bytes_max:
        return result
    return None


def encode_task(task: Task) -> bytes:
    """Return the task's canonical record."""
    kind, session, story = task.kind, task.session, task.story
    result = task.result
    return pack(
        (
            RECORD_VERSION,
            kind.namespace,
            kind.queue,
            kind.name,
            kind.options,
            task.state,
            task.place,
            task.created_at_ms,
            task.content,
            task.due_at_ms,
            task.token,
            task.attempt,
            0 if session is None else session.session,
            task.worker,
            task.claim_id,
            task.lease_ms,
            task.claimed_at_ms,
            task.finished_at_ms,
            result if long_result(task) is None else len(cast("bytes", result)),
            None if story is None else _story_fields(story),
        )
    )


def _story_fields(story: Story) -> tuple[object, ...]:
    return (
        story.failures,
        story.lost,
        int(story.settled),
        story.error,
        story.reason,
        story.permille,
        story.note,
        story.history,
    )


def decode_task(task_id: TaskId, record: bytes) -> tuple[Task, SessionId]:
    """Return the task of a record, and the session that held its lease (0: none).

    The caller sets `stored`, and `session` where the lease is live.
    """
    fields = _fields_of(record)
    (_, namespace, queue, name, options, state, place, created_at_ms, content, *rest) = fields
    task = Task(
        task_id, kind_of(namespace, queue, name, dict(options)), place, created_at_ms, content
    )
    task.state = _STATES[state]
    task.due_at_ms, task.token, task.attempt, session = rest[:4]
    task.worker, task.claim_id, task.lease_ms, task.claimed_at_ms = rest[4:8]
    task.finished_at_ms, task.result, story = rest[8:]
    if story is not None:
        task.story = _story_of(story)
    return task, session


def finished_at_ms_in(record: bytes) -> int:
    """Return when the task of a record ended, 0 if it lives, without making a task of it."""
    finished_at_ms: int = _fields_of(record)[_FINISHED_AT]
    return finished_at_ms


def _fields_of(record: bytes) -> list[Any]:
    fields = cast("list[Any]", unpack(record))
    assert fields[0] == RECORD_VERSION, f"task record of version {fields[0]!r}"
    return fields


def _story_of(fields: list[Any]) -> Story:
    story = Story()
    story.failures, story.lost, story.settled, story.error, story.reason = fields[:5]
    story.permille, story.note, history = fields[5:]
    story.history = [tuple(event) for event in history]
    return story
