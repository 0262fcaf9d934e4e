"""A refusal that no cluster may give, or not at that moment, is told."""

from __future__ import annotations

import pytest

from chaos.checkers import CHECKERS
from chaos.evidence import Fault
from tests.unit.chaos.recorded import MS, PLAIN, Record, token


def judged(record: Record, *faults: Fault) -> list[str]:
    return CHECKERS["refusals"](record.evidence(faults=list(faults))).violations


def submits(code: str, *, refused: int, of: int = 100, every_ms: int = 100) -> Record:
    record = Record()
    for number in range(of):
        task, at = f"t{number}", number * every_ms
        if number < refused:
            record.refuse("submit", task, (at, at + 5), code, **PLAIN)
        else:
            record.submit(task, at, at + 5, number + 1)
    return record


@pytest.mark.parametrize("code", ["TOO_OLD", "TOO_NEW", "DISK_FULL", "QUEUE_FULL", "FORBIDDEN"])
def test_fresh_tasks_that_are_refused_for_no_reason_are_told(code: str) -> None:
    found = CHECKERS["refusals"](submits(code, refused=90).evidence())
    assert found.counts["violations"] == 90
    assert found.counts[f"submit: {code}"] == 90
    assert f'fail {{"code": "{code}"}}' in found.violations[0]


def test_a_task_may_be_refused_while_a_disk_is_full_and_just_after() -> None:
    record = submits("DISK_FULL", refused=90)
    full = Fault(0, 2_000 * MS, "disk full leader", (1,))
    assert judged(record, full) == []
    record.settings["room_max_ms"] = 1_000
    told = judged(record, full)
    assert "no disk is full, or was until just now: #32 c submit" in told[0]
    assert judged(record, Fault(0, None, "disk full leader", (1,))) == []
    assert len(judged(record, Fault(0, 2_000 * MS, "kill leader", (1,)))) == 20


def test_a_queue_may_be_full_once_so_many_tasks_may_be_in_it() -> None:
    record = Record(queue_max=3)
    record.submit("t1", 0, 10, 5)
    record.submit("t2", 20, 30, 6, queue="b")
    record.refuse("submit", "t3", (40, 50), "QUEUE_FULL", **PLAIN)
    record.submit("t4", 60, 70, 7)
    record.note("submit", "t5", (80, 90), None, outcome="unknown", **PLAIN)
    record.refuse("submit", "t6", (100, 110), "QUEUE_FULL", **PLAIN)
    [told] = judged(record)
    assert "the queue cannot hold 3 tasks: #3 c submit" in told


GOOD = {
    "complete": ["LEASE_LOST", "NOT_FOUND", "UNAVAILABLE"],
    "progress": ["LEASE_LOST", "RATE_LIMITED"],
    "claim": ["UNKNOWN_SESSION", "UNAVAILABLE"],
    "heartbeat": ["UNKNOWN_SESSION"],
    "cancel": ["NOT_CANCELLABLE", "NOT_FOUND"],
    "get": ["NOT_FOUND", "UNAVAILABLE"],
    "submit": ["CONFLICT", "UNAVAILABLE"],
    "list": ["UNAVAILABLE"],
    "register": ["UNAVAILABLE"],
}
BAD = {
    "complete": ["UNKNOWN_SESSION", "DISK_FULL", "RATE_LIMITED", "BAD_REQUEST", ""],
    "claim": ["LEASE_LOST", "NOT_FOUND", "RATE_LIMITED"],
    "heartbeat": ["LEASE_LOST"],
    "cancel": ["LEASE_LOST"],
    "get": ["NOT_CANCELLABLE"],
    "submit": ["NOT_FOUND", "SOMETHING_NEW"],
    "list": ["NOT_FOUND"],
    "register": ["UNKNOWN_SESSION"],
}


@pytest.mark.parametrize("is_good", [True, False])
def test_each_kind_of_call_has_answers_of_its_own(is_good: bool) -> None:
    for kind, codes in (GOOD if is_good else BAD).items():
        for code in codes:
            record = Record()
            record.refuse(kind, "t1", (0, 5), code, session=1, token=token(5), tokens=[])
            assert (judged(record) == []) is is_good, (kind, code)


def test_calls_that_find_nobody_in_a_calm_minute_are_told() -> None:
    [told] = judged(submits("UNAVAILABLE", refused=6))
    assert "6 of 100 times submit was left alone while nothing was done" in told
    assert judged(submits("UNAVAILABLE", refused=5)) == []
    assert judged(submits("UNAVAILABLE", refused=90, of=99)) == []
    assert judged(submits("UNAVAILABLE", refused=90), Fault(0, None, "kill all", (1,))) == []
    beside = Fault(0, 60_000 * MS, "vanishing clients", (1,))
    assert judged(submits("UNAVAILABLE", refused=90), beside) != []
