"""Refusals at the door: what would cost a round through the log only to be refused there.

The machine decides; the door spares it work it can foresee, and never refuses what
the machine would accept: the depth of a queue counts what is applied plus what is
on its way, and only ids nobody knows are refused for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from node.requests import NoRoomError, RequestError
from node.waiting import QueueKey
from statemachine import (
    Claim,
    Machine,
    NewTask,
    Progress,
    Submit,
    SubmitBatch,
    TaskId,
    TaskResult,
)
from tq.protocol import Code

QUEUE_FULL_RETRY_MS: Final = 1000
DISK_FULL_RETRY_MS: Final = 5000
PROGRESS_INTERVAL_S: Final = 1.0


class Door:
    """Admission of commands.

    Args:
        machine: Its applied state is read, never changed.
        payload_max_bytes: Largest payload or result of a task.
        disk_low: Says whether the disk has no room for new tasks.
        is_current: Says whether everything committed is applied. Until then, an id that the
            machine does not know may be known: it is left to the log to refuse it.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        payload_max_bytes: int,
        disk_low: Callable[[], bool] = lambda: False,
        is_current: Callable[[], bool] = lambda: True,
    ) -> None:
        self._machine = machine
        self._disk_low = disk_low
        self._is_current = is_current
        self._payload_max_bytes = payload_max_bytes
        self._coming: dict[QueueKey, int] = {}
        """Admitted tasks that are not applied yet, by queue."""
        self._reported_s: dict[int, float] = {}
        """When a token reported last, of those that did since the turn."""
        self._reported_before_s: dict[int, float] = {}
        """The same, of the interval before the turn."""
        self._turned_s = -math.inf

    def submit(self, command: Submit) -> None:
        """Admit one task and count it as coming.

        Raises:
            RequestError: TOO_LARGE.
            NoRoomError: DISK_FULL or QUEUE_FULL, if this node leads.
        """
        if len(command.payload) > self._payload_max_bytes:
            raise self._too_large("payload", command.request_id)
        if self._disk_low() and self._is_new(command.task_id):
            raise self._disk_full(command.request_id)
        key = command.kind.queue_key
        coming = self._coming.get(key, 0)
        if self._is_full(key) and self._is_new(command.task_id):
            raise self._queue_full(key, command.request_id)
        self._coming[key] = coming + 1

    def submit_batch(self, command: SubmitBatch) -> None:
        """Admit a batch as a whole, and count its tasks as coming.

        It is refused for a full queue only when every one of its tasks would be, and for a
        full disk when any one would be.

        Raises:
            RequestError: TOO_LARGE.
            NoRoomError: DISK_FULL or QUEUE_FULL, if this node leads.
        """
        tasks = command.tasks
        if any(len(task.payload) > self._payload_max_bytes for task in tasks):
            raise self._too_large("payload", command.request_id)
        if self._disk_low() and any(self._is_new(task.task_id) for task in tasks):
            raise self._disk_full(command.request_id)
        if self._all_refused(tasks):
            raise self._queue_full(tasks[0].kind.queue_key, command.request_id)
        for task in tasks:
            key = task.kind.queue_key
            self._coming[key] = self._coming.get(key, 0) + 1

    def arrived(self, command: Submit | SubmitBatch) -> None:
        """Count its tasks as coming no longer: their entry was applied or dropped."""
        coming = self._coming
        for task in (command,) if isinstance(command, Submit) else command.tasks:
            key = task.kind.queue_key
            left = coming[key] - 1
            if left:
                coming[key] = left
            else:
                del coming[key]

    def claim(self, command: Claim) -> None:
        """Admit a claim.

        Raises:
            RequestError: BAD_REQUEST, when it asks for more tasks than the cluster allows.
        """
        count_max = self._machine.settings.claim_max
        if command.tasks_max > count_max and self._is_current():
            raise RequestError(
                Code.BAD_REQUEST,
                f"count must be 1..{count_max}",
                request_id=command.request_id,
            )

    def result(self, command: TaskResult) -> None:
        """Admit a result.

        Raises:
            RequestError: TOO_LARGE.
        """
        if len(command.result) > self._payload_max_bytes:
            raise self._too_large("result", command.request_id)

    def progress(self, command: Progress, *, now_s: float) -> None:
        """Admit a progress report.

        Raises:
            RequestError: RATE_LIMITED, when the token reported less than a second ago.
        """
        if now_s - self._turned_s >= PROGRESS_INTERVAL_S:
            self._forget_reports(now_s)
        last_s = self._reported_s.get(command.token, self._reported_before_s.get(command.token))
        if last_s is not None and now_s - last_s < PROGRESS_INTERVAL_S:
            left_s = PROGRESS_INTERVAL_S - (now_s - last_s)
            raise RequestError(
                Code.RATE_LIMITED,
                "progress of one task is recorded at most once a second",
                request_id=command.request_id,
                retry_after_ms=max(1, round(left_s * 1000)),
            )
        self._reported_s[command.token] = now_s

    def _forget_reports(self, now_s: float) -> None:
        """Drop whole tables: to look through them would cost as much as they hold."""
        is_recent = now_s - self._turned_s < 2 * PROGRESS_INTERVAL_S
        self._reported_before_s = self._reported_s if is_recent else {}
        self._reported_s = {}
        self._turned_s = now_s

    def _all_refused(self, tasks: tuple[NewTask, ...]) -> bool:
        return all(
            self._is_full(task.kind.queue_key) and self._is_new(task.task_id) for task in tasks
        )

    def _is_new(self, task_id: TaskId) -> bool:
        """Whether nobody has submitted a task with this id, for certain."""
        return self._is_current() and not self._machine.knows(task_id)

    def _is_full(self, key: QueueKey) -> bool:
        depth = self._machine.depth(*key) + self._coming.get(key, 0)
        return depth >= self._machine.settings.queue_depth_threshold

    def _too_large(self, field: str, request_id: int) -> RequestError:
        return RequestError(
            Code.TOO_LARGE,
            f"{field} is longer than {self._payload_max_bytes} bytes",
            request_id=request_id,
        )

    def _disk_full(self, request_id: int) -> NoRoomError:
        return NoRoomError(
            Code.DISK_FULL,
            "the disk has no room for new tasks; those that are there go on",
            request_id=request_id,
            retry_after_ms=DISK_FULL_RETRY_MS,
        )

    def _queue_full(self, key: QueueKey, request_id: int) -> NoRoomError:
        return NoRoomError(
            Code.QUEUE_FULL,
            f"queue {key[1]} holds {self._machine.settings.queue_depth_threshold} tasks",
            request_id=request_id,
            retry_after_ms=QUEUE_FULL_RETRY_MS,
        )
