"""What an answer that never came can explain, and what it cannot; and what that may cost."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.checkers import CHECKERS, linearizable
from chaos.evidence import Evidence
from chaos.history import Outcome
from chaos.verdict import Verdict
from tests.unit.chaos.recorded import Record, token


def verdict(checker: str, record: Record, **more: object) -> Verdict:
    return CHECKERS[checker](record.evidence(**more))


def test_an_operation_without_an_answer_may_take_effect_much_later() -> None:
    record = Record()
    record.submit("t1", 0, 10, 5)
    held = record.claim("t1", (20, 30), 6, place=token(5))
    record.note("complete", "t1", (40, 90), None, outcome="unknown", token=held, result="aa")
    record.get("t1", (500, 510), "in_progress", attempt=1)
    record.get("t1", (600, 610), "completed", attempt=1, result="aa")
    assert verdict("linearizable", record).ok


def test_an_operation_without_an_answer_takes_effect_once_and_not_before_it_begins() -> None:
    record = Record()
    record.submit("t1", 0, 10, 5)
    held = record.claim("t1", (20, 30), 6, place=token(5))
    record.get("t1", (31, 32), "completed", attempt=1, result="aa")
    record.note("complete", "t1", (40, 90), None, outcome="unknown", token=held, result="aa")
    assert not verdict("linearizable", record).ok


def test_a_claim_without_an_answer_may_have_taken_an_attempt_nobody_heard_of() -> None:
    record = Record()
    record.submit("t1", 0, 10, 5)
    record.claim("t1", (3_020, 3_030), 9, place=token(5), attempt=2)
    assert not verdict("linearizable", record).ok
    record.note("claim", "", (20, 30), None, outcome="unknown", queues=["b"], session=2)
    assert not verdict("linearizable", record).ok
    record.note("claim", "", (20, 30), None, outcome="unknown", queues=["a"], session=2)
    assert verdict("linearizable", record).ok


def test_progress_that_is_refused_may_have_been_noted_when_it_was_asked_for_before() -> None:
    record = Record()
    record.submit("t1", 0, 10, 5)
    held = record.claim("t1", (20, 30), 6, place=token(5))
    record.get("t1", (31, 32), "in_progress", attempt=1, progress=None)
    record.refuse("progress", "t1", (40, 2_000), "LEASE_LOST", token=held, permille=17)
    record.get("t1", (60, 70), "in_progress", attempt=1, progress=17)
    assert verdict("linearizable", record).ok


def test_progress_is_not_refused_while_its_lease_lives() -> None:
    record = Record()
    record.submit("t1", 0, 10, 5)
    held = record.claim("t1", (20, 30), 6, place=token(5))
    record.refuse("progress", "t1", (40, 50), "LEASE_LOST", token=held, permille=17)
    record.complete("t1", 60, 70, held)
    assert not verdict("linearizable", record).ok


def lost_by_a_ghost(at: float, to: float | None, outcome: Outcome) -> Verdict:
    """A task of minute 1 is granted as attempt 2, with one lost; one claim before went wrong."""
    record = Record()
    record.submit("t1", 60_000, 60_010, 5)
    record.claim("t1", (63_020, 63_030), 9, place=token(5), attempt=2)
    record.get("t1", (63_040, 63_045), "in_progress", attempt=2, lost=1)
    value: dict[str, Any] = {"code": "UNAVAILABLE"} if outcome == "fail" else {"grants": []}
    record.note("claim", "", (at, to), value, outcome=outcome, queues=["a"], session=2)
    return verdict("linearizable", record)


@pytest.mark.parametrize(
    ("span", "outcome", "is_explained"),
    [
        ((0, 10), "fail", False),
        ((58_000, 59_999), "fail", False),
        ((58_000, 60_005), "fail", True),
        ((0, 40_000), "ok", False),
        ((58_000, 62_000), "ok", True),
        ((0, 10), "unknown", False),
        ((0, 29_000), "unknown", False),
        ((0, 31_000), "unknown", True),
        ((0, None), "unknown", True),
        ((64_000, None), "unknown", False),
    ],
)
def test_a_claim_of_long_ago_explains_nothing(
    span: tuple[float, float | None], outcome: Outcome, is_explained: bool
) -> None:
    assert lost_by_a_ghost(*span, outcome).ok is is_explained


def test_a_search_that_takes_too_long_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linearizable, "MOVES_MAX", 2)
    record = Record()
    record.submit("t1", 0, 10, 5)
    held = record.claim("t1", (20, 30), 6, place=token(5))
    record.complete("t1", 40, 50, held + 1)
    found = verdict("linearizable", record)
    assert not found.ok
    assert "task t1: not decided after 3 moves" in found.violations[0]


def test_many_calls_at_once_do_not_blow_the_search_up() -> None:
    record = Record()
    record.submit("t1", 0, 10, 5)
    held = record.claim("t1", (20, 30), 6, place=token(5))
    for number in range(40):
        told = {"token": held, "permille": number}
        record.note("progress", "t1", (40, 90), outcome="unknown").arguments = told
        record.note("extend", "t1", (40 + number, 200), {}, token=held, lease_ms=1_000)
    record.get("t1", (300, 310), "in_progress", attempt=1, progress=17)
    found = verdict("linearizable", record)
    assert found.ok
    assert found.counts["most moves for one task"] < 1_000


def test_only_the_first_violations_are_told_and_all_are_counted() -> None:
    record = Record()
    for number in range(30):
        record.submit(f"t{number}", 0, 10, 5)
    found = verdict("durable", record)
    assert (len(found.violations), found.counts["violations"]) == (20, 30)


def test_evidence_without_a_beginning_counts_from_its_first_operation() -> None:
    record = Record()
    record.submit("t1", 1_000, 1_010, 5)
    assert Evidence(record.operations).second(1_500_000_000) == "0.500000 s"
