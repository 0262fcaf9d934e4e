"""Rules of endings: results, retries, dead letters, cancellation."""

from __future__ import annotations

from typing import Final

from statemachine.claiming import late
from statemachine.commands import Cancel, TaskOutcome, TaskResult
from statemachine.lifecycle import Event, after, allows
from statemachine.outcomes import Recorded, Refused
from statemachine.retry import backoff_ms
from statemachine.state import NOT_FOUND, State
from statemachine.task import Task
from statemachine.types import LIMITS, Code, TaskState, named

_SUCCESS: Final = TaskOutcome.SUCCESS
_IN_PROGRESS: Final = TaskState.IN_PROGRESS


def task_result(state: State, command: TaskResult) -> Recorded | Refused:
    """Take a result from the holder of the live lease, and from nobody else."""
    _, namespace, _, task_id, token, outcome, result, _ = command
    task = state.live.get(task_id)
    if task is None or task.kind.namespace != namespace:
        task = state.find(namespace, task_id)
        if task is None:
            return NOT_FOUND
    if task.state is not _IN_PROGRESS or task.token != token:
        repeated = _first_answer(task, command)
        return repeated or late(state, task, what="result", token=token)
    state.end_lease(task)
    run_ms = state.log_time_ms - task.claimed_at_ms
    if outcome is _SUCCESS:
        _complete(state, task, result)
    else:
        _fail(state, task, command)
    return named(Recorded, (task.state, run_ms))


def _first_answer(task: Task, command: TaskResult) -> Recorded | None:
    """Return what was answered if this very result was taken before."""
    if task.token != command.token or not command.token:
        return None
    if command.outcome is _SUCCESS:
        return Recorded(TaskState.COMPLETED) if task.state is TaskState.COMPLETED else None
    if task.story is None or task.story.settled != command.outcome:
        return None
    # With this token as the latest, only this result can have made it a dead letter.
    dead = task.state is TaskState.DEAD_LETTER
    return Recorded(TaskState.DEAD_LETTER if dead else TaskState.FAILED)


def _complete(state: State, task: Task, result: bytes) -> None:
    task.result = result
    state.changes.extra_bytes += len(result)
    counters = state.counters
    counters.completed += 1
    counters.completed_kept += 1
    state.finish(task, Event.COMPLETE)


def _fail(state: State, task: Task, command: TaskResult) -> None:
    story, policy = task.tell(), task.kind.policy
    story.failures += 1
    story.settled = command.outcome
    story.error = command.error
    state.counters.failed += 1
    task.remember(state.log_time_ms, "failed", f"attempt {task.attempt}: {command.error}")
    if command.outcome is TaskOutcome.FAILURE_FINAL:
        reason = "failed and asked not to be retried"
    elif story.failures > policy.retry_max:
        reason = f"failed {story.failures} times, {policy.retry_max} retries allowed"
    else:
        _retry_later(state, task)
        return
    task.result = command.result or None
    state.changes.extra_bytes += len(command.result)
    state.bury(task, Event.FAIL_FOR_GOOD, reason)


def _retry_later(state: State, task: Task) -> None:
    story = task.tell()
    # A live task stays small whatever its worker says; a dead letter keeps all of it.
    story.error = story.error[: LIMITS.live_error_chars_max]
    wait_ms = backoff_ms(
        task.kind.policy, failures=story.failures, task_id=task.task_id, attempt=task.attempt
    )
    task.state = after(Event.FAIL, task.state)
    state.queue_of(task).depth += 1
    state.wait_until(task, state.log_time_ms + wait_ms)
    state.touch(task)


def cancel(state: State, command: Cancel) -> Recorded | Refused:
    """End a task that does not run; cancelling it again gives the same answer."""
    task = state.find(command.namespace, command.task_id)
    if task is None:
        return NOT_FOUND
    if task.state is TaskState.CANCELLED:
        return Recorded(task.state)
    if not allows(Event.CANCEL, task.state):
        return Refused(Code.NOT_CANCELLABLE, f"the task is {task.state}")
    queue = state.queue_of(task)
    if task.state is TaskState.PENDING:
        queue.remove(task)
    else:
        state.stop_waiting(task)
    queue.depth -= 1
    task.tell().reason = command.reason
    task.remember(state.log_time_ms, "cancelled", command.reason)
    state.counters.cancelled += 1
    state.counters.cancelled_kept += 1
    state.finish(task, Event.CANCEL)
    return Recorded(task.state)
