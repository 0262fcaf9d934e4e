"""Checkers of single tasks: each kind of badness is noticed, and told with task and times."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chaos.checkers import CHECKERS
from chaos.evidence import Export
from chaos.verdict import Verdict
from tests.unit.chaos.recorded import Record, life, token

Bad = Callable[[Record], None]


def verdict(checker: str, record: Record, **more: object) -> Verdict:
    return CHECKERS[checker](record.evidence(**more))


def exported(node: int, *, applied: int = 50, digest: str = "d", **states: str) -> Export:
    tasks = {task: {"task": task, "state": state, "result": "aa"} for task, state in states.items()}
    return Export(node, applied, digest, applied, tasks, {40: (1, 99)})


@pytest.mark.parametrize("checker", list(CHECKERS))
def test_a_life_as_it_should_be_breaks_no_promise(checker: str) -> None:
    record = Record()
    life(record)
    if checker != "liveness":  # which needs samples
        assert verdict(checker, record).violations == []


# -- durable


def lost_at_the_end(record: Record) -> None:
    record.submit("t1", 1_000, 1_010, 5)
    record.refuse("get", "t1", (1_900, 1_901), "NOT_FOUND", consistency="linearizable")
    record.operations[-1].who = "final"


def still_pending(record: Record) -> None:
    record.submit("t1", 1_000, 1_010, 5)
    record.final("t1", 1_900, "pending")


def never_asked_for(record: Record) -> None:
    record.submit("t1", 1_000, 1_010, 5)


def granted_from_nowhere(record: Record) -> None:
    record.claim("t1", (1_000, 1_010), 6, place=token(5))


# -- once


def completed_twice(record: Record) -> None:
    held = life(record, start=1_000)
    record.complete("t1", 1_080, 1_090, held + 1)


def cancelled_and_completed(record: Record) -> None:
    life(record, start=1_000)
    record.note("cancel", "t1", (1_070, 1_080), {"state": "cancelled"})


def another_result_at_the_end(record: Record) -> None:
    life(record, start=1_000)
    record.final("t1", 1_200, "completed", result="bb")


def another_state_at_the_end(record: Record) -> None:
    life(record, start=1_000)
    record.final("t1", 1_200, "pending")


def completed_by_nobody(record: Record) -> None:
    record.submit("t1", 1_000, 1_010, 5)
    record.final("t1", 1_200, "completed", result="bb")


def cancelled_by_nobody(record: Record) -> None:
    record.submit("t1", 1_000, 1_010, 5)
    record.final("t1", 1_200, "cancelled")


def granted_after_its_end(record: Record) -> None:
    life(record, start=1_000)
    record.claim("t1", (1_200, 1_210), 60, place=token(5), attempt=2)


# -- fencing


def smaller_token(record: Record) -> None:
    record.submit("t1", 1_000, 1_010, 5)
    record.claim("t1", (1_020, 1_030), 9, place=token(5))
    record.claim("t1", (5_040, 5_050), 8, place=token(5), attempt=2)


def same_attempt_twice(record: Record) -> None:
    record.submit("t1", 1_000, 1_010, 5)
    record.claim("t1", (1_020, 1_030), 9, place=token(5))
    record.claim("t1", (1_040, 1_050), 10, place=token(5))


def token_of_two_tasks(record: Record) -> None:
    record.claim("t1", (1_020, 1_030), 9, place=token(5))
    record.claim("t2", (1_040, 1_050), 9, place=token(6))


def token_before_the_task(record: Record) -> None:
    record.submit("t1", 1_000, 1_010, 15)
    record.claim("t1", (1_020, 1_030), 9, place=token(15))


def granted_backwards(record: Record) -> None:
    record.claim("t1", (1_020, 1_030), 20, place=token(5), attempt=2)
    record.claim("t1", (1_040, 1_050), 9, place=token(5))


def lease_of_two_sessions(record: Record) -> None:
    record.submit("t1", 1_000, 1_010, 5)
    record.claim("t1", (1_020, 1_030), 9, place=token(5), session=1)
    record.claim("t1", (1_040, 1_050), 9, place=token(5), session=2, who="w2")


def lease_of_two_claims(record: Record) -> None:
    record.submit("t1", 1_000, 1_010, 5)
    record.claim("t1", (1_020, 1_030), 9, place=token(5))
    record.claim("t1", (1_040, 1_050), 9, place=token(5))


def stale_report(record: Record) -> None:
    old = record.claim("t1", (1_020, 1_030), 9, place=token(5))
    record.claim("t1", (3_020, 3_030), 12, place=token(5), attempt=2)
    record.complete("t1", 3_050, 3_060, old)


def stale_heartbeat(record: Record) -> None:
    old = record.claim("t1", (1_020, 1_030), 9, place=token(5))
    record.claim("t1", (3_020, 3_030), 12, place=token(5), attempt=2)
    record.note("heartbeat", "", (3_050, 3_060), {"lost": []}, session=1, tokens=[old])


# -- grants


def another_queue(record: Record) -> None:
    record.submit("t1", 1_000, 1_010, 5)
    record.claim("t1", (1_020, 1_030), 9, place=token(5), queue="b")


def a_queue_nobody_asked_for(record: Record) -> None:
    record.submit("t1", 1_000, 1_010, 5)
    record.claim("t1", (1_020, 1_030), 9, place=token(5))
    record.operations[-1].arguments["queues"] = ["b", "c"]


def more_than_asked_for(record: Record) -> None:
    record.submit("t1", 1_000, 1_010, 5)
    record.submit("t2", 1_000, 1_010, 6)
    record.claim("t1", (1_020, 1_030), 9, place=token(5))
    [told] = record.operations[-1].value["grants"]
    more = {**told, "task": "t2", "token": token(9, 1), "place": token(6)}
    record.operations[-1].value = {"grants": [told, more]}


def granted_twice_at_once(record: Record) -> None:
    record.submit("t1", 1_000, 1_010, 5)
    record.claim("t1", (1_020, 1_030), 9, place=token(5))
    [told] = record.operations[-1].value["grants"]
    record.operations[-1].value = {"grants": [told, {**told, "token": token(9, 1)}]}
    record.operations[-1].arguments["count"] = 2


# -- idempotent


def two_entries(record: Record) -> None:
    record.submit("t1", 1_000, 1_010, 5)
    record.submit("t1", 1_020, 1_030, 6)


def two_contents(record: Record) -> None:
    record.submit("t1", 1_000, 1_010, 5)
    record.submit("t1", 1_020, 1_030, 5, payload=8)


def conflict_with_itself(record: Record) -> None:
    record.submit("t1", 1_000, 1_010, 5)
    asked = {"queue": "a", "priority": 100, "delay_ms": 0, "payload": 7}
    record.refuse("submit", "t1", (1_020, 1_030), "CONFLICT", **asked)


def two_places(record: Record) -> None:
    record.claim("t1", (1_020, 1_030), 9, place=token(5))
    record.claim("t1", (3_020, 3_030), 12, place=token(6), attempt=2)


def place_in_another_entry(record: Record) -> None:
    record.submit("t1", 1_000, 1_010, 5)
    record.claim("t1", (1_020, 1_030), 9, place=token(6))


# -- linearizable


def read_before_its_submit(record: Record) -> None:
    record.get("t1", (1_000, 1_010), "pending")
    record.submit("t1", 1_020, 1_030, 5)


def not_found_after_its_submit(record: Record) -> None:
    record.submit("t1", 1_000, 1_010, 5)
    record.refuse("get", "t1", (1_020, 1_030), "NOT_FOUND", consistency="linearizable")


def read_of_a_deposed_leader(record: Record) -> None:
    life(record, start=1_000)
    record.get("t1", (1_070, 1_080), "in_progress", attempt=1)


def refused_though_it_is_known(record: Record) -> None:
    record.submit("t1", 1_000, 1_010, 5)
    record.refuse("submit", "t1", (1_020, 1_030), "QUEUE_FULL", queue="a", payload=7)


def failure_not_counted(record: Record) -> None:
    record.submit("t1", 1_000, 1_010, 5)
    held = record.claim("t1", (1_020, 1_030), 9, place=token(5))
    record.note("fail", "t1", (1_040, 1_050), {"state": "failed"}, token=held, retry=True)
    record.get("t1", (1_060, 1_070), "failed", attempt=1, failures=0)


def failed_beyond_its_budget(record: Record) -> None:
    record.settings["retry_max"] = 0
    record.submit("t1", 1_000, 1_010, 5)
    held = record.claim("t1", (1_020, 1_030), 9, place=token(5))
    record.note("fail", "t1", (1_040, 1_050), {"state": "failed"}, token=held, retry=True)


def cancelled_while_it_runs(record: Record) -> None:
    record.submit("t1", 1_000, 1_010, 5)
    held = record.claim("t1", (1_020, 1_030), 9, place=token(5))
    record.note("cancel", "t1", (1_040, 1_050), {"state": "cancelled"})
    record.note("extend", "t1", (1_060, 1_070), {}, token=held, lease_ms=1_000)


def refused_and_then_taken(record: Record) -> None:
    record.submit("t1", 1_000, 1_010, 5)
    held = record.claim("t1", (1_020, 1_030), 9, place=token(5))
    record.refuse("complete", "t1", (1_040, 1_050), "LEASE_LOST", token=held, result="aa")
    record.note("extend", "t1", (1_060, 1_070), {}, token=held, lease_ms=1_000)


def progress_goes_away(record: Record) -> None:
    record.submit("t1", 1_000, 1_010, 5)
    held = record.claim("t1", (1_020, 1_030), 9, place=token(5))
    record.note("progress", "t1", (1_040, 1_050), {}, token=held, permille=500)
    record.get("t1", (1_060, 1_070), "in_progress", attempt=1, progress=None)


def an_attempt_too_many(record: Record) -> None:
    record.submit("t1", 1_000, 1_010, 5)
    record.claim("t1", (1_020, 1_030), 9, place=token(5), attempt=2)


@pytest.mark.parametrize(
    ("checker", "bad"),
    [
        *(("durable", bad) for bad in (lost_at_the_end, still_pending, never_asked_for)),
        ("durable", granted_from_nowhere),
        *(("once", bad) for bad in (completed_twice, cancelled_and_completed)),
        *(("once", bad) for bad in (another_result_at_the_end, another_state_at_the_end)),
        *(("once", bad) for bad in (completed_by_nobody, cancelled_by_nobody)),
        ("once", granted_after_its_end),
        *(("fencing", bad) for bad in (smaller_token, same_attempt_twice, token_of_two_tasks)),
        *(("fencing", bad) for bad in (token_before_the_task, granted_backwards)),
        *(("fencing", bad) for bad in (stale_report, stale_heartbeat)),
        *(("fencing", bad) for bad in (lease_of_two_sessions, lease_of_two_claims)),
        *(("linearizable", bad) for bad in (lease_of_two_sessions, lease_of_two_claims)),
        *(("grants", bad) for bad in (another_queue, a_queue_nobody_asked_for)),
        *(("grants", bad) for bad in (more_than_asked_for, granted_twice_at_once)),
        *(("idempotent", bad) for bad in (two_entries, two_contents, conflict_with_itself)),
        *(("idempotent", bad) for bad in (two_places, place_in_another_entry)),
        *(("linearizable", bad) for bad in (read_before_its_submit, not_found_after_its_submit)),
        *(("linearizable", bad) for bad in (read_of_a_deposed_leader, failure_not_counted)),
        *(("linearizable", bad) for bad in (refused_though_it_is_known, failed_beyond_its_budget)),
        *(("linearizable", bad) for bad in (cancelled_while_it_runs, refused_and_then_taken)),
        *(("linearizable", bad) for bad in (progress_goes_away, an_attempt_too_many)),
        *(("linearizable", bad) for bad in (completed_twice, smaller_token, stale_report)),
    ],
)
def test_what_is_bad_is_noticed_and_told_with_task_operations_and_times(
    checker: str, bad: Bad
) -> None:
    record = Record()
    bad(record)
    found = verdict(checker, record)
    assert not found.ok
    assert found.counts["violations"] == len(found.violations) >= 1
    text = found.violations[0]
    assert "t1" in text
    assert "#" in text or bad in {completed_by_nobody, cancelled_by_nobody}
    assert "1.0" in text or "1.2" in text or "3.0" in text, text


def test_a_task_that_one_node_lacks_is_lost() -> None:
    record = Record()
    life(record)
    found = verdict("durable", record, exports=[exported(1, t1="completed"), exported(2)])
    assert "task t1 is lost on node 2" in found.violations[0]


def test_a_node_that_had_not_come_so_far_says_nothing_of_a_task() -> None:
    record = Record()
    record.submit("t1", 1_000, 1_010, 5)
    found = verdict("durable", record, exports=[exported(1, applied=4), exported(2, applied=3)])
    assert "t1: nobody has asked for it at the end, and no node has told" in found.violations[0]
    there = [exported(1, applied=4), exported(2, t1="completed")]
    assert verdict("durable", record, exports=there).ok


def test_a_task_that_only_a_node_knows_was_invented() -> None:
    record = Record()
    life(record)
    found = verdict("durable", record, exports=[exported(1, t1="completed", t2="pending")])
    assert "task t2 was submitted by nobody" in found.violations[0]


def test_a_refused_task_that_is_there_was_invented() -> None:
    record = Record()
    record.refuse("submit", "t1", (1_020, 1_030), "QUEUE_FULL", queue="a", payload=7)
    found = verdict("durable", record, exports=[exported(1, t1="pending")])
    assert "every submit of it was refused: #1" in found.violations[0]


def test_a_node_with_another_outcome_is_told() -> None:
    record = Record()
    life(record)
    found = verdict("once", record, exports=[exported(3, t1="dead_letter")])
    assert "task t1 is dead_letter at the end (node 3 at entry 50)" in found.violations[0]
