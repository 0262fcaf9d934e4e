"""Checkers that look at many tasks, at the nodes, or at times: badness is noticed and told."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from chaos.checkers import CHECKERS, order
from chaos.checkers.order import First
from chaos.evidence import Export
from chaos.positions import ALWAYS, NEVER, LogTimes
from chaos.verdict import Verdict
from tests.unit.chaos.recorded import MS, Record, token


def verdict(checker: str, record: Record, **more: Any) -> Verdict:
    return CHECKERS[checker](record.evidence(**more))


# -- order


def overtaking(*, delay_ms: int = 0, priority: int = 100, first_attempt: int = 1) -> Record:
    """Two tasks submitted one after the other, and claimed the other way round."""
    record = Record()
    record.submit("t1", 0, 10, 5, delay_ms=delay_ms, priority=100)
    record.submit("t2", 20, 30, 6, priority=priority)
    record.claim("t2", (40, 50), 7, place=token(6))
    record.claim("t1", (60, 70), 8, place=token(5), attempt=first_attempt)
    return record


def test_a_task_that_overtakes_another_is_told() -> None:
    found = verdict("order", overtaking())
    assert "task t2 (place 6291456, submitted 0.020000 s..0.030000 s" in found.violations[0]
    assert "overtook task t1 (place 5242880" in found.violations[0]


@pytest.mark.parametrize(
    "record",
    [overtaking(delay_ms=5), overtaking(priority=200), overtaking(first_attempt=2)],
    ids=["delayed", "higher priority", "claimed before by somebody unknown"],
)
def test_overtaking_is_fine_where_there_is_a_reason(record: Record) -> None:
    assert verdict("order", record).ok


def test_overtaking_shows_in_time_alone() -> None:
    one = First(0, 10, 60, 70, token(5), token(8), "t1")
    other = First(20, 30, 40, 50, token(6), token(9), "t2")
    assert order.overtaken_in_time([one, other]) == [(one, other)]
    assert order.overtaken_in_time([one, other._replace(called=5)]) == []
    assert order.overtaken_in_time([one, other._replace(granted=65)]) == []
    assert order.overtaken_in_log([one, other]) == []


def test_overtaking_shows_in_the_log_alone() -> None:
    one = First(0, 100, 0, 100, token(5), token(9), "t1")
    other = First(0, 100, 0, 100, token(6), token(8), "t2")
    assert order.overtaken_in_log([one, other]) == [(one, other)]
    assert order.overtaken_in_time([one, other]) == []


def test_a_lower_priority_that_is_claimed_while_a_higher_one_waits_is_told() -> None:
    record = Record()
    record.submit("low", 0, 10, 5, priority=50)
    record.submit("mid", 0, 10, 6, priority=100)
    record.submit("high", 0, 10, 7, priority=200)
    record.claim("low", (40, 50), 8, place=token(5))
    record.claim("high", (60, 70), 9, place=token(7))
    found = verdict("order", record)
    assert "higher priorities before 50: task low" in found.violations[0]
    assert "overtook task high" in found.violations[0]


def test_the_sweep_takes_time_like_sorting() -> None:
    rng = random.Random(4)
    firsts = [
        First(at, at + rng.randrange(900), at + 5_000, at + 5_900, at << 20, (at + 50) << 20, "t")
        for at in range(0, 2_000_000, 20)
    ]
    rng.shuffle(firsts)
    began_s = time.process_time()
    assert order.overtaken_in_time(firsts) == []
    assert order.overtaken_in_log(firsts) == []
    # 100,000 tasks take about 0.1 s; what looks at pairs would take hours.
    assert time.process_time() - began_s < 5


# -- lease_bound


def second_grant(at: float, **first: Any) -> Record:
    """A lease of one second from 20..30 ms on, and another of the same task."""
    record = Record(lease_ms=1_000)
    record.submit("t1", 0, 10, 5)
    record.claim("t1", (20, 30), 20, place=token(5), session=token(3), **first)
    # The worker's session is kept alive all the time.
    for beat in range(0, 3_000, 200):
        asked: dict[str, Any] = {"session": token(3), "tokens": []}
        record.note("heartbeat", "", (beat, beat + 5), {"lost": []}, who="w", **asked)
    record.claim("t1", (at - 10, at), 40, place=token(5), attempt=2, who="w2", session=token(4))
    return record


def test_a_second_grant_before_the_lease_is_over_is_told() -> None:
    found = verdict("lease_bound", second_grant(900))
    assert (
        "task t1: the lease with token 20971520, of 1000 ms, was alive at 0.020000 s and had "
        in (found.violations[0])
    )
    assert "ended 880.0 ms later" in found.violations[0]


def test_a_second_grant_after_the_lease_is_over_is_fine() -> None:
    found = verdict("lease_bound", second_grant(1_100))
    assert found.ok
    assert found.counts["ends judged"] == 1


def test_a_heartbeat_makes_a_lease_longer() -> None:
    record = second_grant(1_100)
    asked: dict[str, Any] = {"session": token(3), "tokens": [token(20)]}
    record.note("heartbeat", "", (500, 510), {"lost": []}, who="w", **asked)
    assert "alive at 0.500000 s" in verdict("lease_bound", record).violations[0]


def test_an_extension_makes_a_lease_longer_or_shorter() -> None:
    record = second_grant(1_500)
    record.note("extend", "t1", (100, 110), {}, token=token(20), lease_ms=5_000)
    record.note("extend", "t1", (200, 210), {}, token=token(20), lease_ms=4_000)
    assert "of 4000 ms" in verdict("lease_bound", record).violations[0]
    record.note("extend", "t1", (300, 310), {}, token=token(20), lease_ms=1_000)
    assert verdict("lease_bound", record).ok


@pytest.mark.parametrize("outcome", ["ok", "unknown"])
@pytest.mark.parametrize("kind", ["release", "fail", "complete"])
def test_a_lease_that_was_given_up_is_over(kind: str, outcome: Any) -> None:
    record = second_grant(900)
    record.note(kind, "t1", (100, 110), {}, outcome=outcome, token=token(20))
    assert verdict("lease_bound", record).ok


def test_a_worker_that_registers_again_gives_its_leases_up() -> None:
    record = second_grant(900)
    record.note("register", "", (100, 110), {"session": token(30)}, who="w")
    assert verdict("lease_bound", record).ok
    record.operations[-1].who = "w3"
    assert not verdict("lease_bound", record).ok


@pytest.mark.parametrize(
    ("outcome", "given_up", "excused"),
    [
        ("fail", -50_000, False),
        ("fail", 200, False),
        ("unknown", -50_000, False),
        ("unknown", -20_000, True),
        ("unknown", 200, True),
    ],
)
def test_a_registration_that_nobody_knows_of_is_an_excuse_for_a_while(
    outcome: Any, given_up: int, excused: bool
) -> None:
    record = second_grant(900)
    span = (given_up - 100, given_up)
    record.note("register", "", span, {"code": "UNAVAILABLE"}, who="w", outcome=outcome)
    assert verdict("lease_bound", record).ok is excused


def test_a_session_that_was_silent_ends_its_leases() -> None:
    record = second_grant(1_900, lease_ms=5_000)
    assert not verdict("lease_bound", record).ok
    record.operations = [
        one for one in record.operations if one.kind != "heartbeat" or one.at < 700 * MS
    ]
    assert verdict("lease_bound", record).ok


def test_a_worker_that_is_told_too_early_of_a_lost_lease_is_told_of() -> None:
    record = second_grant(2_000)
    record.refuse("extend", "t1", (600, 610), "LEASE_LOST", token=token(20), lease_ms=1_000)
    assert "ended 590.0 ms later" in verdict("lease_bound", record).violations[0]


def test_a_claim_that_waited_long_is_dated_by_the_log() -> None:
    record = second_grant(1_100)
    claim = next(one for one in record.operations if one.kind == "claim")
    claim.to = 800 * MS
    assert verdict("lease_bound", record).ok
    record.submit("t9", 500, 505, 19)  # before the grant in the log, so before it in time
    assert "alive at 0.500000 s" in verdict("lease_bound", record).violations[0]


def test_a_newer_session_of_the_worker_shows_that_it_registered_again() -> None:
    record = second_grant(900)
    later = {"session": token(30), "queues": ["a"], "count": 1, "wait_ms": 0}
    record.note("claim", "", (2_000, 2_010), {"grants": []}, who="w").arguments = later
    assert verdict("lease_bound", record).ok
    later["session"] = token(60)  # after the second grant in the log
    assert not verdict("lease_bound", record).ok


def test_log_entries_are_dated_by_calls_and_answers_around_them() -> None:
    record = Record()
    record.submit("t1", 100, 190, 5)
    record.submit("t2", 120, 150, 5)  # the same entry
    record.submit("t3", 300, 310, 8)
    record.submit("t3", 500, 510, 8)  # a repetition, long after the entry
    times = LogTimes(record.evidence().stories.values())
    assert [times.not_before(index) / MS for index in (5, 7, 8, 9)] == [120, 120, 300, 300]
    assert [times.not_after(index) / MS for index in (4, 5, 6, 8)] == [150, 150, 310, 310]
    assert times.not_before(4) == ALWAYS
    assert times.not_after(9) == NEVER


# -- agreement


def export(node: int, *, applied: int = 50, digest: str = "d", crc: int = 9, **task: Any) -> Export:
    tasks = {"t1": {"state": "completed", "lost": 0, **task}}
    return Export(node, applied, digest, applied, tasks, {40: (1, 7), 41: (1, crc)})


@pytest.mark.parametrize(
    ("exports", "told"),
    [
        ([export(1), export(2, digest="e")], "nodes 1 and 2 differ at entry 50"),
        ([export(1), export(3, crc=8)], "the logs of nodes 1 and 3 differ at entry 41: term 1"),
        ([export(1), export(2, lost=1)], "task t1 differs between nodes 1 and 2"),
        ([export(1), export(2, applied=60, lost=1)], "lost 0 and 1"),
        ([export(1), Export(2, 60, "d", 60, {}, {})], "task t1 is missing on node 2"),
        ([Export(1, 50, "d", 50, {}, {}), export(2)], "task t1 is missing on node 1"),
        ([export(1)], "1 nodes have exported their state; 2 are needed"),
    ],
)
def test_nodes_that_differ_are_told(exports: list[Export], told: str) -> None:
    record = Record(exports_min=2)
    assert told in verdict("agreement", record, exports=exports).violations[0]


def test_nodes_that_agree_or_cannot_be_compared_are_fine() -> None:
    record = Record(exports_min=2)
    ahead = export(3, applied=60, digest="later")
    assert verdict("agreement", record, exports=[export(1), export(2), ahead]).ok
    still = [export(node, applied=60, state="in_progress") for node in (2, 3)]
    assert verdict("agreement", record, exports=[export(1, state="pending"), *still]).ok
    tails = [export(1, applied=40), export(2, applied=40, crc=8)]
    assert verdict("agreement", record, exports=tails).ok


def bare(node: int, applied: int, digest: str = "d") -> Export:
    """What a node says that tells nothing but its digest."""
    return Export(node, applied, digest, applied, {}, {}, whole=False)


@pytest.mark.parametrize(
    ("settings", "exports", "compared", "needed"),
    [
        ({"exports_min": 2}, [bare(1, 50), bare(2, 60)], 1, 2),
        ({"nodes": 3, "exports_min": 3}, [bare(1, 50), bare(2, 50), bare(3, 60)], 2, 3),
        ({"nodes": 5, "exports_min": 2}, [bare(n, 50 + n // 3) for n in range(1, 6)], 3, 3),
        ({"nodes": 5, "exports_min": 2}, [bare(n, 50 + n // 2) for n in range(1, 6)], 2, 3),
        ({"exports_min": 2}, [export(1, state="pending"), export(2, applied=60)], 1, 2),
        ({"exports_min": 3}, [bare(1, 50), export(2), export(3, applied=60)], 3, 3),
    ],
    ids=["no entry", "one apart", "a majority", "pairs only", "nothing ended", "by way of tasks"],
)
def test_agreement_takes_something_to_compare(
    settings: dict[str, Any], exports: list[Export], compared: int, needed: int
) -> None:
    found = verdict("agreement", Record(**settings), exports=exports)
    assert (found.counts["nodes compared"], found.counts["nodes needed"]) == (compared, needed)
    assert found.ok is (compared >= needed)
    if not found.ok:
        assert f"the states of {compared} nodes can be compared, and" in found.violations[0]


def test_two_of_five_nodes_are_too_few_whatever_a_run_asks_for() -> None:
    record = Record(nodes=5, exports_min=2)
    found = verdict("agreement", record, exports=[export(1), export(2)])
    assert found.violations == ["2 nodes have exported their state; 3 are needed"]


def test_what_differs_is_told_of_nodes_that_are_enough() -> None:
    record = Record(nodes=3)
    exports = [bare(1, 50), bare(2, 50), bare(3, 50, "e")]
    assert len(verdict("agreement", record, exports=exports).violations) == 2


def test_unless_a_run_says_otherwise_all_nodes_are_needed() -> None:
    record = Record(nodes=3)
    del record.settings["exports_min"]
    found = verdict("agreement", record, exports=[export(1), export(2)])
    assert found.violations == ["2 nodes have exported their state; 3 are needed"]
