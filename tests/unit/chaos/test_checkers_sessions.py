"""A worker's session lasts (T1): a call is told that it is none only with reason."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.checkers import CHECKERS
from chaos.verdict import Verdict
from tests.unit.chaos.recorded import MS, Record, token


def verdict(checker: str, record: Record) -> Verdict:
    return CHECKERS[checker](record.evidence())


def forgotten(*, heard_ms: int = 1_000, told_ms: int = 1_300) -> Record:
    """A session of a second that is forgotten; its worker registers, and another has its task."""
    record = Record(lease_ms=1_000)
    record.note("register", "", (0, 10), {"session": token(3)}, who="w")
    record.submit("t1", 20, 30, 5)
    record.claim("t1", (900, 910), 20, place=token(5), session=token(3))
    beat: dict[str, Any] = {"session": token(3), "tokens": [token(20)]}
    record.note("heartbeat", "", (heard_ms, heard_ms + 5), {"lost": []}, who="w", **beat)
    record.refuse("heartbeat", "", (told_ms - 5, told_ms), "UNKNOWN_SESSION", **beat)
    record.operations[-1].who = "w"
    record.note("register", "", (told_ms + 10, told_ms + 20), {"session": token(30)}, who="w")
    span = (told_ms + 30, told_ms + 40)
    record.claim("t1", span, 40, place=token(5), attempt=2, who="w2", session=token(4))
    return record


def test_a_session_that_ends_before_its_time_is_told_though_its_worker_registers_again() -> None:
    found = verdict("lease_bound", forgotten())
    assert found.counts["sessions judged"] == 1
    [told] = found.violations
    assert f"session {token(3)} of w, of 1000 ms, was heard at 1.000000 s" in told
    assert "had ended 300.0 ms later: #5 w heartbeat" in told
    assert verdict("lease_bound", forgotten(told_ms=2_000)).ok


@pytest.mark.parametrize("kind", ["claim", "heartbeat"])
def test_whatever_is_told_that_its_session_is_none_shows_its_end(kind: str) -> None:
    record = forgotten()
    record.operations[4].kind = kind
    assert not verdict("lease_bound", record).ok


def test_a_session_that_its_worker_may_have_ended_is_over() -> None:
    record = forgotten()
    record.note("deregister", "", (1_100, 1_110), None, outcome="unknown", session=token(3))
    assert verdict("lease_bound", record).ok


@pytest.mark.parametrize("outcome", ["ok", "unknown"])
def test_a_session_whose_worker_may_have_registered_again_is_over(outcome: Any) -> None:
    record = forgotten()
    value = {"session": token(25)} if outcome == "ok" else None
    record.note("register", "", (1_100, 1_110), value, who="w", outcome=outcome)
    assert verdict("lease_bound", record).ok
    record.operations[-1].who = "w3"
    assert not verdict("lease_bound", record).ok


def test_a_registration_that_took_long_may_have_been_made_twice() -> None:
    record = forgotten(heard_ms=3_000, told_ms=3_300)
    record.operations[0].to = 2_000 * MS
    assert verdict("lease_bound", record).ok
    late = forgotten(heard_ms=40_000, told_ms=40_300)
    late.operations[0].to = 2_000 * MS
    assert not verdict("lease_bound", late).ok


def test_a_registration_of_an_earlier_session_ends_no_later_one() -> None:
    record = forgotten()
    record.operations[0].at = 5 * MS
    record.note("register", "", (0, 4), {"session": token(2)}, who="w")
    assert not verdict("lease_bound", record).ok
