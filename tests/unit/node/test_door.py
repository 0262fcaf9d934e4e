"""Progress reports at the door."""

from __future__ import annotations

import time
from typing import cast

import pytest

from node.door import Door
from node.requests import RequestError
from statemachine import Machine, Progress


def a_door() -> Door:
    return Door(cast("Machine", None), payload_max_bytes=1000)


def report(token: int) -> Progress:
    return Progress(7, "default", "", b"t" * 16, token, 500, "")


def is_taken(door: Door, token: int, now_s: float) -> bool:
    try:
        door.progress(report(token), now_s=now_s)
    except RequestError:
        return False
    return True


@pytest.mark.parametrize("began_s", [0.0, 1000.0, 1000.7])
def test_a_token_reports_once_a_second_whenever_it_began(began_s: float) -> None:
    door = a_door()
    last_s: dict[int, float] = {}
    for step in range(400):
        now_s = began_s + step * 0.0625
        token = step % 7 if step % 3 else 0
        due = token not in last_s or now_s - last_s[token] >= 1.0
        assert is_taken(door, token, now_s) == due, (token, now_s)
        if due:
            last_s[token] = now_s


def test_a_report_that_comes_too_soon_is_told_how_long_to_wait() -> None:
    door = a_door()
    assert is_taken(door, 1, 5.5)
    assert is_taken(door, 2, 6.25)
    for token, left_ms in ((1, 125), (2, 875)):
        with pytest.raises(RequestError) as caught:
            door.progress(report(token), now_s=6.375)
        assert (caught.value.code, caught.value.request_id) == ("RATE_LIMITED", 7)
        assert caught.value.retry_after_ms == left_ms


def test_tokens_that_reported_long_ago_are_forgotten() -> None:
    door = a_door()
    for token in range(1000):
        assert is_taken(door, token, 5.0)
    assert is_taken(door, 2000, 6.0)
    assert is_taken(door, 2001, 7.0)
    assert sum(len(table) for table in vars(door).values() if isinstance(table, dict)) == 2
    assert is_taken(door, 2002, 9.0), "after a pause both seconds are past"
    assert sum(len(table) for table in vars(door).values() if isinstance(table, dict)) == 1


def test_tens_of_thousands_of_tasks_may_report_in_the_same_second() -> None:
    door = a_door()
    began_s = time.process_time()
    for token in range(30_000):
        door.progress(report(token), now_s=5.0)
    assert time.process_time() - began_s < 0.5, "a report costs microseconds"
