"""Checkers of what nodes say of themselves, of delays, and of leases nobody takes away."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.checkers import CHECKERS
from chaos.evidence import Fault, Sample
from chaos.verdict import Verdict
from tests.unit.chaos.recorded import MS, Record, token


def verdict(checker: str, record: Record, **more: Any) -> Verdict:
    return CHECKERS[checker](record.evidence(**more))


# -- samples


def sample(at: int, node: int = 1, *, up: bool = True, **more: Any) -> Sample:
    told: dict[str, Any] = {"role": "follower", "term": 4, "commit": 50, "applied": 50, **more}
    return Sample(at * MS, node, up, **told)


def judged(*seen: Sample, faults: tuple[Fault, ...] = ()) -> list[str]:
    return verdict("samples", Record(), samples=list(seen), faults=list(faults)).violations


def test_two_leaders_of_one_term_are_told() -> None:
    one, other = sample(100, role="leader"), sample(900, 2, role="leader")
    assert judged(one, other) == [
        "term 4 has two leaders: node 1 at 0.100000 s, and node 2 at 0.900000 s"
    ]
    assert judged(one, sample(500, role="leader"), sample(900, 2, role="leader", term=5)) == []


@pytest.mark.parametrize("name", ["term", "commit", "applied"])
def test_a_running_node_that_goes_back_is_told(name: str) -> None:
    older: dict[str, Any] = {name: 9}
    newer: dict[str, Any] = {name: 8}
    before, after = sample(100, **older), sample(300, **newer)
    told = [f"node 1 goes back from {name} 9 at 0.100000 s to 8 at 0.300000 s, without a restart"]
    assert judged(before, after) == told
    assert judged(before, sample(200, 2, **newer)) == [], "another node"
    cut = Fault(90 * MS, 400 * MS, "partition node", (1,))
    elsewhere = Fault(90 * MS, 400 * MS, "kill follower", (2,))
    earlier = Fault(10 * MS, 90 * MS, "kill follower", (1,))
    assert judged(before, after, faults=(earlier, cut, elsewhere)) == told


def test_over_a_restart_indexes_may_go_back() -> None:
    before, after = sample(100), sample(300, commit=40, applied=30)
    assert len(judged(before, after)) == 2
    assert judged(before, sample(200, up=False, commit=0, applied=0), after) == []
    for kind in ("kill leader", "power all", "rolling restart", "torn tail", "flip wal"):
        assert judged(before, after, faults=(Fault(90 * MS, 250 * MS, kind, (3, 1)),)) == []


def test_nodes_that_tell_two_digests_of_one_index_are_told() -> None:
    """The second one is filled again before the end, and then is like the others."""
    one = sample(100, digest="aa", digest_index=40)
    astray = sample(300, 2, digest="bb", digest_index=40)
    healed = sample(900, 2, digest="cc", digest_index=60)
    told = judged(one, astray, healed, sample(950, digest="cc", digest_index=60))
    assert told == [
        "states differ at entry 40: node 1 told digest aa at 0.100000 s, and node 2 bb at "
        "0.300000 s"
    ]
    assert judged(one, sample(300, 2, digest="aa", digest_index=40), healed) == []
    assert judged(one, sample(300, 2, digest="bb", digest_index=41)) == []
    assert judged(sample(1), sample(2, 2, digest="bb")) == [], "a node that has no checkpoint yet"


def test_a_node_that_comes_back_with_a_smaller_term_than_it_led_in_is_told() -> None:
    led, gone = sample(100, role="leader", term=9), sample(200, up=False, term=0)
    told = judged(led, gone, sample(300, role="leader", term=8))
    assert told == [
        "node 1 led in term 9 at 0.100000 s, and is leader in term 8 at 0.300000 s",
    ]
    kill = Fault(150 * MS, 250 * MS, "kill leader", (1,))
    assert "is follower in term 8" in judged(led, sample(300, term=8), faults=(kill,))[0]
    assert judged(led, gone, sample(300, role="leader", term=9)) == []
    assert judged(led, gone, sample(300, term=0)) == [], "it has not read its disk yet"
    assert judged(led, gone, sample(300, 2, term=8)) == []


@pytest.mark.parametrize("kind", ["torn tail", "flip wal", "damaged witness", "replace member"])
def test_a_node_that_was_damaged_or_replaced_may_have_forgotten_its_term(kind: str) -> None:
    led, gone = sample(100, role="leader", term=9), sample(200, up=False, term=0)
    back = sample(300, role="leader", term=8)
    assert judged(led, gone, back, faults=(Fault(150 * MS, 250 * MS, kind, (3, 1)),)) == []
    assert judged(led, gone, back, faults=(Fault(150 * MS, 250 * MS, kind, (3, 2)),)) != []
    assert judged(led, gone, back, faults=(Fault(50 * MS, 90 * MS, kind, (1,)),)) != []
    # From there on it is judged again.
    later = sample(400, term=7)
    damage = Fault(150 * MS, 250 * MS, kind, (1,))
    assert len(judged(led, gone, back, gone, later, faults=(damage,))) == 1


# -- delay


def delayed(granted_ms: float, *, delay_ms: int = 2_000) -> Record:
    record = Record()
    record.submit("t1", 1_000, 1_010, 5, delay_ms=delay_ms)
    record.claim("t1", (1_020, granted_ms), 9, place=token(5))
    return record


def test_a_task_that_is_granted_before_its_time_is_told() -> None:
    [told] = verdict("delay", delayed(1_500)).violations
    assert "task t1 was to wait for 2000 ms, and is granted within 500 ms, at 1.500000 s" in told
    assert verdict("delay", delayed(3_005)).ok
    assert verdict("delay", delayed(2_800)).ok, "word of a clock takes its time"
    assert not verdict("delay", delayed(2_700)).ok
    assert not verdict("delay", delayed(1_090, delay_ms=200)).ok
    assert verdict("delay", delayed(1_110, delay_ms=200)).ok
    assert verdict("delay", delayed(1_500, delay_ms=0)).ok


def test_a_grant_is_dated_by_the_log_where_its_answer_came_late() -> None:
    record = delayed(4_000)
    record.submit("t2", 1_400, 1_450, 12)  # behind the grant in the log, and answered by then
    assert "is granted within 450 ms" in verdict("delay", record).violations[0]


@pytest.mark.parametrize(
    ("kind", "at", "to", "is_told"),
    [
        ("clock jump leader", 1_200, 1_300, False),
        ("clock strobe", 100, 900, False),
        ("clock drift", 1_400, 9_000, False),
        ("clock jump", 1_600, 9_000, True),
        ("kill leader", 1_200, 1_300, True),
    ],
    ids=["meanwhile", "just before", "from then on", "later", "of another kind"],
)
def test_a_fault_that_moves_clocks_excuses_what_it_overlaps(
    kind: str, at: int, to: int, is_told: bool
) -> None:
    found = verdict("delay", delayed(1_500), faults=[Fault(at * MS, to * MS, kind)])
    assert found.ok is not is_told
    assert found.counts.get("while clocks were moved", 0) == (not is_told)


def test_a_fault_that_moved_clocks_long_ago_excuses_nothing() -> None:
    record = delayed(1_500)
    record.settings["settle_ms"] = 200
    assert not verdict("delay", record, faults=[Fault(0, 700 * MS, "clock jump")]).ok


# -- expiry

LONG_MS = 10_100
"""A lease of a second that was granted at 30 ms is good no more."""


def leased() -> Record:
    record = Record()
    record.submit("t1", 0, 10, 5)
    record.claim("t1", (20, 30), 9, place=token(5))
    return record


def good_at(at: int, how: str, record: Record) -> Record:
    """Let something show that the lease is good."""
    if how == "read":
        record.get("t1", (at, at + 10), "in_progress", attempt=1)
    elif how == "heartbeat":
        asked: dict[str, Any] = {"session": 1, "tokens": [token(9)]}
        record.note("heartbeat", "", (at, at + 10), {"lost": []}, who="w", **asked)
    elif how == "complete":
        record.complete("t1", at, at + 10, token(9))
    else:
        record.note(how, "t1", (at, at + 10), {}, token=token(9), lease_ms=1_000, permille=5)
    return record


HOWS = ["read", "heartbeat", "complete", "extend", "progress", "release"]


@pytest.mark.parametrize("how", HOWS)
def test_a_lease_of_a_silent_worker_that_is_good_for_ever_is_told(how: str) -> None:
    [told] = verdict("expiry", good_at(LONG_MS, how, leased())).violations
    assert "was last heard of at 0.030000 s, and is good 10.1 s later, though 1.0 s" in told
    assert verdict("expiry", good_at(9_900, how, leased())).ok
    for fault in (Fault(5_000 * MS, None, "cut"), Fault(0, 200 * MS, "clock jump")):
        found = verdict("expiry", good_at(LONG_MS, how, leased()), faults=[fault])
        assert found.ok, "a fault gives it its length anew"


@pytest.mark.parametrize("outcome", ["ok", "unknown"])
@pytest.mark.parametrize("how", ["heartbeat", "extend", "progress"])
def test_a_lease_that_was_or_may_have_been_renewed_is_good(how: str, outcome: Any) -> None:
    record = good_at(1_000, how, leased())
    record.operations[-1].outcome = outcome
    assert verdict("expiry", good_at(LONG_MS, "complete", record)).ok
    record.operations[-2].to = None if outcome == "unknown" else 20 * MS + 1_000 * MS
    late = good_at(LONG_MS + 30_000, "read", record)
    assert verdict("expiry", late).ok is (outcome == "unknown"), "it may arrive at any time"


def test_the_answer_to_a_completion_is_repeated_for_ever() -> None:
    record = good_at(500, "complete", leased())
    assert verdict("expiry", good_at(LONG_MS, "complete", record)).ok


def test_a_read_without_a_number_is_of_the_only_attempt() -> None:
    record = leased()
    record.get("t1", (LONG_MS, LONG_MS + 10), "in_progress")
    assert not verdict("expiry", record).ok
    record.claim("t1", (9_000, 9_010), 20, place=token(5), attempt=2)
    assert verdict("expiry", record).ok


def test_a_longer_lease_is_good_for_longer() -> None:
    record = leased()
    record.note("extend", "t1", (40, 50), {}, token=token(9), lease_ms=2_000)
    assert verdict("expiry", good_at(LONG_MS, "read", record)).ok
    assert not verdict("expiry", good_at(2 * LONG_MS, "read", record)).ok
