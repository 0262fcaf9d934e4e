"""Reads are what the log says (S5): none is older than what anybody knew when it was asked.

The state in an answer is that of some position of the log between the latest one that any
caller had an answer from when the question was asked, and the last one committed when it
was answered. A stale read names its position and is exactly that; on one connection the
positions never go back, and none is below what was asked for.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any

from statemachine import POSITION_BITS
from tests.simulation.history import Operation
from tests.simulation.invariants.rule import Invariant
from tests.simulation.stories import GONE, TaskStory, Version

if TYPE_CHECKING:
    from tests.simulation.world import World

_UNKNOWN: Version = (0, GONE, 0, 0, 0)


class Reads(Invariant):
    """Never stale, unless asked to be."""

    name = "reads keep real time"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._history = world.history
        self._tasks = world.history.ledger.tasks
        self._stale_at: dict[tuple[str, int], int] = {}
        """Actor and connection -> position of its last stale read."""
        self._history.listeners.append(self._ended)

    def _ended(self, operation: Operation) -> None:
        kind = operation.kind
        if kind in {"read", "wait"}:
            if operation.outcome == "ok":
                self._current(operation, operation.answer[0])
            elif operation.code == "NOT_FOUND":
                self._current(operation, None)
        elif kind == "stale" and operation.outcome == "ok":
            self._stale(operation)

    def _current(self, operation: Operation, status: dict[str, Any] | None) -> None:
        task_id = operation.what[0]
        for version in self._versions(task_id, operation.invoked_index):
            if _is_told(version, status):
                self._history.acked_index = max(self._history.acked_index, version[0])
                return
        self.fail(
            f"{operation.describe()} shows {_shown(status)}; after entry "
            f"{operation.invoked_index} it was {self._versions(task_id, operation.invoked_index)}"
        )

    def _versions(self, task_id: bytes, index: int) -> list[Version]:
        """What a reader may see who knows of `index`: the state there, and all later ones."""
        story: TaskStory | None = self._tasks.get(task_id)
        if story is None:
            return [_UNKNOWN]
        versions = story.versions
        at = bisect_right(versions, index, key=_index_of)
        if at == 0:
            return [_UNKNOWN, *versions]
        return versions[at - 1 :]

    def _stale(self, operation: Operation) -> None:
        status, index = operation.answer
        task_id, options = operation.what
        key = (operation.actor, operation.line)
        least = max(options.get("at_least", 0), self._stale_at.get(key, 0))
        if index < least:
            self.fail(f"{operation.describe()} goes back to entry {index} from {least}")
        self._stale_at[key] = index
        story = self._tasks.get(task_id)
        seen = _UNKNOWN
        if story is not None and story.place >> POSITION_BITS <= index:
            seen = story.versions[bisect_right(story.versions, index, key=_index_of) - 1]
        if not _is_told(seen, status):
            self.fail(f"{operation.describe()} shows {_shown(status)}, at {index} it was {seen}")


def _index_of(version: Version) -> int:
    return version[0]


def _is_told(version: Version, status: dict[str, Any] | None) -> bool:
    if status is None:
        return version[1] == GONE
    told = (status["state"], status["attempt"], status["failures"], status["lost"])
    return told == version[1:]


def _shown(status: dict[str, Any] | None) -> str:
    if status is None:
        return "nothing"
    return str([status[key] for key in ("state", "attempt", "failures", "lost")])
