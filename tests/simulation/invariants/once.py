"""Nothing is applied twice (S2, S4).

A request comes through the log at most as often as it was sent. An id is accepted once and
keeps the index of that time; a task ends once and never moves again. At the end the
machine has counted what the log holds, not more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from statemachine import POSITION_BITS, Accepted, Code, Outcome, Refused
from tests.simulation.invariants.rule import Invariant
from tests.simulation.stories import CANCELLED, COMPLETED, DEAD_LETTER, GONE, Listener, TaskStory

if TYPE_CHECKING:
    from tests.simulation.world import World

_AS_A_NEW_ID = frozenset({Code.QUEUE_FULL, Code.TOO_OLD, Code.TOO_NEW, Code.RATE_LIMITED})


class Once(Listener, Invariant):
    """Applied once."""

    name = "none applied twice"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._ledger = world.history.ledger
        self._ledger.listeners.append(self)
        self._finished: set[bytes] = set()

    def submitted(self, story: TaskStory | None, task_id: bytes, reply: object) -> None:
        ledger = self._ledger
        index = ledger.index if story is None else story.place >> POSITION_BITS
        if isinstance(reply, Accepted):
            if reply.log_index != index:
                self.fail(
                    f"a submit of {task_id.hex()[:12]} at {ledger.index} is told index "
                    f"{reply.log_index} instead of {index}"
                )
        elif isinstance(reply, Refused):
            if story is not None and reply.code in _AS_A_NEW_ID and story.state != GONE:
                self.fail(f"{story.describe()} is refused as if it were new: {reply}")
            if story is None and reply.code == Code.CONFLICT:
                self.fail(f"the new task {task_id.hex()[:12]} is refused: {reply}")

    def applied_first(self, index: int, outcome: Outcome) -> None:
        for task_id in outcome.finished:
            if task_id in self._finished:
                self.fail(f"task {task_id.hex()[:12]} ends a second time at {index}")
            self._finished.add(task_id)
        if outcome.finished != self._ledger.finished:
            self.fail(
                f"at {index} the tasks {[one.hex()[:12] for one in outcome.finished]} end instead "
                f"of {[one.hex()[:12] for one in self._ledger.finished]}"
            )

    def finished(self) -> None:
        for operation in self.world.history.operations:
            if operation.kind == "claim":
                continue  # parked claims come through the log whenever they are woken
            times = len(self._ledger.applied.get(operation.number, ()))
            if times > operation.sends:
                self.fail(f"{operation.describe()}: sent {operation.sends}, applied {times} times")
        stories = self._ledger.tasks.values()
        ended = [story.versions[-2][1] if story.state == GONE else story.state for story in stories]
        expected = {
            "submitted": len(ended),
            "completed": ended.count(COMPLETED),
            "dead": ended.count(DEAD_LETTER),
            "cancelled": ended.count(CANCELLED),
            "failed": sum(story.failures for story in stories),
            "lost": sum(story.lost for story in stories),
        }
        for node in self.world.nodes.values():
            if node.engine is not None and node.engine.applied_index >= self._ledger.index:
                totals: Any = node.machine.statistics()["totals"]
                if totals != expected:
                    self.fail(f"node {node.node_id} counts {totals}, the log holds {expected}")
