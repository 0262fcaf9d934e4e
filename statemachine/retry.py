"""When a failed task is tried again: exponential backoff with repeatable jitter."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from statemachine.kinds import Policy
from statemachine.types import TaskId

_DOUBLINGS_MAX: Final = 40
"""Enough to pass any cap from any base; keeps the numbers small."""

JITTER_PERMILLE_MIN: Final = 100
JITTER_PERMILLE_MAX: Final = 500


def backoff_ms(policy: Policy, *, failures: int, task_id: TaskId, attempt: int) -> int:
    """Return how long a task waits after a failure.

    The nominal wait is `retry_base_ms * 2^(failures-1)`, at most `retry_cap_ms`. It
    is shortened or lengthened by 10 to 50 per cent, so that tasks which failed
    together do not come back together. The jitter follows from the task and the
    attempt: replicas agree on it without drawing a number.

    Args:
        policy: The task's options.
        failures: Failed attempts so far, this one included; 1 or more.
        task_id: Of the task.
        attempt: Number of the attempt that failed.

    Returns:
        Milliseconds, 1 or more.
    """
    assert failures >= 1
    nominal_ms = min(policy.retry_base_ms << min(failures - 1, _DOUBLINGS_MAX), policy.retry_cap_ms)
    drawn = int.from_bytes(sha256(task_id + attempt.to_bytes(8, "big")).digest()[:8], "big")
    width = JITTER_PERMILLE_MAX - JITTER_PERMILLE_MIN + 1
    size = JITTER_PERMILLE_MIN + (drawn >> 1) % width
    permille = 1000 + size if drawn & 1 else 1000 - size
    return max(1, nominal_ms * permille // 1000)
