"""While nothing is done to a cluster somebody leads, and submits and claims are answered."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.calm import Gap, Quiet
from chaos.checkers import CHECKERS
from chaos.evidence import Fault, Sample
from chaos.verdict import Verdict
from tests.unit.chaos.recorded import MS, Record, token

MINUTE_MS = 60_000


def verdict(checker: str, record: Record, **more: Any) -> Verdict:
    return CHECKERS[checker](record.evidence(**more))


def samples(*, leaderless: range = range(0), quorum: bool = True) -> list[Sample]:
    """Three nodes, five times a second; nobody leads in some milliseconds."""
    found = []
    for at in range(0, MINUTE_MS, 200):
        led = at not in leaderless
        for node in (2, 3, 1):
            role = "leader" if led and node == 1 else "follower"
            follows = 1 if led and (quorum or node == 1) else None
            found.append(Sample(at * MS, node, True, role, 4, follows))
    return found


def work(*, claims: str = "ok", submits: str = "ok", since_ms: int = 20_000) -> Record:
    """A minute of submits and claims; from some millisecond on they end in another way."""
    record = Record(nodes=3)
    for number, at in enumerate(range(0, MINUTE_MS, 500)):
        task, index = f"t{number}", 2 * number + 1
        record.submit(task, at, at + 10, index)
        spoil(record, submits if at >= since_ms else "ok", at)
        record.claim(task, (at + 20, at + 30), index + 1, place=token(index))
        spoil(record, claims if at >= since_ms else "ok", at)
    return record


def spoil(record: Record, how: str, at: int) -> None:
    """Let the latest operation end in some way."""
    one = record.operations[-1]
    if how == "refused":
        one.outcome, one.value = "fail", {"code": "NO_QUORUM"}
    elif how == "given up":
        one.outcome, one.value, one.to = "unknown", None, (at + 4_000) * MS
    elif how == "never":
        one.outcome, one.value, one.to = "unknown", None, None
    elif how == "not even tried":
        record.operations.pop()


@pytest.mark.parametrize("how", ["refused", "given up", "never"])
def test_a_calm_minute_in_which_no_claim_is_answered_is_told(how: str) -> None:
    found = verdict("liveness", work(claims=how), samples=samples())
    assert "no claim was answered for" in found.violations[0]
    assert "when nothing is done to the cluster; for example #" in found.violations[0]


@pytest.mark.parametrize("how", ["refused", "given up", "never"])
def test_a_calm_minute_in_which_no_submit_is_accepted_is_told(how: str) -> None:
    found = verdict("gaps", work(submits=how))
    assert "at most 5000 ms are allowed when nothing is done" in found.violations[0]


@pytest.mark.parametrize("kind", ["claim", "submit"])
def test_one_call_that_hangs_for_a_calm_minute_is_told(kind: str) -> None:
    record = work(claims="not even tried", submits="not even tried")
    record.note(kind, "t999", (21_000, None), None, who="w", outcome="unknown", queue="a")
    record.get("t1", (59_000, 59_010), "pending")
    assert not verdict({"claim": "liveness", "submit": "gaps"}[kind], record, samples=samples()).ok


def test_what_is_not_asked_for_is_not_missed() -> None:
    record = work(claims="not even tried", submits="not even tried")
    assert verdict("liveness", record, samples=samples()).ok
    assert verdict("gaps", record).ok


def test_a_calm_minute_in_which_all_is_well_is_fine() -> None:
    assert verdict("liveness", work(), samples=samples()).ok
    assert verdict("gaps", work()).ok


def test_a_claim_may_wait_for_as_long_as_it_asked_for() -> None:
    record = Record(nodes=3)
    record.submit("t1", 0, 10, 5)
    asked: dict[str, Any] = {"session": 1, "queues": ["a"], "count": 1, "wait_ms": 30_000}
    record.note("claim", "", (100, 30_200), {"grants": []}, who="w", **asked)
    assert verdict("liveness", record, samples=samples()).ok
    record.operations[-1].to = 40_000 * MS
    assert not verdict("liveness", record, samples=samples()).ok


@pytest.mark.parametrize("how", ["refused", "given up", "never"])
@pytest.mark.parametrize(
    "fault",
    [
        Fault(19_000 * MS, MINUTE_MS * MS, "pause all"),
        Fault(19_000 * MS, 54_000 * MS, "pause all"),
        Fault(19_000 * MS, 44_000 * MS, "power all"),
    ],
    ids=["during", "just after", "while nodes start"],
)
def test_nothing_is_missed_while_a_fault_is_under_way_or_just_over(how: str, fault: Fault) -> None:
    record = work(claims=how, submits=how)
    seen = samples(leaderless=range(20_000, MINUTE_MS))
    assert verdict("liveness", record, samples=seen, faults=[fault]).ok
    assert verdict("gaps", record, faults=[fault]).ok
    fault = Fault(fault.at, 30_000 * MS, fault.kind)
    assert not verdict("liveness", record, samples=seen, faults=[fault]).ok
    assert not verdict("gaps", record, faults=[fault]).ok


@pytest.mark.parametrize("kind", ["worker frozen", "vanishing clients", "clock jump leader"])
def test_what_touches_no_node_and_no_clock_of_any_wait_is_no_excuse(kind: str) -> None:
    faults = [Fault(19_000 * MS, MINUTE_MS * MS, kind, (1, 2, 3))]
    record = work(claims="refused", submits="refused")
    seen = samples(leaderless=range(30_000, 50_000))
    found = verdict("liveness", record, samples=seen, faults=faults)
    assert [text[:20] for text in found.violations] == [
        "no claim was answere",
        "no node leads a majo",
    ]
    assert not verdict("gaps", record, faults=faults).ok


@pytest.mark.parametrize(
    ("kind", "is_told"),
    [("vanishing clients", True), ("clock strobe", True), ("worker frozen", False)],
)
def test_a_stall_is_judged_unless_a_fault_makes_it_unknown_who_waits(
    kind: str, is_told: bool
) -> None:
    record = Record(nodes=3)
    record.submit("t1", 0, 10, 5)
    asked: dict[str, Any] = {"session": 1, "queues": ["a"], "count": 1, "wait_ms": 20_000}
    record.note("claim", "", (0, 20_000), {"grants": []}, who="w", **asked)
    seen = samples()
    for sample in seen:
        sample.ready = 3 if sample.node == 1 else 0
    fault = Fault(0, 40_000 * MS, kind, (1,))
    assert verdict("liveness", record, samples=seen, faults=[fault]).ok is not is_told


def test_a_bound_of_the_fault_does_not_excuse_what_comes_long_after() -> None:
    """A gap that began in a fault is the fault's as long as that is what it can be."""
    record = work(submits="refused")
    record.settings["gap_max_ms"] = {"pause all": 90_000.0}
    fault = Fault(19_000 * MS, 21_000 * MS, "pause all")
    [told] = verdict("gaps", record, faults=[fault]).violations
    assert "from 26.000000 s to 59.510000 s" in told


