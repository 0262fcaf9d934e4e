"""The checker of full disks: what is refused, what goes on, and when it is over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chaos.checkers import CHECKERS
from chaos.evidence import Fault, Sample
from chaos.history import Operation
from chaos.summary import full_disks, text
from chaos.verdict import Verdict
from tests.unit.chaos.recorded import MS, Record

FULL_MS, ROOM_MS, AGAIN_MS, END_MS = 1_000, 6_000, 6_800, 9_000
"""When disks become full, when there is room again, and when new tasks are accepted again."""


def history(*, kind: str = "disk full all") -> Record:
    """A run as it should be: 20 submits and 10 completions a second."""
    record = Record(nodes=3)
    follower = kind == "disk full follower"
    for number, at in enumerate(range(0, END_MS, 50)):
        if FULL_MS + 900 < at < AGAIN_MS and not follower:
            record.refuse("submit", f"t{number}", (at, at + 5), "DISK_FULL")
        else:
            record.submit(f"t{number}", at, at + 5, number + 1)
        if number % 2:
            record.complete(f"t{number}", at + 10, at + 15, number)
    record.refuse("complete", "t0", (FULL_MS + 2_000, FULL_MS + 2_010), "LEASE_LOST", token=1)
    return record


def judge(
    record: Record, *, kind: str = "disk full all", leaders: tuple[int, ...] = (1,)
) -> Verdict:
    """Judge it, with a leader at a time."""
    hit = {"disk full all": (1, 2, 3), "disk full leader": (1,), "disk full follower": (3,)}[kind]
    fault = Fault(FULL_MS * MS, ROOM_MS * MS, kind, hit, "[250] MiB taken, none left")
    samples = [
        Sample((FULL_MS + 1_000 * number) * MS, node, up=True, role="leader", term=number)
        for number, node in enumerate(leaders, start=1)
    ]
    evidence = record.evidence(faults=[fault], samples=samples)
    return CHECKERS["disk_full"](evidence)


@pytest.mark.parametrize("kind", ["disk full all", "disk full leader", "disk full follower"])
def test_a_full_disk_as_it_should_be_is_counted_and_told(kind: str) -> None:
    verdict = judge(history(kind=kind), kind=kind)
    assert verdict.violations == []
    refused = 0 if kind == "disk full follower" else 82
    counts = verdict.counts
    assert counts[f"{kind}: refused"] == refused
    assert counts[f"{kind}: completed"] >= 25
    took_ms = counts[f"{kind}: accepted again max_ms"]
    assert took_ms == (55 if kind == "disk full follower" else 805)
    [line] = full_disks([verdict])
    assert line == (
        f"{kind}, 1 times: {refused} new tasks refused with DISK_FULL, "
        f"{counts[f'{kind}: completed']} completions accepted meanwhile; "
        f"with room again new tasks accepted after at most {took_ms} ms"
    )
    assert line in text(history().evidence(), [verdict])


def test_a_run_without_full_disks_is_told_nothing_of_them() -> None:
    verdict = CHECKERS["disk_full"](history().evidence())
    assert verdict.ok
    assert full_disks([verdict]) == []


def change(
    record: Record, kind: str, does: Callable[[Operation], None], *, since: float, until: float
) -> None:
    """Change what was answered to calls of a kind."""
    for one in record.operations:
        if one.kind == kind and since * MS <= one.at < until * MS:
            does(one)


def accept(one: Operation) -> None:
    one.outcome, one.value = "ok", {"index": one.number}


def lose(one: Operation) -> None:
    one.outcome, one.value = "unknown", None


def refuse(one: Operation) -> None:
    one.outcome, one.value = "fail", {"code": "DISK_FULL"}


def stray(one: Operation) -> None:
    one.outcome, one.value = "fail", {"code": "UNAVAILABLE"}


@pytest.mark.parametrize(
    ("kind", "does", "since", "until", "told"),
    [
        ("submit", accept, 0, END_MS, "a new task was accepted during disk full all at 1.000000 s"),
        ("submit", accept, 4_000, 4_050, "a new task was accepted during disk full all"),
        ("submit", lose, 0, ROOM_MS, "40 of 40 new tasks were not refused with DISK_FULL"),
        ("submit", stray, 0, ROOM_MS, "example #"),
        ("submit", refuse, ROOM_MS, END_MS, "none of 59 new tasks was accepted after disk full"),
        ("complete", lose, 0, ROOM_MS, "completions was accepted during disk full all"),
        ("complete", refuse, 3_000, 3_100, "only new tasks may be refused: #"),
    ],
    ids=[
        *("nothing refused", "one accepted", "no answers", "another answer", "never again"),
        *("no completions", "a completion refused"),
    ],
)
def test_a_cluster_that_takes_a_full_disk_wrongly_is_told(
    kind: str, does: Callable[[Operation], None], since: int, until: int, told: str
) -> None:
    record = history()
    change(record, kind, does, since=since, until=until)
    verdict = judge(record)
    assert not verdict.ok
    assert any(told in one for one in verdict.violations), verdict.violations


def test_new_tasks_that_are_accepted_too_late_after_there_is_room_are_told() -> None:
    record = history()
    record.settings["room_max_ms"] = 800
    verdict = judge(record)
    assert "new tasks were accepted again 805 ms after" in verdict.violations[0]
    assert "at most 800 ms are allowed" in verdict.violations[0]


def test_a_run_in_which_nobody_completed_anything_meanwhile_has_shown_nothing() -> None:
    record = history()
    record.operations = [
        one
        for one in record.operations
        if one.kind != "complete" or not FULL_MS <= one.at / MS < ROOM_MS
    ]
    assert judge(record).violations == [
        "nothing was completed in the whole run while disks were full"
    ]


def test_an_id_that_is_known_may_be_accepted_again_on_a_full_disk() -> None:
    record = history()
    record.submit("t3", 4_000, 4_005, 4)
    assert judge(record).ok
    record.submit("new", 4_000, 4_005, 999)
    assert "during disk full all" in judge(record).violations[0]


@pytest.mark.parametrize("leaders", [(1, 2), (2,), ()])
def test_a_leader_that_has_room_may_accept(leaders: tuple[int, ...]) -> None:
    kind = "disk full leader"
    record = history(kind="disk full follower")
    assert judge(record, kind=kind, leaders=leaders).ok
    assert not judge(record, kind=kind, leaders=(1,)).ok


def test_a_submit_under_way_when_room_was_made_may_be_accepted() -> None:
    record = history()
    record.submit("late", ROOM_MS - 300, ROOM_MS + 900, 7_000)
    assert judge(record).ok


def test_a_fault_that_was_never_taken_back_is_not_judged() -> None:
    record: Any = history()
    fault = Fault(FULL_MS * MS, None, "disk full all", (1, 2, 3))
    assert CHECKERS["disk_full"](record.evidence(faults=[fault])).ok
