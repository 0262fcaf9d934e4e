"""What the machine tells about itself; nothing here changes anything."""

from __future__ import annotations

from statemachine.state import State
from statemachine.task import Story, Task, long_result
from statemachine.types import TIER_NAMES, TaskId, TaskState

_NO_STORY = Story()


def status(state: State, namespace: str, task_id: TaskId) -> dict[str, object] | None:
    """Return the status map of a task of the namespace, None if there is no such task."""
    task = state.find(namespace, task_id)
    if task is None:
        return None
    told = _facts(task)
    told["result"] = state.stored.result(task)
    told["history"] = [list(event) for event in (task.story or _NO_STORY).history]
    return told


def summary(task: Task) -> dict[str, object]:
    """Return the status map as lists have it: no history, and no long result."""
    told = _facts(task)
    result = task.result
    if type(result) is bytes:
        told["result"] = result if long_result(task) is None else None
    told["result_bytes"] = len(result) if type(result) is bytes else result
    return told


def _facts(task: Task) -> dict[str, object]:
    story = task.story or _NO_STORY
    waiting = task.state in (TaskState.SCHEDULED, TaskState.FAILED)
    return {
        "task_id": task.task_id,
        "queue": task.kind.queue,
        "name": task.kind.name,
        "namespace": task.kind.namespace,
        "state": task.state.value,
        "priority": task.kind.priority,
        "attempt": task.attempt,
        "failures": story.failures,
        "lost": story.lost,
        "created_at_ms": task.created_at_ms,
        "due_at_ms": task.due_at_ms if waiting else None,
        "finished_at_ms": task.finished_at_ms or None,
        "result": None,
        "error": _error(task, story),
        "progress": story.permille,
        "note": story.note,
        "worker": task.worker,
    }


def _error(task: Task, story: Story) -> str | None:
    """Tell why a task ended as it did, and what its latest failure was."""
    if task.state is TaskState.COMPLETED:
        return None
    return "; ".join(part for part in (story.reason, story.error) if part) or None


def statistics(state: State) -> dict[str, object]:
    """Return counts by state and by queue, totals, and the number of workers."""
    counters = state.counters
    queues = [_queue_statistics(state, key) for key in sorted(state.queues)]
    scheduled = sum(sum(queue.scheduled) for queue in state.queues.values())
    failed = sum(sum(queue.failed) for queue in state.queues.values())
    leased = len(state.leased)
    return {
        "log_time_ms": state.log_time_ms,
        "states": {
            "scheduled": scheduled,
            "pending": len(state.live) - scheduled - failed - leased,
            "in_progress": leased,
            "failed": failed,
            "completed": counters.completed_kept,
            "dead_letter": counters.dead_kept,
            "cancelled": counters.cancelled_kept,
        },
        "queues": queues,
        "totals": {
            "submitted": counters.submitted,
            "completed": counters.completed,
            "failed": counters.failed,
            "lost": counters.lost,
            "dead": counters.dead,
            "cancelled": counters.cancelled,
        },
        "workers": len(state.sessions),
    }


def _queue_statistics(state: State, key: tuple[str, str]) -> dict[str, object]:
    queue = state.queues[key]
    told: dict[str, object] = {
        "namespace": key[0],
        "queue": key[1],
        "depth": queue.depth,
        "ready": queue.ready(),
        "in_progress": queue.in_progress,
        "scheduled": sum(queue.scheduled),
        "failed": sum(queue.failed),
    }
    told.update(zip(TIER_NAMES, queue.depth_by_tier(), strict=True))
    return told
