"""What the clients asked and were answered, with the times a client's own clock would show.

An operation begins when its caller wants it and ends when the caller has its answer or
gives up. In between it may be sent any number of times, to any node, always with the same
request id: its number, which no other operation of the world has. What it did is judged
from here, by the rules in `tests.simulation.invariants`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from tests.simulation.ledger import Ledger

if TYPE_CHECKING:
    from tests.simulation.callers import Line

Outcome = Literal["open", "ok", "fail", "info"]
"""Not over yet; acknowledged; certainly no effect; perhaps an effect, now or later."""

NEVER: Final = math.inf


@dataclass(slots=True, eq=False)
class Operation:
    """One call of one client.

    Attributes:
        number: Unique in its world; the request id of every sending.
        actor: Who called.
        kind: What: `submit`, `batch`, `claim`, `result`, ...
        what: The request's fields after the request id.
        invoked: When the caller wanted it, seconds.
        invoked_index: Log index that some caller had an answer from by then.
        returned: When the caller knew, or gave up.
        outcome: See `Outcome`.
        code: Of the refusal that ended it, "" after an ACK.
        answer: Fields of the ACK after the request id.
        sends: How often it was sent.
        doubts: Sendings of which nobody knows whether they took effect: the connection
            ended, the patience ended, or the node said so.
        sent_at: When it was last sent.
        node_id: Who answered last.
        line: Number of the connection it was last sent on, among those of its actor.
    """

    number: int
    actor: str
    kind: str
    what: tuple[Any, ...]
    invoked: float
    invoked_index: int = 0
    returned: float = NEVER
    outcome: Outcome = "open"
    code: str = ""
    answer: list[Any] = field(default_factory=list)
    sends: int = 0
    doubts: int = 0
    sent_at: float = 0.0
    node_id: int = 0
    line: int = 0

    def describe(self) -> str:
        """Say it in one line."""
        shown = ", ".join(
            part.hex()[:12] if isinstance(part, bytes) and len(part) == 16 else repr(part)[:40]
            for part in self.what
        )
        span = f"{self.invoked - 1000:.3f}..{self.returned - 1000:.3f}"
        said = self.code or repr(self.answer)[:80]
        return f"#{self.number} {self.actor} {self.kind}({shown}) {span} {self.outcome} {said}"


class History:
    """Every operation of a world, in the order of their numbers.

    Attributes:
        operations: All of them.
        counts: How many ended, by (kind, outcome or code).
        listeners: Called with each operation as it ends.
        troubles: What no client should ever see: an answer to nothing, two answers.
        acked_index: Largest log index that a caller has an answer from.
        lines: The latest connection of each actor.
        ledger: What the log made of it all.
    """

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.counts: Counter[tuple[str, str]] = Counter()
        self.listeners: list[Callable[[Operation], None]] = []
        self.troubles: list[str] = []
        self.acked_index = 0
        self.lines: dict[str, Line] = {}
        self.ledger = Ledger()
        self._number = 0

    def next_number(self) -> int:
        """A request id that nobody used."""
        self._number += 1
        return self._number

    def begin(self, actor: str, kind: str, what: tuple[Any, ...], now: float) -> Operation:
        """Note that a caller wants something."""
        operation = Operation(self.next_number(), actor, kind, what, now, self.acked_index)
        self.operations.append(operation)
        return operation

    def end(self, operation: Operation, outcome: Outcome, now: float) -> None:
        """Note what a caller knows now; the last word on this operation."""
        assert operation.outcome == "open", f"ended twice: {operation.describe()}"
        operation.outcome = outcome
        operation.returned = now
        self.counts[operation.kind, operation.code or outcome] += 1
        for listener in self.listeners:
            listener(operation)

    def acknowledged(self) -> int:
        """Count the operations that were answered with success."""
        return sum(count for (_, how), count in self.counts.items() if how == "ok")

    def answered(self) -> int:
        """Count the operations that ended with a definite answer, of success or refusal."""
        return sum(count for (_, how), count in self.counts.items() if how not in _UNANSWERED)


GAVE_UP: Final = "GAVE_UP"
"""Code of an operation whose caller stopped waiting."""
_UNANSWERED: Final = frozenset({"info", "open", GAVE_UP, "UNKNOWN_OUTCOME"})
