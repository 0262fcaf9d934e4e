"""From durable records back to live state, and the record of the machine itself."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Final, cast

from statemachine.codec import pack, unpack
from statemachine.lines import Queue
from statemachine.state import Counters, State
from statemachine.task import Task, decode_task
from statemachine.types import Settings, TaskState

RECORD_VERSION: Final = 1


def encode_machine(state: State) -> bytes:
    """Return the record of everything that belongs to no task and no session."""
    return pack(
        (
            RECORD_VERSION,
            state.log_time_ms,
            state.settings,
            state.seeded,
            state.terminal_id_max,
            [getattr(state.counters, name) for name in Counters.__slots__],
        )
    )


def decode_machine(state: State, record: bytes) -> None:
    """Set what `encode_machine` recorded."""
    fields = cast("list[object]", unpack(record))
    assert fields[0] == RECORD_VERSION, f"machine record of version {fields[0]!r}"
    state.log_time_ms = cast("int", fields[1])
    state.settings = Settings(*cast("list[int]", fields[2]))
    state.seeded = cast("bool", fields[3])
    state.terminal_id_max = cast("bytes", fields[4])
    for name, value in zip(Counters.__slots__, cast("list[int]", fields[5]), strict=True):
        setattr(state.counters, name, value)


def restore_tasks(state: State, records: Iterable[tuple[str, bytes, bytes]]) -> None:
    """Put the live tasks back where they stood: lines, timers, leases.

    Args:
        state: With its sessions, and without tasks.
        records: (family, task id, record) of every live task.
    """
    leased: list[tuple[Task, int]] = []
    pending: list[Task] = []
    for family, task_id, record in records:
        task, session = decode_task(task_id, record)
        task.stored = family
        state.live[task_id] = task
        queue = state.queues.get(task.kind.queue_key)
        if queue is None:
            queue = state.queues[task.kind.queue_key] = Queue(task.kind.queue_key)
        if task.state is TaskState.IN_PROGRESS:
            queue.in_progress += 1
            leased.append((task, session))
            continue
        queue.depth += 1
        if task.state is TaskState.PENDING:
            pending.append(task)
        else:
            state.wait_until(task, task.due_at_ms)
    # In order of place, so that nearly all of them go where arriving tasks go.
    for task in sorted(pending, key=attrgetter("place")):
        state.queue_of(task).add(task)
    for task, number in sorted(leased, key=lambda held: held[0].token):
        session_of = state.sessions.get(number)
        assert session_of is not None, f"task {task.task_id.hex()} is leased to no session"
        state.leased[task.token] = task
        session_of.hold(task)
