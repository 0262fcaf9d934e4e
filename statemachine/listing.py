"""Pages of tasks in the order of their ids; nothing here changes anything.

Three sources, each in order of id, are merged: live tasks, tasks that ended since the last
checkpoint, and the durable records of those that ended before. (Live tasks have records as
well; but families that tasks pass through are full of deleted records, and reading past those
takes any time.) An id never changes, so a listing that goes on after the last id it saw meets
every task once, whatever becomes of the tasks between two pages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import merge
from operator import itemgetter
from typing import Final, NamedTuple, TypeAlias

from statemachine.state import State
from statemachine.task import Task, decode_task
from statemachine.types import FAMILY_OF, TERMINAL, TaskId, TaskState
from statemachine.views import summary

WORK_MAX: Final = 500
"""Live tasks that one page looks at, those included that are not asked for."""
RECORD_WORK: Final = 2
"""As many live tasks as a record costs, which has to be read and decoded."""
TEXT_BYTES_MAX: Final = 1024 * 1024
"""Results and errors of a page; one more task may go beyond it."""
_CHUNK_MAX: Final = 100
_CHUNK_MIN: Final = 10

_Found: TypeAlias = tuple[TaskId, Task | bytes]
"""An id, and the task or its record."""


class Wanted(NamedTuple):
    """Which tasks a page is to hold.

    Attributes:
        namespace: Of the tasks.
        queue: Of the tasks; None for all.
        states: One or more.
        after: Smaller ids than this one, and itself, are left out; b"" for none.
        limit: Tasks at most, 1 or more.
    """

    namespace: str
    queue: str | None
    states: Sequence[TaskState]
    after: bytes
    limit: int


def page(state: State, wanted: Wanted) -> tuple[list[dict[str, object]], bytes]:
    """Return summaries in order of id, and where the next page goes on: b"" at the end.

    It looks at a bounded number of tasks, so it may hold fewer than were asked for, or none,
    and not be the last.
    """
    found: list[dict[str, object]] = []
    last, work, text_bytes = b"", 0, 0
    for task_id, held in _candidates(state, wanted):
        if work >= WORK_MAX or len(found) == wanted.limit or text_bytes > TEXT_BYTES_MAX:
            return found, last
        last = task_id
        if isinstance(held, Task):
            task = held
            work += 1
        else:
            task = decode_task(task_id, held)[0]
            work += RECORD_WORK
        if _is_wanted(task, wanted):
            told = summary(task)
            found.append(told)
            texts = (told["error"], told["result"])
            text_bytes += sum(len(text) for text in texts if isinstance(text, str | bytes))
    return found, b""


def _candidates(state: State, wanted: Wanted) -> Iterator[_Found]:
    """Give, in order of id, every task that may be a wanted one; no task twice."""
    after, live, changed = wanted.after, state.live, state.changes.tasks
    sources: list[Iterator[_Found]] = []
    if any(one not in TERMINAL for one in wanted.states):
        # One more than is looked at: it tells that the page is not the last.
        ids = state.live_order.after(live, after, WORK_MAX + 1)
        sources.append((task_id, live[task_id]) for task_id in ids)
    families = dict.fromkeys(FAMILY_OF[one] for one in wanted.states if one in TERMINAL)
    if families:
        ended = sorted(task_id for task_id in changed if task_id > after and task_id not in live)
        sources.append((task_id, changed[task_id]) for task_id in ended)
        sources += [_records(state, family, wanted) for family in families]
    return merge(*sources, key=itemgetter(0))


def _records(state: State, family: str, wanted: Wanted) -> Iterator[_Found]:
    """Give the records of a family, save those of tasks that were dropped or changed since."""
    start = wanted.after + b"\0" if wanted.after else b""
    chunk = min(max(wanted.limit, _CHUNK_MIN), _CHUNK_MAX)
    while True:
        records = state.stored.scan(family, start, chunk)
        for task_id, record in records:
            if not state.stored.changed_since_stored(task_id):
                yield task_id, record
        if len(records) < chunk:
            return
        start = records[-1][0] + b"\0"
        chunk = _CHUNK_MAX


def _is_wanted(task: Task, wanted: Wanted) -> bool:
    kind = task.kind
    return (
        kind.namespace == wanted.namespace
        and (wanted.queue is None or kind.queue == wanted.queue)
        and task.state in wanted.states
    )
