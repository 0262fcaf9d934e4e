"""Checkers of availability and of old reads: badness is noticed and told."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.checkers import CHECKERS
from chaos.evidence import Fault, Sample
from chaos.verdict import Verdict
from tests.unit.chaos.recorded import MS, Record, token


def verdict(checker: str, record: Record, **more: Any) -> Verdict:
    return CHECKERS[checker](record.evidence(**more))


# -- liveness


def samples(until_ms: int, *, followers: int = 2, ready: Any = 3) -> list[Sample]:
    return [
        Sample(
            at * MS,
            node,
            up=True,
            role="leader" if node == 1 else "follower",
            term=4,
            leader=1 if node <= followers + 1 else None,
            ready=ready if node == 1 else 0,
        )
        for at in range(0, until_ms, 200)
        for node in (2, 3, 1)
    ]


def waiting(**asked: Any) -> Record:
    record = Record(nodes=3)
    record.submit("t1", 0, 10, 5)
    told: dict[str, Any] = {"session": 1, "queues": ["a"], "count": 1, "wait_ms": 20_000, **asked}
    record.note("claim", "", (0, 20_000), {"grants": []}, who="w", **told)
    return record


def test_ready_tasks_and_a_waiting_worker_without_a_grant_are_told() -> None:
    found = verdict("liveness", waiting(), samples=samples(4_000))
    assert found.counts["violations"] == 1
    assert (
        "node 1, leader of term 4, has had claimable tasks (3) from 0.000000 s to 1.200000 s"
        in (found.violations[0])
    )
    assert "while there waits #2 w claim" in found.violations[0]


def test_a_grant_now_and_then_is_enough() -> None:
    record = waiting()
    for at in range(0, 4_000, 900):
        record.claim("t1", (at, at + 5), 20 + at, place=token(5))
    assert verdict("liveness", record, samples=samples(4_000)).ok


@pytest.mark.parametrize(
    ("record", "seen", "faults"),
    [
        (waiting(), samples(4_000, ready=0), []),
        (waiting(), samples(4_000, ready={"b": 3}), []),
        (waiting(queues=["b"]), samples(4_000), []),
        (waiting(), samples(4_000, followers=0), []),
        (waiting(), samples(4_000), [Fault(100 * MS, None, "kill leader")]),
        (waiting(), samples(4_000), [Fault(0, 3_000 * MS, "cut"), Fault(1, None, "kill")]),
    ],
    ids=["nothing ready", "elsewhere ready", "waits elsewhere", "no quorum", "after", "during"],
)
def test_nothing_is_expected_without_quorum_tasks_waiters_or_quiet(
    record: Record, seen: list[Sample], faults: list[Fault]
) -> None:
    assert verdict("liveness", record, samples=seen, faults=faults).ok


def test_a_run_without_samples_is_not_judged_alive() -> None:
    assert not verdict("liveness", waiting()).ok


def test_followers_of_another_term_make_no_quorum() -> None:
    seen = samples(4_000)
    for sample in seen:
        if sample.node != 1:
            sample.term = 3
    assert verdict("liveness", waiting(), samples=seen).ok


# -- gaps


def submitting(*spans: tuple[float, float, str], **settings: Any) -> Record:
    record = Record(**settings)
    for number, (at, to, outcome) in enumerate(spans):
        record.submit(f"t{number}", at, to, number + 1)
        if outcome != "ok":
            record.operations[-1].outcome = "unknown"
    return record


def test_a_gap_runs_from_an_answer_to_the_next_while_somebody_asks() -> None:
    record = submitting((0, 10, "ok"), (15, 400, "unknown"), (20, 710, "ok"), (2_000, 2_005, "ok"))
    counts = verdict("gaps", record).counts
    assert (counts["longest_ms"], counts["acknowledged"]) == (695, 3)


def test_a_gap_beyond_the_bound_is_told() -> None:
    record = submitting((0, 10, "ok"), (20, 710, "ok"), gap_max_ms=500)
    found = verdict("gaps", record)
    assert (
        "acknowledged for 690 ms, from 0.020000 s to 0.710000 s; at most 500 ms"
        in (found.violations[0])
    )
    record.settings["gap_max_ms"] = 700
    assert verdict("gaps", record).ok


def test_a_gap_at_the_end_that_nobody_ended_is_one() -> None:
    record = submitting((0, 10, "ok"), (20, 900, "unknown"), gap_max_ms=500)
    assert not verdict("gaps", record).ok


def test_gaps_are_counted_and_bounded_by_kind_of_fault() -> None:
    spans = [(at, at + 10, "ok") for at in range(0, 3_000, 20) if not 500 < at < 1_300]
    bounds = {"overall": 300, "kill leader": 900, "cut": 100}
    record = submitting(*spans, (510, 1_290, "ok"), gap_max_ms=bounds)
    kill = Fault(505 * MS, None, "kill leader", (1,), "node 1")
    calm = Fault(2_900 * MS, None, "kill leader", (2,))
    found = verdict("gaps", record, faults=[kill, calm])
    assert found.ok
    assert found.counts["kill leader: faults"] == 2
    assert found.counts["kill leader: max_ms"] == 780
    assert found.counts["kill leader: p50_ms"] <= 20
    cut = Fault(505 * MS, 600 * MS, "cut", (3,), "node 3")
    assert "for cut at 0.505000 s (node 3)" in verdict("gaps", record, faults=[cut]).violations[0]
    assert not verdict("gaps", record).ok


def test_a_gap_that_begins_with_the_next_fault_is_no_matter_of_the_one_before() -> None:
    """As of a follower that was stopped, and all nodes 0.8 s after it went on."""
    spans = [(at, at + 10, "ok") for at in range(0, 6_000, 20) if not 2_000 < at < 4_400]
    bounds = {"pause follower": 2_000, "pause all": 4_000}
    record = submitting(*spans, (2_020, 4_390, "ok"), gap_max_ms=bounds)
    follower = Fault(500 * MS, 1_200 * MS, "pause follower", (2,))
    everybody = Fault(2_005 * MS, 4_300 * MS, "pause all", (1, 2, 3))
    found = verdict("gaps", record, faults=[follower, everybody])
    assert found.ok
    assert (found.counts["pause follower: max_ms"], found.counts["pause all: max_ms"]) == (10, 2370)
    # One that begins before, and lasts for too long before the next fault, is its own.
    late = Fault(4_200 * MS, 4_300 * MS, "pause all", (1, 2, 3))
    assert not verdict("gaps", record, faults=[follower, late]).ok


def relapsing(*, until_ms: int = 12_000, **settings: Any) -> Record:
    """Submits all the time, but for one that is called at 3.5 s and answered late."""
    starts = range(0, 40_000, 100)
    spans = [(at, at + 10, "ok") for at in starts if not 3_500 <= at < until_ms]
    return submitting(*spans, (3_500, until_ms, "ok"), **settings)


def test_a_gap_that_begins_in_the_recovery_of_a_fault_is_bounded_as_the_fault_is() -> None:
    """A new leader leads from 0.5 s on; at 2 s the old one is started, and unseats it."""
    bounds = {"kill leader": 5_000, "pause follower": 2_000}
    kill = Fault(0, 2_000 * MS, "kill leader", (1,), "node 1")
    following = Fault(13_000 * MS, 14_000 * MS, "pause follower", (2,))
    record = relapsing(gap_max_ms=bounds)
    [told] = verdict("gaps", record, faults=[kill, following]).violations
    assert "8490 ms" in told or "8500 ms" in told
    assert "at most 5000 ms are allowed for kill leader at 0.000000 s (node 1)" in told
    assert verdict("gaps", relapsing(until_ms=8_000, gap_max_ms=bounds), faults=[kill]).ok


def test_a_gap_that_goes_on_into_the_next_fault_is_that_one_s_from_there_on() -> None:
    bounds = {"pause follower": 2_000, "pause all": 12_000, "worker frozen": 12_000}
    record = relapsing(gap_max_ms=bounds)
    before = Fault(1_000 * MS, 3_000 * MS, "pause follower", (1,))
    assert verdict(
        "gaps", record, faults=[before, Fault(3_600 * MS, 11_000 * MS, "pause all", (1, 2, 3))]
    ).ok
    late = Fault(6_000 * MS, 11_000 * MS, "pause all", (1, 2, 3))
    [told] = verdict("gaps", record, faults=[before, late]).violations
    assert "acknowledged for 2500 ms, from 3.500000 s to 6.000000 s" in told
    # What touches no node is no reason for the rest of it.
    frozen = Fault(3_600 * MS, 11_000 * MS, "worker frozen")
    found = verdict("gaps", record, faults=[before, frozen])
    assert "for pause follower at 1.000000 s" in found.violations[0]


def test_how_long_a_recovery_lasts_depends_on_whether_nodes_are_started() -> None:
    for kind, to_ms, is_told in (
        ("pause leader", -1_400, True),
        ("pause leader", -1_600, False),
        ("kill leader", -11_400, True),
        ("kill leader", -11_600, False),
    ):
        record = relapsing(gap_max_ms={kind: 5_000}, silent_max_ms=90_000)
        fault = Fault((to_ms - 100) * MS, to_ms * MS, kind, (1,))
        assert verdict("gaps", record, faults=[fault]).ok is not is_told, (kind, to_ms)


def test_of_many_faults_all_but_one_in_a_hundred_keep_a_bound_of_their_own() -> None:
    """Each fault is 10 s long; the first `slow` of them cost 800 ms, the others nothing."""

    def judged(faults: int, *, slow: int) -> Verdict:
        late = [number * 10_000 for number in range(slow)]
        starts = range(0, faults * 10_000, 100)
        spans = [(at, at + (800 if at in late else 90), "ok") for at in starts]
        record = submitting(
            *(
                one
                for one in spans
                if not any(late_at < one[0] < late_at + 800 for late_at in late)
            ),
            gap_max_ms={"kill leader": 3_000},
            gap_p99_max_ms={"kill leader": 500},
        )
        kills = [Fault((number * 10_000 + 1) * MS, None, "kill leader") for number in range(faults)]
        return verdict("gaps", record, faults=kills)

    assert judged(100, slow=1).ok
    found = judged(100, slow=2)
    assert found.counts["kill leader: p99_ms"] == 800
    assert found.violations == [
        "the 99th percentile of the gaps of 100 times kill leader is 800 ms; "
        "at most 500 ms are allowed"
    ]
    assert not judged(50, slow=1).ok
    assert judged(49, slow=1).ok, "the percentile of a few is their maximum, which has its bound"


def test_a_run_in_which_nothing_is_accepted_is_not_available() -> None:
    record = submitting(*((at, at + 5, "unknown") for at in range(30)))
    assert "none of 30 submits" in verdict("gaps", record).violations[0]


# -- stale


def stale(record: Record, at: float, applied: int, *, who: str = "r", **value: Any) -> None:
    told = {"applied": applied, **value}
    record.note("get", "t1", (at, at + 5), told, who=who, consistency="stale")


@pytest.mark.parametrize(
    ("applied", "value", "told"),
    [
        (4, {"state": "pending"}, "the task was accepted at entry 5"),
        (5, {"state": None}, "the task was accepted at entry 5"),
        (9, {"state": "pending", "attempt": 0}, "attempt 1 was claimed at entry 8"),
        (7, {"state": "in_progress", "attempt": 1}, "attempt 1 was claimed at entry 8"),
    ],
)
def test_a_stale_read_that_does_not_fit_its_index_is_told(
    applied: int, value: dict[str, Any], told: str
) -> None:
    record = Record()
    record.submit("t1", 0, 10, 5)
    record.claim("t1", (20, 30), 8, place=token(5))
    stale(record, 100, applied, **value)
    found = verdict("stale", record)
    assert f"a state of entry {applied} does not fit, for {told}: #3 r get" in found.violations[0]


def ended() -> Record:
    """A task of entry 5 that is claimed at 8 and completed between 9 and 12, which are others."""
    record = Record()
    record.submit("t1", 0, 10, 5)
    held = record.claim("t1", (20, 30), 8, place=token(5))
    record.complete("t1", 40, 50, held, result="aa")
    record.submit("t2", 60, 70, 12)
    record.submit("t3", 31, 35, 9)
    return record


@pytest.mark.parametrize(
    ("applied", "value"),
    [
        (12, {"state": "dead_letter", "attempt": 1}),
        (12, {"state": "completed", "attempt": 1, "result": "bb"}),
        (12, {"state": "cancelled", "attempt": 1}),
        (12, {"state": "in_progress", "attempt": 1}),
        (8, {"state": "completed", "attempt": 1, "result": "aa"}),
        (8, {"state": "pending", "attempt": 1, "failures": 1}),
        (5, {"state": "pending", "attempt": 0, "lost": 1}),
        (5, {"state": "completed", "attempt": 0, "result": "aa"}),
        (12, {"state": "completed", "attempt": 1, "result": "aa", "failures": 2}),
    ],
)
def test_a_stale_read_of_what_the_task_never_was_there_is_told(
    applied: int, value: dict[str, Any]
) -> None:
    record = ended()
    stale(record, 100, applied, **value)
    found = verdict("stale", record)
    assert f"a state of entry {applied} is none that it had then" in found.violations[0]
    assert "which does not explain #6 r get" in found.violations[0]


@pytest.mark.parametrize(
    ("applied", "value"),
    [
        (12, {"state": "completed", "attempt": 1, "result": "aa", "failures": 0, "lost": 0}),
        (9, {"state": "completed", "attempt": 1, "result": "aa"}),
        (9, {"state": "in_progress", "attempt": 1}),
        (7, {"state": "pending", "attempt": 0, "result": None}),
        (4, {"state": None}),
    ],
)
def test_a_stale_read_of_what_the_task_was_there_is_fine(
    applied: int, value: dict[str, Any]
) -> None:
    record = ended()
    stale(record, 100, applied, **value)
    found = verdict("stale", record)
    assert found.violations == []
    assert found.counts["tasks with stale reads"] == 1


def test_a_client_that_is_taken_back_is_told() -> None:
    record = Record()
    stale(record, 100, 9, state=None)
    stale(record, 102, 8, state=None)
    stale(record, 103, 7, state=None, who="another")
    assert verdict("stale", record).ok
    record.note("list", "", (200, 205), {"tasks": [], "applied": 8}, who="r")
    assert "client r is taken back from entry 9 to 8" in verdict("stale", record).violations[0]


def test_a_page_of_tasks_from_later_than_it_says_is_told() -> None:
    record = Record()
    record.submit("t1", 0, 10, 5)
    record.note("list", "", (200, 205), {"tasks": ["t1", "t2"], "applied": 4}, who="r")
    found = verdict("stale", record)
    assert "task t1, which was accepted at entry 5, is in #2" in found.violations[0]
    assert "task t2, which nobody submitted, is in #2" in found.violations[1]


def listed(tasks: list[str], **told: Any) -> list[str]:
    """What is said of a page that begins behind t1, when t1 to t5 are there and t4 is newer."""
    record = Record()
    for number, index in ((1, 5), (2, 6), (3, 7), (4, 20), (5, 9)):
        record.submit(f"t{number}", 0, 10, index)
    value = {"tasks": tasks, "applied": 12, "until": None} | told
    record.note("list", "", (200, 205), value, who="r", after="t1", limit=3)
    return verdict("stale", record).violations


def test_a_page_that_is_a_piece_of_the_list_is_fine() -> None:
    assert listed(["t2", "t3", "t5"]) == []
    assert listed(["t2", "t3"], until="t3") == []
    assert listed(["t2"], until="t2x") == []
    assert listed([], until="t1x") == []
    assert listed(["t2", "t3", "t5"], until="t7") == []


@pytest.mark.parametrize(
    ("tasks", "told", "violation"),
    [
        (["t2", "t5"], {}, "task t3, which was accepted at entry 7, is missing in"),
        (["t2"], {"until": "t3"}, "task t3, which was accepted at entry 7, is missing in"),
        (["t2", "t3"], {}, "task t5, which was accepted at entry 9, is missing in"),
        ([], {}, "task t2, which was accepted at entry 6, is missing in"),
        (["t2", "t3"], {"until": "t2"}, "it goes on behind t2, before its own end"),
        ([], {"until": "t0"}, "it goes on behind t0, before its own end"),
        (["t3", "t2"], {}, "not in order behind 't1'"),
        (["t2", "t2", "t3"], {}, "not in order"),
        (["t1", "t2", "t3"], {}, "not in order"),
        (["t2", "t3", "t4", "t5"], {"applied": 30}, "4 tasks, of 3"),
    ],
)
def test_a_page_that_is_none_is_told(
    tasks: list[str], told: dict[str, Any], violation: str
) -> None:
    assert violation in listed(tasks, **told)[0]
