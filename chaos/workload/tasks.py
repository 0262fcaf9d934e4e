"""The tasks of a run: what is submitted under which id, drawn from the seed."""

from __future__ import annotations

import random
import zlib
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

from chaos.workload.plan import QUEUES
from tq import NewTask, Retry, TaskId

_RECENT_MAX: Final = 2_000
_TOLD_MAX: Final = 5
_PRIORITIES: Final = (100, 100, 100, 100, 50, 200)


@dataclass(frozen=True, slots=True)
class Spec:
    """A task as it is submitted; the same each time its id is.

    Attributes:
        task_id: The id.
        queue: Its line.
        priority: 0..255.
        delay_ms: Not before.
        payload: Opaque.
        retry_max: Failures allowed beyond the first attempt.
        lost_max: Lost leases allowed.
        lease_ms: How long its worker may be silent.
    """

    task_id: TaskId
    queue: str
    priority: int
    delay_ms: int
    payload: bytes
    retry_max: int
    lost_max: int
    lease_ms: int

    @property
    def hexadecimal(self) -> str:
        """The id as it is recorded."""
        return self.task_id.raw.hex()

    def new_task(self) -> NewTask:
        """Return it as the SDK takes it."""
        return NewTask(
            name="chaos",
            payload=self.payload,
            queue=self.queue,
            task_id=self.task_id,
            priority=self.priority,
            delay=self.delay_ms / 1000 if self.delay_ms else None,
            retry=Retry(max=self.retry_max, base="100ms", cap="1s", lost=self.lost_max),
            lease=self.lease_ms / 1000,
        )

    def arguments(self, *, repeat: bool) -> dict[str, Any]:
        """Return the arguments of its submit as they are recorded.

        Args:
            repeat: It was submitted before.
        """
        return {
            "queue": self.queue,
            "priority": self.priority,
            "delay_ms": self.delay_ms,
            "payload": zlib.crc32(self.payload),
            "key": repeat,
            "retry_max": self.retry_max,
            "lost_max": self.lost_max,
        }


def draw(rng: random.Random) -> Spec:
    """Draw a new task."""
    size_bytes = rng.choice((0, 16, 64, 64, 200, 200, 1_000))
    if rng.random() < 0.01:
        size_bytes = 60_000
    return Spec(
        task_id=TaskId.new(),
        queue=rng.choice(QUEUES),
        priority=rng.choice(_PRIORITIES),
        delay_ms=rng.randint(100, 4_000) if rng.random() < 0.08 else 0,
        payload=rng.randbytes(size_bytes),
        retry_max=rng.choice((0, 1, 2, 3)),
        lost_max=rng.choice((0, 2, 5, 20)),
        lease_ms=rng.choice((2_000, 3_000, 5_000)),
    )


class Known:
    """Tasks that this process has begun to submit.

    Attributes:
        all: Every id, hexadecimal -> id.
    """

    def __init__(self) -> None:
        self.all: dict[str, TaskId] = {}
        self._recent: deque[Spec] = deque(maxlen=_RECENT_MAX)
        self._told: deque[Spec] = deque(maxlen=_TOLD_MAX)

    def add(self, spec: Spec) -> None:
        """Note a task."""
        self.all[spec.hexadecimal] = spec.task_id
        self._recent.append(spec)

    def any(self, rng: random.Random) -> Spec | None:
        """Return one of the latest tasks, the newest ones most often; None before the first."""
        if not self._recent:
            return None
        # Most that is worth asking happens within a second of the submit.
        back = int(rng.random() ** 4 * len(self._recent))
        return self._recent[-1 - back]

    def tell(self, spec: Spec) -> None:
        """Note that a client has just been told that it was accepted."""
        self._told.append(spec)

    def told(self, rng: random.Random) -> Spec | None:
        """Return one of the last that somebody was told of; None before the first."""
        return rng.choice(self._told) if self._told else None
