"""Histories made by hand: a record of a few operations at chosen milliseconds."""

from __future__ import annotations

from typing import Any

from chaos.evidence import Evidence
from chaos.history import Operation, Outcome
from chaos.stories import FINAL, POSITION_BITS

MS = 1_000_000
PLAIN: dict[str, Any] = {"queue": "a", "priority": 100, "delay_ms": 0, "payload": 7}


def token(index: int, position: int = 0) -> int:
    return index << POSITION_BITS | position


class Record:
    """Builds a history; times are milliseconds since its beginning."""

    def __init__(self, **settings: Any) -> None:
        self.operations: list[Operation] = []
        self.settings: dict[str, Any] = {"exports_min": 0, **settings}

    def note(
        self,
        kind: str,
        task: str,
        span: tuple[float, float | None],
        value: Any = None,
        *,
        who: str = "c",
        outcome: Outcome = "ok",
        **asked: Any,
    ) -> Operation:
        at, to = span
        ended = None if to is None else int(to * MS)
        number = len(self.operations) + 1
        operation = Operation(number, who, kind, task, asked, int(at * MS), ended, outcome, value)
        self.operations.append(operation)
        return operation

    def submit(self, task: str, at: float, to: float, index: int, **asked: Any) -> Operation:
        return self.note("submit", task, (at, to), {"index": index}, **{**PLAIN, **asked})

    def claim(
        self,
        task: str,
        span: tuple[float, float],
        index: int,
        *,
        attempt: int = 1,
        place: int,
        who: str = "w",
        session: int = 1,
        queue: str = "a",
        lease_ms: int = 1_000,
        position: int = 0,
    ) -> int:
        """Grant one task; return its token."""
        grant = {
            "task": task,
            "token": token(index, position),
            "queue": queue,
            "attempt": attempt,
            "lease_ms": lease_ms,
            "place": place,
        }
        value = {"grants": [grant]}
        asked: dict[str, Any] = {"session": session, "queues": [queue], "count": 1, "wait_ms": 0}
        self.note("claim", "", span, value, who=who, **asked)
        return token(index, position)

    def complete(
        self, task: str, at: float, to: float, with_token: int, *, result: str = "aa"
    ) -> Operation:
        value = {"state": "completed"}
        return self.note("complete", task, (at, to), value, token=with_token, result=result)

    def refuse(
        self, kind: str, task: str, span: tuple[float, float], code: str, **asked: Any
    ) -> None:
        self.note(kind, task, span, {"code": code}, outcome="fail", **asked)

    def get(self, task: str, span: tuple[float, float], state: str, **value: Any) -> Operation:
        told = {"state": state, **value}
        return self.note("get", task, span, told, consistency="linearizable")

    def final(self, task: str, at: float, state: str, **value: Any) -> Operation:
        told = {"state": state, **value}
        return self.note("get", task, (at, at + 1), told, who=FINAL, consistency="linearizable")

    def evidence(self, **more: Any) -> Evidence:
        history = sorted(self.operations, key=lambda operation: operation.at)
        return Evidence(history, settings=self.settings, began_ns=0, **more)


def life(record: Record, task: str = "t1", *, start: float = 0, index: int = 5) -> int:
    """Submit, claim, complete, read: a life as it should be, of 100 ms. Return the token."""
    record.submit(task, start, start + 10, index)
    held = record.claim(task, (start + 20, start + 30), index + 1, place=token(index))
    record.get(task, (start + 40, start + 45), "in_progress", attempt=1, failures=0, lost=0)
    record.complete(task, start + 50, start + 60, held)
    record.final(task, start + 99, "completed", attempt=1, failures=0, lost=0, result="aa")
    return held
