"""The machine's live state and the moves every rule is made of."""

from __future__ import annotations

from typing import Final

from statemachine.checkpoint import Archive, Changes, Stored
from statemachine.heap import TaskHeap
from statemachine.lifecycle import TRANSITIONS, Event, after
from statemachine.lines import Queue
from statemachine.live_order import LiveOrder
from statemachine.outcomes import Accepted, Refused
from statemachine.task import Task, decode_task
from statemachine.types import (
    LIMITS,
    POSITION_BITS,
    Code,
    QueueKey,
    Settings,
    TaskId,
    TaskState,
    Token,
)
from statemachine.workers import Sessions

NOT_FOUND: Final = Refused(Code.NOT_FOUND, "no such task")
NO_ID: Final = bytes(16)
_MOVES: Final = dict(TRANSITIONS)


class Counters:
    """Totals since the cluster began, and how many terminal tasks are kept."""

    __slots__ = (
        "cancelled",
        "cancelled_kept",
        "completed",
        "completed_kept",
        "dead",
        "dead_kept",
        "failed",
        "lost",
        "submitted",
    )

    def __init__(self) -> None:
        self.submitted = 0
        self.completed = 0
        self.failed = 0
        """Attempts that ended in a failure."""
        self.lost = 0
        """Leases that ended without a result."""
        self.dead = 0
        self.cancelled = 0
        self.completed_kept = 0
        self.dead_kept = 0
        self.cancelled_kept = 0