def test_a_calm_time_without_a_leader_is_told() -> None:
    seen = samples(leaderless=range(20_000, 26_000))
    [told] = verdict("liveness", Record(nodes=3), samples=seen).violations
    assert "no node leads a majority for 6200 ms, from 19.800000 s to 26.000000 s" in told
    assert not verdict("liveness", Record(nodes=3), samples=samples(quorum=False)).ok
    assert verdict(
        "liveness", Record(nodes=3), samples=samples(leaderless=range(20_000, 24_000))
    ).ok


def test_a_time_at_the_end_without_a_leader_is_told() -> None:
    seen = samples(leaderless=range(50_000, MINUTE_MS))
    assert (
        "from 49.800000 s to 59.800000 s"
        in (verdict("liveness", Record(nodes=3), samples=seen).violations[0])
    )


@pytest.mark.parametrize("how", ["refused", "given up", "never"])
def test_a_claim_waits_for_ready_tasks_whatever_comes_of_it(how: str) -> None:
    """The leader has tasks, and one claim alone that never gets any of them."""
    record = Record(nodes=3)
    record.submit("t1", 0, 10, 5)
    asked: dict[str, Any] = {"session": 1, "queues": ["a"], "count": 1, "wait_ms": 1_000}
    record.note("claim", "", (2_000, 5_000), {"grants": []}, who="w", **asked)
    spoil(record, how, 1_000)
    if how == "refused":
        record.operations[-1].to = 5_000 * MS
    seen = samples()
    for sample in seen:
        sample.ready = 3 if sample.node == 1 and sample.at < 6_000 * MS else 0
    found = verdict("liveness", record, samples=seen)
    assert "and grants none, while there waits #2 w claim" in found.violations[0]


def test_the_quiet_pieces_of_a_time_lie_between_faults() -> None:
    faults = [Fault(100 * MS, 150 * MS, "cut"), Fault(120 * MS, 130 * MS, "kill leader")]
    faults += [Fault(300 * MS, None, "clock jump")]
    record = Record(settle_ms=10, restart_ms=50)
    evidence = record.evidence(faults=faults)

    def pieces(quiet: Quiet, begins: int, ends: int) -> list[tuple[int, ...]]:
        found = quiet.pieces(begins * MS, ends * MS)
        return [(one.begins // MS, one.ends // MS) for one in found]

    assert pieces(Quiet(evidence), 0, 400) == [(0, 100), (160, 300), (310, 400)]
    assert pieces(Quiet(evidence, restarts=True), 0, 400) == [(0, 100), (180, 300), (310, 400)]
    assert pieces(Quiet(evidence, kinds="clock"), 50, 305) == [(50, 300)]
    assert pieces(Quiet(evidence), 110, 155) == []
    assert pieces(Quiet(evidence), 170, 200) == [(170, 200)]
    assert Quiet(evidence).longest(0, 400 * MS) == Gap(160 * MS, 300 * MS)
    assert Quiet(evidence).whole(170 * MS, 200 * MS)
    assert not Quiet(evidence).whole(90 * MS, 101 * MS)
