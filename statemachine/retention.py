"""Rules of what is kept and for how long, and of settings and bare time."""

from __future__ import annotations

from typing import Final

from statemachine.checkpoint import STUB_PREFIX, is_terminal
from statemachine.commands import Advance, ChangeSettings, Retire
from statemachine.outcomes import Done
from statemachine.state import State
from statemachine.submitting import encode_stub, id_time_ms
from statemachine.task import Task, finished_at_ms_in
from statemachine.types import LIMITS, Family, TaskId, TaskState

_PHASES: Final = {
    b"c": (Family.COMPLETED, b"d"),
    b"d": (Family.DEAD_LETTER, b"s"),
    b"s": (Family.METADATA, b""),
}
"""Phase of the sweep -> (family, next phase)."""


def advance(state: State, command: Advance) -> Done:
    """Do nothing: the entry's time stamp did it."""
    return Done()


def change_settings(state: State, command: ChangeSettings) -> Done:
    """Change replicated settings; a seed only where nobody set any before it."""
    if command.is_seed and state.seeded:
        return Done()
    state.seeded = True
    state.settings = state.settings._replace(**dict(command.changes))
    state.bound_submits()
    return Done()


def retire(state: State, command: Retire) -> Done:
    """Drop what is due; ids of anything else are left alone."""
    for task_id in command.task_ids:
        _retire(state, task_id)
    return Done()


def _retire(state: State, task_id: TaskId) -> None:
    if task_id in state.live:
        return
    task = state.changes.tasks.get(task_id) or state.archived(task_id)
    remembered = not _forgettable(state, task_id)
    if task is not None:
        if not _past_retention(state, task.finished_at_ms):
            return
        if remembered:
            state.changes.stubs[task_id] = encode_stub(state, task)
        _uncount(state, task)
        state.changes.retire(task)
    elif not remembered and state.stored.stub(task_id) is not None:
        state.changes.stubs[task_id] = None


def _uncount(state: State, task: Task) -> None:
    assert is_terminal(task)
    if task.state is TaskState.COMPLETED:
        state.counters.completed_kept -= 1
    elif task.state is TaskState.CANCELLED:
        state.counters.cancelled_kept -= 1
    else:
        state.counters.dead_kept -= 1


def _past_retention(state: State, finished_at_ms: int) -> bool:
    return finished_at_ms + state.settings.retention_ms <= state.log_time_ms


def _forgettable(state: State, task_id: TaskId) -> bool:
    """Tell whether an unknown task with this id would be refused as TOO_OLD."""
    return id_time_ms(task_id) + state.settings.idempotency_window_ms < state.log_time_ms


def retirable(state: State, cursor: bytes, limit: int) -> tuple[list[TaskId], bytes]:
    """Look for what RETIRE would drop, a bounded step of a sweep over the archive.

    Args:
        state: Only read.
        cursor: Where the last step ended; empty to begin a sweep.
        limit: Records to look at, 1 or more.

    Returns:
        Ids to retire, and the cursor of the next step: empty when the sweep is over.
    """
    phase, start = cursor[:1] or b"c", cursor[1:]
    family, next_phase = _PHASES[phase]
    prefix = STUB_PREFIX if family == Family.METADATA else b""
    page = state.stored.scan(family, prefix + start, limit)
    due: list[TaskId] = []
    for key, record in page:
        task_id = key[len(prefix) :]
        if not key.startswith(prefix) or _later_ones_are_kept(state, family, task_id):
            return due, next_phase
        if state.stored.changed_since_stored(task_id):
            continue
        if prefix or _past_retention(state, finished_at_ms_in(record)):
            due.append(task_id)
    if len(page) < limit:
        return due, next_phase
    return due, phase + page[-1][0][len(prefix) :] + b"\0"


def _later_ones_are_kept(state: State, family: str, task_id: TaskId) -> bool:
    """Tell whether neither this id nor any larger one can be due.

    Ids carry their time and a task cannot finish before it was submitted, which is
    at most `LIMITS.future_ms_max` before the time in its id.
    """
    if family == Family.METADATA:
        return not _forgettable(state, task_id)
    return not _past_retention(state, id_time_ms(task_id) - LIMITS.future_ms_max)