class State:
    """Everything the rules read and change.

    Attributes:
        live: Tasks that are not terminal.
        live_order: Their ids in order, for lists.
        queues: Queues with a live task; others do not exist.
        leased: Live leases by token, in order of token.
        timers: SCHEDULED and FAILED tasks by due time, then by place.
        seeded: Whether the settings were ever set, by a seed or otherwise.
        log_time_ms: Largest time stamp seen.
        terminal_id_max: Largest id of any task that ever became terminal: a larger
            one cannot be in the archive, which spares the look-up.
        id_oldest, id_newest: Bounds of the ids that an unknown task may have now.
        depth_max: Depth at which a queue is full now.
        index: Of the entry being applied.
        submits_of: Index of the entry that `accepted` and the bounds of new tasks are of:
            most entries add no task and need neither.
        accepted: The answer to every new task of that entry.
        next_token: Next unused position of this entry, as a place, token or session.
        token_end: The first one past the last of this entry.
        ready: Queues that received claimable tasks in this entry, in order.
        finished: Tasks that became terminal in this entry.
    """

    __slots__ = (
        "accepted",
        "changes",
        "counters",
        "depth_max",
        "finished",
        "id_newest",
        "id_oldest",
        "index",
        "leased",
        "live",
        "live_order",
        "log_time_ms",
        "next_token",
        "queues",
        "ready",
        "seeded",
        "sessions",
        "settings",
        "stored",
        "submits_of",
        "terminal_id_max",
        "timers",
        "token_end",
    )

    def __init__(self, archive: Archive) -> None:
        self.live: dict[TaskId, Task] = {}
        self.live_order = LiveOrder()
        self.queues: dict[QueueKey, Queue] = {}
        self.leased: dict[Token, Task] = {}
        self.timers = TaskHeap()
        self.sessions = Sessions()
        self.settings = Settings()
        self.seeded = False
        self.counters = Counters()
        self.log_time_ms = 0
        self.terminal_id_max = NO_ID
        self.changes = Changes()
        self.stored = Stored(archive, self.changes)
        self.index = 0
        self.submits_of = 0
        self.accepted = Accepted(0)
        self.next_token = 0
        self.token_end = 0
        self.id_oldest = NO_ID
        self.id_newest = NO_ID
        self.depth_max = 0
        self.ready: dict[QueueKey, None] = {}
        self.finished: list[TaskId] = []

    def begin(self, index: int, now_ms: int) -> None:
        """Start an entry: its positions, its time, nothing to tell yet."""
        self.index = index
        self.next_token = index << POSITION_BITS
        self.token_end = (index + 1) << POSITION_BITS
        # A leader with a slow clock cannot take time back.
        if now_ms > self.log_time_ms:  # noqa: PLR1730 (for every entry: max() takes thrice as long)
            self.log_time_ms = now_ms
        self.ready = {}
        self.finished = []

    def expect_submits(self) -> None:
        """Get ready for the entry's first new task."""
        self.submits_of = self.index
        self.accepted = Accepted(self.index)
        self.bound_submits()

    def bound_submits(self) -> None:
        """Follow the log time and the settings with the bounds of new tasks."""
        self.depth_max = self.settings.queue_depth_threshold
        oldest_ms = max(0, self.log_time_ms - self.settings.idempotency_window_ms)
        self.id_oldest = oldest_ms.to_bytes(6, "big")
        newest_ms = min(LIMITS.now_ms_max, self.log_time_ms + LIMITS.future_ms_max + 1)
        self.id_newest = newest_ms.to_bytes(6, "big")

    def positions_left(self) -> int:
        """Return how many more places and tokens this entry can give."""
        return self.token_end - self.next_token

    # -- finding

    def find(self, namespace: str, task_id: TaskId) -> Task | None:
        """Return a task of the namespace, live or terminal.

        A terminal task read from the archive is a copy; `touch` makes a change to it last.
        """
        task = self.live.get(task_id) or self.changes.tasks.get(task_id)
        if task is None:
            task = self.archived(task_id)
        if task is None or task.kind.namespace != namespace:
            return None
        return task

    def archived(self, task_id: TaskId) -> Task | None:
        """Return a terminal task as the archive has it."""
        if task_id > self.terminal_id_max:
            return None
        found = self.stored.terminal_record(task_id)
        if found is None:
            return None
        family, record = found
        task, _ = decode_task(task_id, record)
        task.stored = family
        return task

    def queue_of(self, task: Task) -> Queue:
        """Return the queue of a live task."""
        return self.queues[task.kind.queue_key]

    # -- moving

    def touch(self, task: Task) -> None:
        """Note that the task's record changed."""
        self.changes.tasks[task.task_id] = task

    def make_ready(self, task: Task) -> None:
        """Let a task that is PENDING be claimed."""
        assert task.state is TaskState.PENDING
        self.queue_of(task).add(task)
        self.ready[task.kind.queue_key] = None

    def wait_until(self, task: Task, due_at_ms: int) -> None:
        """Let a task that is SCHEDULED or FAILED wait."""
        task.due_at_ms = due_at_ms
        self.timers.push(due_at_ms, task)
        queue, tier = self.queue_of(task), task.kind.tier
        (queue.scheduled if task.state is TaskState.SCHEDULED else queue.failed)[tier] += 1

    def stop_waiting(self, task: Task) -> None:
        """Take a task that is SCHEDULED or FAILED out of the timers."""
        self.timers.remove(task)
        queue, tier = self.queue_of(task), task.kind.tier
        (queue.scheduled if task.state is TaskState.SCHEDULED else queue.failed)[tier] -= 1
        task.due_at_ms = 0

    def advance(self) -> bool:
        """Let due timers act, at most `LIMITS.timers_per_entry_max` of them.

        Returns:
            True if more are due.
        """
        timers, now_ms = self.timers.items, self.log_time_ms
        if not timers or timers[0][0] > now_ms:
            return False  # as nearly always
        for _ in range(LIMITS.timers_per_entry_max):
            task = timers[0][2]
            self.stop_waiting(task)
            task.state = after(Event.BECOME_DUE, task.state)
            self.make_ready(task)
            self.touch(task)
            if not timers or timers[0][0] > now_ms:
                return False
        return True

    def end_lease(self, task: Task) -> None:
        """Take the lease away; the caller moves the task on."""
        session = task.session
        assert session is not None  # and the task therefore IN_PROGRESS
        del self.leased[task.token]
        session.let_go(task)
        self.queues[task.kind.queue_key].in_progress -= 1

    def back_to_line(self, task: Task, event: Event) -> None:
        """Return a task whose lease ended to its original place."""
        task.state = after(event, task.state)
        self.queue_of(task).depth += 1
        self.make_ready(task)
        self.touch(task)

    def finish(self, task: Task, event: Event) -> None:
        """End a task's life; it counts in no line, timer or lease any more."""
        task.state = _MOVES[event][task.state]
        task.finished_at_ms = self.log_time_ms
        task_id = task.task_id
        del self.live[task_id]
        self.changes.tasks[task_id] = task
        self.finished.append(task_id)
        if task_id > self.terminal_id_max:  # noqa: PLR1730 (for every task: the same)
            self.terminal_id_max = task_id
        queue_key = task.kind.queue_key
        queue = self.queues[queue_key]
        if not queue.depth and not queue.in_progress:
            del self.queues[queue_key]

    def bury(self, task: Task, event: Event, reason: str) -> None:
        """Make a task whose lease ended a dead letter."""
        story = task.tell()
        story.reason = reason
        task.remember(self.log_time_ms, "dead_letter", reason)
        self.finish(task, event)
        self.counters.dead += 1
        self.counters.dead_kept += 1

    def lose(self, task: Task, why: str) -> None:
        """Charge a lost lease to the task's own budget for losses."""
        self.end_lease(task)
        story = task.tell()
        story.lost += 1
        self.counters.lost += 1
        task.remember(self.log_time_ms, "lost", f"attempt {task.attempt}: {why}")
        budget = task.kind.policy.lost_max
        if story.lost > budget:
            self.bury(
                task,
                Event.EXPIRE_FOR_GOOD,
                f"lost {story.lost} leases, {budget} allowed; the last: {why}",
            )
        else:
            self.back_to_line(task, Event.EXPIRE)
