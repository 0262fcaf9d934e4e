"""The order of the ids of live tasks, which only lists need."""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from statemachine.task import Task
from statemachine.types import TaskId

_SPARE: Final = 1000
"""Ids of ended tasks that are kept whatever the number of live ones."""


class LiveOrder:
    """The ids of live tasks in order, brought up to date when it is asked for.

    To sort them all for every page would take longer the more there are, and to keep them
    sorted would slow down every submit.
    """

    __slots__ = ("_ids", "_place")

    def __init__(self) -> None:
        self._ids: list[TaskId] = []
        self._place = -1
        """Of the latest task that is in the list, -1 before there is one."""

    def after(self, live: dict[TaskId, Task], task_id: bytes, limit: int) -> list[TaskId]:
        """Return the next ids of tasks in `live` that are larger than one.

        Ids of ended tasks that it meets are forgotten. The oldest tasks end first as a rule: a
        list that is read from its beginning, again and again, must not pass all those each time.

        Args:
            live: Always the same; tasks come in at its end, in order of place, save those
                that were there at the first call.
            task_id: Or b"".
            limit: Ids at most.
        """
        self._follow(live)
        ids = self._ids
        found: list[TaskId] = []
        begin = end = bisect_right(ids, task_id)
        while end < len(ids) and len(found) < limit:
            if ids[end] in live:
                found.append(ids[end])
            end += 1
        if len(found) < end - begin:
            ids[begin:end] = found
        return found

    def _follow(self, live: dict[TaskId, Task]) -> None:
        if len(self._ids) > 2 * len(live) + _SPARE:
            self._ids = [task_id for task_id in self._ids if task_id in live]
        known = self._place
        if known < 0:  # the first time, in a tenth of what it would take below
            self._ids = sorted(live)
            self._place = max((task.place for task in live.values()), default=-1)
            return
        fresh: list[TaskId] = []
        for task in reversed(live.values()):
            if task.place <= known:
                break
            fresh.append(task.task_id)
            self._place = max(self._place, task.place)
        if fresh:
            # Ids carry their time: most of what is new goes to the end.
            at = bisect_right(self._ids, min(fresh))
            self._ids[at:] = sorted(self._ids[at:] + fresh)
