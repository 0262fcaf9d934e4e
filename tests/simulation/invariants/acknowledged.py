"""No acknowledged command is lost (S1, S2, U1), and answers keep real time (S5).

What a client was told took effect is in the committed log with that very reply, at an index
later than anything anybody had been told before the call began. What a client was told had
no effect has none, then and later. At the end every accepted task is there as the log left
it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from statemachine import Accepted, BatchAccepted, Granted, Recorded, Refused, Registered
from tests.simulation.history import Operation
from tests.simulation.invariants.rule import Invariant
from tests.simulation.stories import GONE

if TYPE_CHECKING:
    from tests.simulation.world import World

LOGGED: Final = frozenset(
    {
        "submit", "batch", "register", "deregister", "claim", "result", "extend", "progress",
        "release", "cancel",
    }
)  # fmt: skip
"""Kinds of operations that go through the log."""
_DECIDED_BY_THE_LOG: Final = frozenset({"CONFLICT", "LEASE_LOST", "NOT_FOUND", "NOT_CANCELLABLE"})


def answer_of(reply: object) -> list[Any]:
    """What a client is told of a reply, as the protocol says."""
    match reply:
        case Accepted():
            return [reply.log_index]
        case BatchAccepted():
            return [[_item(one) for one in reply.replies]]
        case Recorded():
            return [str(reply.state)]
        case Registered():
            return [reply.session, reply.lease_ms]
        case Granted():
            return [[grant.token for grant in reply.grants]]
        case _:
            return []


def _item(reply: Accepted | Refused) -> list[Any]:
    if isinstance(reply, Accepted):
        return [0, reply.log_index]
    return [str(reply.code), reply.text, reply.retry_after_ms]


class Acknowledged(Invariant):
    """Told is done."""

    name = "no acknowledged command lost"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._history = world.history
        self._ledger = world.history.ledger
        self._refused: list[Operation] = []
        self._history.listeners.append(self._ended)

    def _ended(self, operation: Operation) -> None:
        if operation.kind not in LOGGED:
            return
        if operation.outcome == "ok":
            self._acknowledged(operation)
        elif operation.outcome == "fail":
            self._refused.append(operation)
            if operation.code in _DECIDED_BY_THE_LOG:
                self._refusal(operation)

    def _acknowledged(self, operation: Operation) -> None:
        wanted = operation.answer
        if operation.kind == "claim":
            tokens = {grant[1] for grant in wanted[0]}
            if not tokens:
                return
        for index, reply in self._ledger.applied.get(operation.number, ()):
            if index <= operation.invoked_index or isinstance(reply, Refused):
                continue
            if operation.kind == "claim":
                fits = isinstance(reply, Granted) and tokens <= {one.token for one in reply.grants}
            else:
                fits = answer_of(reply) == wanted
            if fits:
                self._history.acked_index = max(self._history.acked_index, index)
                return
        self.fail(
            f"{operation.describe()} is not in the log after entry {operation.invoked_index}: "
            f"{self._ledger.applied.get(operation.number)}"
        )

    def _refusal(self, operation: Operation) -> None:
        for index, reply in self._ledger.applied.get(operation.number, ()):
            if index <= operation.invoked_index or not isinstance(reply, Refused):
                continue
            if reply.code == operation.code:
                self._history.acked_index = max(self._history.acked_index, index)
                return
        self.fail(f"{operation.describe()} was not refused so by the log")

    def finished(self) -> None:
        for operation in self._refused:
            for index, reply in self._ledger.applied.get(operation.number, ()):
                if not isinstance(reply, Refused) and reply != Granted([]):
                    self.fail(f"{operation.describe()} took effect at {index}: {reply}")
        node = max(
            self.world.nodes.values(),
            key=lambda one: one.engine.applied_index if one.engine is not None else -1,
        )
        for task_id, story in self._ledger.tasks.items():
            told = node.machine.status("default", task_id)
            state = GONE if told is None else told["state"]
            if state != story.state:
                self.fail(f"{story.describe()} is {state} on node {node.node_id}")
