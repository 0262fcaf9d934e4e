from __future__ import annotations

import pytest

from statemachine.kinds import Policy
from statemachine.retry import backoff_ms
from tests.unit.statemachine.player import task_id

POLICY = Policy(retry_base_ms=1000, retry_cap_ms=10_000)


def wait_ms(failures: int, number: int = 1, attempt: int = 1, policy: Policy = POLICY) -> int:
    return backoff_ms(policy, failures=failures, task_id=task_id(number), attempt=attempt)


@pytest.mark.parametrize(
    ("failures", "nominal_ms"),
    [(1, 1000), (2, 2000), (3, 4000), (4, 8000), (5, 10_000), (60, 10_000), (1001, 10_000)],
)
def test_the_wait_doubles_up_to_the_cap_give_or_take_10_to_50_per_cent(
    failures: int, nominal_ms: int
) -> None:
    for number in range(300):
        off_permille = abs(wait_ms(failures, number) - nominal_ms) * 1000 // nominal_ms
        assert 99 <= off_permille <= 500


def test_tasks_that_fail_together_come_back_apart_on_both_sides() -> None:
    waits = [wait_ms(1, number) for number in range(300)]
    assert len(set(waits)) > 200
    assert 100 < sum(wait > 1000 for wait in waits) < 200


def test_the_jitter_follows_from_task_and_attempt() -> None:
    assert wait_ms(1) == wait_ms(1)
    assert wait_ms(1, number=1) != wait_ms(1, number=2)
    assert wait_ms(1, attempt=1) != wait_ms(1, attempt=2)
    assert wait_ms(3, number=7, attempt=4) == 5152


def test_a_wait_is_at_least_a_millisecond() -> None:
    shortest = Policy(retry_base_ms=1, retry_cap_ms=1)
    assert {wait_ms(1, number, policy=shortest) for number in range(50)} == {1}
