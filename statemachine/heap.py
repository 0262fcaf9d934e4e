"""A heap of tasks that any task can leave, wherever it stands in it.

Entries left behind for later would need clearing up at a time of their own
choosing; here a task that leaves is gone, in O(log n), and nothing is unbounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from statemachine.task import Task


class TaskHeap:
    """Tasks ordered by (rank, place); the smallest is the head.

    Places are unique, so the order is total and does not depend on the history of
    the heap: one that was rebuilt gives the same tasks in the same order.

    Attributes:
        items: (rank, place, task), the head first; only to be read, and here because
            whether anything is due is asked for every entry.
    """

    __slots__ = ("_positions", "items")

    def __init__(self) -> None:
        self.items: list[tuple[int, int, Task]] = []
        self._positions: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.items)

    def head(self) -> tuple[int, Task] | None:
        """Return (rank, task) of the smallest, or None."""
        if not self.items:
            return None
        rank, _, task = self.items[0]
        return rank, task

    def push(self, rank: int, task: Task) -> None:
        """Add a task that is not in the heap."""
        assert task.place not in self._positions
        self.items.append((rank, task.place, task))
        self._rise(len(self.items) - 1)

    def pop(self) -> Task:
        """Remove and return the head; the heap must not be empty."""
        task = self.items[0][2]
        self._take_out(0)
        return task

    def remove(self, task: Task) -> None:
        """Take out a task that is in the heap."""
        self._take_out(self._positions[task.place])

    def __contains__(self, task: Task) -> bool:
        return task.place in self._positions

    def _take_out(self, position: int) -> None:
        del self._positions[self.items[position][1]]
        last = self.items.pop()
        if position < len(self.items):
            self.items[position] = last
            self._rise(position)
            self._sink(self._positions[last[1]])

    def _rise(self, position: int) -> None:
        items, positions = self.items, self._positions
        item = items[position]
        while position:
            above = (position - 1) >> 1
            if items[above] < item:
                break
            items[position] = items[above]
            positions[items[position][1]] = position
            position = above
        items[position] = item
        positions[item[1]] = position

    def _sink(self, position: int) -> None:
        items, positions = self.items, self._positions
        item, size = items[position], len(items)
        while (below := 2 * position + 1) < size:
            if below + 1 < size and items[below + 1] < items[below]:
                below += 1
            if item < items[below]:
                break
            items[position] = items[below]
            positions[items[position][1]] = position
            position = below
        items[position] = item
        positions[item[1]] = position
