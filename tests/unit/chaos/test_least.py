"""A run of some minutes in which a checker had nothing to look at has shown nothing."""

from __future__ import annotations

import pytest

from chaos.check import judge
from chaos.checkers import CHECKERS
from chaos.least import LEAST, LONG_MS, demand
from chaos.verdict import Verdict
from tests.unit.chaos.recorded import Record, life


def run(length_ms: int) -> Record:
    record = Record()
    life(record)
    record.get("t1", (length_ms - 10, length_ms), "completed", attempt=1, result="aa")
    return record


def test_a_short_run_need_not_show_everything_and_a_long_one_must() -> None:
    names = ["stale", "once", "gaps"]
    assert [one.ok for one in judge(run(LONG_MS - 1).evidence(), names)] == [True, True, True]
    stale, once, gaps = judge(run(LONG_MS).evidence(), names)
    assert gaps.ok
    assert stale.violations == [
        f"there was too little to look at in 120 s: 0 {name}; 1 would be the least"
        for name in ("lists", "stale reads")
    ]
    assert (stale.ok, stale.counts["violations"]) == (False, 2)
    assert (once.ok, once.counts["violations"]) == (False, 1)


@pytest.mark.parametrize("name", list(LEAST))
def test_what_is_asked_for_is_enough_and_one_less_is_not(name: str) -> None:
    evidence = run(LONG_MS).evidence()
    enough = Verdict(name, True, {**LEAST[name], "violations": 0}, [], 0.0)
    demand(evidence, enough)
    assert enough.ok
    for what, least in LEAST[name].items():
        counts = {**LEAST[name], what: least - 1, "violations": 0}
        verdict = Verdict(name, True, counts, [], 0.0)
        demand(evidence, verdict)
        assert not verdict.ok
        assert f"{least - 1} {what}; {least} would be" in verdict.violations[0]


def test_only_checkers_are_asked() -> None:
    assert set(LEAST) - set(CHECKERS) == set()
    demand(Record().evidence(), Verdict("stale", True, {"violations": 0}, [], 0.0))
