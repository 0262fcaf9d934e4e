"""The machine with one rule taken out: functions that stand in for its own.

A replacement has the place of the original for as long as one world plays, in this process
alone; `tests.simulation.plants.catalogue` says which place.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from statemachine import claiming, restoring, settling, submitting
from statemachine.checkpoint import STUB_PREFIX, Changes
from statemachine.commands import Claim, Expire, TaskResult
from statemachine.kinds import Kind
from statemachine.machine import Machine
from statemachine.outcomes import Accepted, Done, Grant, Granted, Recorded, Refused
from statemachine.state import NO_ID, State
from statemachine.task import Task
from statemachine.types import Family, Record, TaskId, TaskState
from statemachine.workers import WorkerSession

_submit, _lease = submitting._submit, claiming._lease  # what is replaced
_result, _claim, _restore = settling.task_result, claiming.claim, restoring.restore_tasks
_EAGER_ENTRIES: Final = 5
_records, _lose = Changes.records, State.lose


def accepts_any_token(state: State, command: TaskResult) -> Recorded | Refused:
    """A result counts whatever its token, as long as somebody runs the task."""
    task = state.find(command.namespace, command.task_id)
    if task is not None and task.state is TaskState.IN_PROGRESS:
        command = command._replace(token=task.token)
    return _result(state, command)


def grants_the_same_token(
    state: State, session: WorkerSession, request_id: int, tasks: list[Task]
) -> list[Grant]:
    """A task that is leased again gets the token it had."""
    known = [task.token for task in tasks]
    grants = _lease(state, session, request_id, tasks)
    held = session.claims[request_id]
    for number, (task, token) in enumerate(zip(tasks, known, strict=True)):
        if token:
            del state.leased[task.token], held[task.token]
            task.token = token
            state.leased[token] = held[token] = task
            grants[number] = grants[number]._replace(token=token)
    return grants


def forgets_what_a_claim_was_given(state: State, command: Claim) -> Granted | Refused:
    """A claim that is repeated is a new claim."""
    return _claim(state, command._replace(request_id=state.next_token))


def expires_by_task_alone(state: State, command: Expire) -> Done:
    """An expiry ends whatever lease the task has by then."""
    for task_id, _ in command.leases:
        task = state.live.get(task_id)
        if task is not None and task.state is TaskState.IN_PROGRESS:
            state.lose(task, "the lease expired")
    return Done()


def forgets_what_has_ended(
    state: State, task_id: TaskId, kind: Kind, payload: bytes
) -> Accepted | Refused:
    """The id of a task that has ended is as good as a new one."""
    last, state.terminal_id_max = state.terminal_id_max, NO_ID
    if task_id not in state.live:
        state.changes.tasks.pop(task_id, None)
    answer = _submit(state, task_id, kind, payload)
    state.terminal_id_max = last
    return answer


def takes_other_content_for_the_same(state: State, task: Task, kind: Kind, payload: bytes) -> bool:
    """An id alone decides: another task under it is answered as if it had been taken."""
    del state, task, kind, payload
    return True


def leaves_stubs_out(changes: Changes) -> dict[str, dict[bytes, bytes | None]]:
    """The memory of retired tasks is not among the records of a checkpoint."""
    records = _records(changes)
    metadata = records[Family.METADATA]
    records[Family.METADATA] = {
        key: value for key, value in metadata.items() if not key.startswith(STUB_PREFIX)
    }
    return records


def loses_without_charge(state: State, task: Task, why: str) -> None:
    """A lost lease is not counted against the task's budget."""
    _lose(state, task, why)
    if task.story is not None and task.story.lost:
        task.story.lost -= 1


def rebuilds_lines_backwards(state: State, records: Iterable[tuple[str, bytes, bytes]]) -> None:
    """After a restart the last in line is the first."""
    _restore(state, records)
    for queue in state.queues.values():
        for line in queue._lines.values():  # as restoring finds them
            line.arrived.reverse()


class EagerMachine(Machine):
    """Not a bug: checkpoints come every few entries, so that crashes meet them."""

    def take_changes(self) -> list[Record] | None:
        changes = self._state.changes
        if changes.entries >= _EAGER_ENTRIES:
            changes.entries = self._state.settings.checkpoint_entries_max
        return super().take_changes()
