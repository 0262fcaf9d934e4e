"""Who is next: the claimable tasks of each queue, by priority and then by place.

Within one priority the order is that of submission. A task that was leased and
came back, or had to wait first, stands at its original place again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from heapq import heapify, heappop, heapreplace
from typing import Final

from statemachine.heap import TaskHeap
from statemachine.task import Task
from statemachine.types import QueueKey, Tier, tier_of

_TIERS: Final = len(Tier)


class Line:
    """Claimable tasks of one queue and one priority.

    Attributes:
        arrived: Tasks in order of place. Most tasks arrive in that order, and to join and
            to leave at the front costs next to nothing.
        last_place: Of the last one that joined them.
        gone: Places of those among them that left from the middle. They stay where they
            are until they are the first, or until half of `arrived` is gone. The first of
            `arrived` is never gone, so without any there is nothing here either.
        returned: The other tasks.
    """

    __slots__ = ("arrived", "gone", "last_place", "returned")

    def __init__(self) -> None:
        self.arrived: deque[Task] = deque()
        self.gone: set[int] = set()
        self.returned = TaskHeap()
        self.last_place = 0

    def __len__(self) -> int:
        return len(self.arrived) - len(self.gone) + len(self.returned.items)

    def __bool__(self) -> bool:
        return bool(self.arrived or self.returned.items)

    def remove(self, task: Task) -> None:
        """Take out a task that is in the line."""
        if task in self.returned:
            self.returned.remove(task)
            return
        self.gone.add(task.place)
        if 2 * len(self.gone) > len(self.arrived):
            self.arrived = deque(one for one in self.arrived if one.place not in self.gone)
            self.gone.clear()
        else:
            self._first_is_there()

    def _first_is_there(self) -> None:
        arrived, gone = self.arrived, self.gone
        while gone and arrived[0].place in gone:
            gone.remove(arrived.popleft().place)

    def head_place(self) -> int:
        """Return the place of the next task; the line must not be empty."""
        arrived, returned = self.arrived, self.returned.items
        if not arrived:
            return returned[0][0]
        place = arrived[0].place
        return place if not returned or place < returned[0][0] else returned[0][0]

    def take(self, tasks_max: int, taken: list[Task]) -> None:
        """Move up to `tasks_max` tasks from the front of the line to `taken`."""
        arrived, returned = self.arrived, self.returned
        pop = arrived.popleft
        while tasks_max and (returned.items or self.gone):
            if arrived and arrived[0].place == self.head_place():
                taken.append(pop())
                self._first_is_there()
            else:
                taken.append(returned.pop())
            tasks_max -= 1
        if tasks_max >= len(arrived):
            taken += arrived
            arrived.clear()
            return
        for _ in range(tasks_max):
            taken.append(pop())


class Queue:
    """One queue of one namespace: its lines, and counts of its live tasks.

    Attributes:
        depth: Live tasks not in progress: what the depth threshold is compared with.
        in_progress: Leased tasks.
        scheduled: Tasks that wait for their first due time, by tier.
        failed: Tasks that wait for their next attempt, by tier.
    """

    __slots__ = ("_lines", "_nonempty", "depth", "failed", "in_progress", "key", "scheduled")

    def __init__(self, key: QueueKey) -> None:
        self.key = key
        self.depth = 0
        self.in_progress = 0
        self.scheduled = [0] * _TIERS
        self.failed = [0] * _TIERS
        self._lines: dict[int, Line] = {}
        # Bit p is set while the line of priority p holds a task: the highest is one
        # bit_length() away.
        self._nonempty = 0

    def add(self, task: Task) -> None:
        """Make a task claimable."""
        priority = task.kind.priority
        line = self._lines.get(priority)
        if line is None:
            line = self._lines[priority] = Line()
        place, arrived = task.place, line.arrived
        if not arrived:
            self._nonempty |= 1 << priority
        elif place <= line.last_place:
            line.returned.push(place, task)
            return
        arrived.append(task)
        line.last_place = place

    def remove(self, task: Task) -> None:
        """Take out a claimable task."""
        priority = task.kind.priority
        line = self._lines[priority]
        line.remove(task)
        if not line:
            self._nonempty &= ~(1 << priority)

    def take(self, tasks_max: int) -> list[Task]:
        """Take out up to `tasks_max` tasks, highest priority first, then by place."""
        taken: list[Task] = []
        nonempty = self._nonempty
        while nonempty and len(taken) < tasks_max:
            priority = nonempty.bit_length() - 1
            line = self._lines[priority]
            line.take(tasks_max - len(taken), taken)
            if not line.arrived and not line.returned.items:
                nonempty &= ~(1 << priority)
        self._nonempty = nonempty
        return taken

    def head(self) -> tuple[int, int] | None:
        """Return (-priority, place) of the next task, or None."""
        if not self._nonempty:
            return None
        priority = self._nonempty.bit_length() - 1
        return -priority, self._lines[priority].head_place()

    def ready(self) -> int:
        """Count the claimable tasks."""
        return sum(map(len, self._lines.values())) if self._nonempty else 0

    def depth_by_tier(self) -> list[int]:
        """Count the live tasks not in progress of each tier."""
        depths = [waiting + due for waiting, due in zip(self.scheduled, self.failed, strict=True)]
        for priority, line in self._lines.items():
            depths[tier_of(priority)] += len(line)
        return depths


def take_best(queues: Sequence[Queue], tasks_max: int) -> list[Task]:
    """Take out up to `tasks_max` tasks of several queues, the best head first.

    Args:
        queues: Different from each other.
        tasks_max: Count, 0 or more.

    Returns:
        Tasks by priority, highest first, then by place over all the queues.
    """
    if len(queues) == 1:
        return queues[0].take(tasks_max)
    heads = [(*head, number) for number, queue in enumerate(queues) if (head := queue.head())]
    if not heads:
        return []
    if len(heads) == 1:
        return queues[heads[0][2]].take(tasks_max)
    if tasks_max == 1:
        return queues[min(heads)[2]].take(1)
    heapify(heads)
    taken: list[Task] = []
    while heads and len(taken) < tasks_max:
        number = heads[0][2]
        queue = queues[number]
        taken += queue.take(1)
        head = queue.head()
        if head is None:
            heappop(heads)
        else:
            heapreplace(heads, (*head, number))
    return taken
