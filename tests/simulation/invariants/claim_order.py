"""Order of claims (S6).

A claim gets the best tasks of its queues: the highest priority first, and within one
priority those whose submits were committed first. A task that was released, expired or
retried stands at its original place, and so does one whose delay is over.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from statemachine import Claim, Grant
from tests.simulation.invariants.rule import Invariant
from tests.simulation.stories import PENDING, Listener, TaskStory

if TYPE_CHECKING:
    from tests.simulation.world import World

Rank = tuple[int, int, TaskStory]
"""Minus the priority, the place, the task: the smallest is next. Places are unique."""


class ClaimOrder(Listener, Invariant):
    """First come, first claimed."""

    name = "order of claims"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        world.history.ledger.listeners.append(self)
        self._lines: dict[str, list[Rank]] = {}
        """Queue -> heap of what was ever claimable; what is no more leaves when it is first."""
        self._there: set[int] = set()
        """Places that are in a heap."""

    def pending(self, story: TaskStory) -> None:
        if story.place in self._there:
            return
        self._there.add(story.place)
        line = self._lines.setdefault(story.kind.queue, [])
        heapq.heappush(line, (-story.kind.priority, story.place, story))

    def granted(
        self, story: TaskStory | None, command: Claim, grant: Grant, *, again: bool
    ) -> None:
        if again or story is None:
            return
        heads = [head for queue in command.queues if (head := self._head(queue)) is not None]
        best = min(heads)[2] if heads else None
        if best is not story:
            instead = "nothing" if best is None else best.describe()
            self.fail(f"{story.describe()} is claimed where {instead} is next")

    def _head(self, queue: str) -> Rank | None:
        line = self._lines.get(queue)
        while line and line[0][2].state != PENDING:
            self._there.discard(heapq.heappop(line)[1])
        return line[0] if line else None
