"""Rules of submit: once for each id, in order, and not without bound."""

from __future__ import annotations

from typing import Final, cast

from statemachine.codec import pack, unpack
from statemachine.commands import Submit, SubmitBatch
from statemachine.kinds import Kind
from statemachine.lines import Queue
from statemachine.outcomes import Accepted, BatchAccepted, Refused
from statemachine.state import State
from statemachine.task import Task, content_of, long_content
from statemachine.types import (
    LIMITS,
    POSITION_BITS,
    QUEUE_FULL_RETRY_MS,
    Code,
    TaskId,
    TaskState,
)

STUB_VERSION: Final = 1
_COMPARED_BYTES_MAX: Final = LIMITS.compared_payload_bytes_max

_CONFLICT: Final = Refused(Code.CONFLICT, "the task id is taken by a task with other content")


def submit(state: State, command: Submit) -> Accepted | Refused:
    """Add one task."""
    return _submit(state, command.task_id, command.kind, command.payload)


def submit_batch(state: State, command: SubmitBatch) -> BatchAccepted:
    """Add many tasks, each for itself."""
    return BatchAccepted(
        [_submit(state, task_id, kind, payload) for task_id, kind, payload in command.tasks]
    )


def _submit(state: State, task_id: TaskId, kind: Kind, payload: bytes) -> Accepted | Refused:
    changes = state.changes
    if (
        task_id in state.live
        or task_id in changes.tasks
        # Compared here too: this spares nearly every submit the call.
        or task_id <= state.terminal_id_max
    ):
        answer = _answer_if_known(state, task_id, kind, payload)
        if answer is not None:
            return answer
    if state.submits_of != state.index:
        state.expect_submits()
    if not state.id_oldest <= task_id < state.id_newest:
        return _untimely(state, task_id)
    queue = state.queues.get(kind.queue_key)
    if queue is None:
        queue = Queue(kind.queue_key)
    elif queue.depth >= state.depth_max:
        return _full(queue)
    place = state.next_token
    if place >= state.token_end:
        return Refused(Code.RATE_LIMITED, "the log entry holds too many tasks", QUEUE_FULL_RETRY_MS)
    state.next_token = place + 1
    if not queue.depth:
        state.queues[kind.queue_key] = queue
    queue.depth += 1
    size = len(payload)
    content = content_of(kind, payload) if size > _COMPARED_BYTES_MAX else None
    task = Task(task_id, kind, place, state.log_time_ms, content)
    state.live[task_id] = changes.tasks[task_id] = task
    changes.payloads[task_id] = payload
    changes.extra_bytes += size
    state.counters.submitted += 1
    if kind.delay_ms:
        task.state = TaskState.SCHEDULED
        state.wait_until(task, state.log_time_ms + kind.delay_ms)
    else:
        queue.add(task)
        state.ready[kind.queue_key] = None
    return state.accepted


def _answer_if_known(
    state: State, task_id: TaskId, kind: Kind, payload: bytes
) -> Accepted | Refused | None:
    """Answer as the first time if it is the same task; None if the id is unknown."""
    task = known_task(state, task_id)
    if task is not None:
        same, place = _same_content(state, task, kind, payload), task.place
    else:
        stub = stub_of(state, task_id)
        if stub is None:
            return None
        content, place = stub
        same = content == content_of(kind, payload)
    return Accepted(place >> POSITION_BITS) if same else _CONFLICT


def _same_content(state: State, task: Task, kind: Kind, payload: bytes) -> bool:
    if task.kind.content_prefix != kind.content_prefix:
        return False
    if task.content != long_content(kind, payload):
        return False
    return task.content is not None or state.stored.payload(task.task_id) == payload


def known_task(state: State, task_id: TaskId) -> Task | None:
    """Return the task of any namespace that has this id, live or terminal."""
    return state.live.get(task_id) or state.changes.tasks.get(task_id) or state.archived(task_id)


def stub_of(state: State, task_id: TaskId) -> tuple[bytes, int] | None:
    """Return (content, place) of a task that was retired."""
    if task_id > state.terminal_id_max:
        return None
    stub = state.stored.stub(task_id)
    if stub is None:
        return None
    _, content, place, _ = cast("tuple[int, bytes, int, str]", unpack(stub))
    return content, place


def _untimely(state: State, task_id: TaskId) -> Refused:
    """Refuse an unknown id that may have been forgotten, or that is from the future."""
    if task_id < state.id_oldest:
        return Refused(
            Code.TOO_OLD, "the task id is older than the idempotency window and not known"
        )
    return Refused(
        Code.TOO_NEW, f"the task id is more than {LIMITS.future_ms_max} ms ahead of log time"
    )


def _full(queue: Queue) -> Refused:
    return Refused(
        Code.QUEUE_FULL,
        f"queue {queue.key[1]} holds {queue.depth} waiting tasks",
        QUEUE_FULL_RETRY_MS,
    )


def id_time_ms(task_id: TaskId) -> int:
    """Return the creation time inside a UUID version 7, milliseconds since the epoch."""
    return int.from_bytes(task_id[:6], "big")


def encode_stub(state: State, task: Task) -> bytes:
    """Return what is remembered of a terminal task after its record went."""
    content = task.content
    if content is None:
        payload = state.stored.payload(task.task_id)
        assert payload is not None
        content = content_of(task.kind, payload)
    return pack((STUB_VERSION, content, task.place, task.state.value))
