"""The life of a task as a table: which event takes it from which state to which.

Everything that moves a task reads this table, so a move that is not in it breaks
an assertion and never happens silently. `docs/lifecycle.md` is drawn from it and a
test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from statemachine.types import TERMINAL, TaskState


class Event(StrEnum):
    """What can happen to a task that exists."""

    CLAIM = "claim"
    COMPLETE = "complete"
    FAIL = "fail"
    FAIL_FOR_GOOD = "fail for good"
    EXPIRE = "expire"
    EXPIRE_FOR_GOOD = "expire for good"
    RELEASE = "release"
    CANCEL = "cancel"
    BECOME_DUE = "become due"


INITIAL: Final = MappingProxyType(
    {"submit": TaskState.PENDING, "submit with delay": TaskState.SCHEDULED}
)
"""State a task starts in."""

TRANSITIONS: Final[Mapping[Event, Mapping[TaskState, TaskState]]] = MappingProxyType(
    {
        Event.CLAIM: {TaskState.PENDING: TaskState.IN_PROGRESS},
        Event.COMPLETE: {TaskState.IN_PROGRESS: TaskState.COMPLETED},
        Event.FAIL: {TaskState.IN_PROGRESS: TaskState.FAILED},
        Event.FAIL_FOR_GOOD: {TaskState.IN_PROGRESS: TaskState.DEAD_LETTER},
        Event.EXPIRE: {TaskState.IN_PROGRESS: TaskState.PENDING},
        Event.EXPIRE_FOR_GOOD: {TaskState.IN_PROGRESS: TaskState.DEAD_LETTER},
        Event.RELEASE: {TaskState.IN_PROGRESS: TaskState.PENDING},
        Event.CANCEL: {
            TaskState.SCHEDULED: TaskState.CANCELLED,
            TaskState.PENDING: TaskState.CANCELLED,
            TaskState.FAILED: TaskState.CANCELLED,
        },
        Event.BECOME_DUE: {
            TaskState.SCHEDULED: TaskState.PENDING,
            TaskState.FAILED: TaskState.PENDING,
        },
    }
)

assert tuple(TRANSITIONS) == tuple(Event)
assert not any(state in moves for moves in TRANSITIONS.values() for state in TERMINAL)


def after(event: Event, state: TaskState) -> TaskState:
    """Return the state that `event` leads to; the move must be in the table."""
    moves = TRANSITIONS[event]
    assert state in moves, f"{event} of a task that is {state}"
    return moves[state]


def allows(event: Event, state: TaskState) -> bool:
    """Tell whether `event` can happen to a task in `state`."""
    return state in TRANSITIONS[event]
