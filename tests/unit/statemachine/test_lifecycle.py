"""The transition table, the page drawn from it, and what the machine really does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from statemachine import TaskState
from statemachine.lifecycle import INITIAL, TRANSITIONS, Event, after, allows
from statemachine.types import FAMILY_OF, TERMINAL

PAGE = (Path(__file__).parents[3] / "docs" / "lifecycle.md").read_text()


def test_the_drawing_shows_the_table() -> None:
    drawn = set(re.findall(r"^    (\S+) --> (\S+?)(?:: (.+))?$", PAGE, re.MULTILINE))
    table: set[tuple[str, str, str]] = {("[*]", state, event) for event, state in INITIAL.items()}
    table |= {
        (before, behind, event)
        for event, moves in TRANSITIONS.items()
        for before, behind in moves.items()
    }
    table |= {(state, "[*]", "") for state in TERMINAL}
    assert table == drawn


def test_the_page_explains_every_state_and_event() -> None:
    rows = dict(re.findall(r"^\| `([a-z_ ]+)` \| .*?(?:\| `([a-z_]+)` )?\|$", PAGE, re.MULTILINE))
    families = {state.value: FAMILY_OF[state] for state in TaskState}
    assert families | dict.fromkeys(map(str, Event), "") == rows


def test_every_state_can_be_reached_and_left_unless_terminal() -> None:
    reached = set(INITIAL.values()) | {
        state for moves in TRANSITIONS.values() for state in moves.values()
    }
    left = {state for moves in TRANSITIONS.values() for state in moves}
    assert reached == set(TaskState)
    assert left == set(TaskState) - set(TERMINAL)


def test_a_move_outside_the_table_is_a_broken_invariant() -> None:
    assert not allows(Event.COMPLETE, TaskState.PENDING)
    with pytest.raises(AssertionError, match="complete of a task that is pending"):
        after(Event.COMPLETE, TaskState.PENDING)
