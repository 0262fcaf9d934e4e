from __future__ import annotations

import random

from node.deadlines import Deadlines


def test_a_key_is_reported_when_its_deadline_has_passed_and_not_before() -> None:
    deadlines: Deadlines[str] = Deadlines(slot_s=0.1)
    deadlines.set("a", 1.0)

    assert deadlines.pop_due(0.99) == []
    assert deadlines.pop_due(1.2) == ["a"]
    assert deadlines.pop_due(9.0) == []


def test_a_deadline_moved_later_is_not_reported_at_its_first_time() -> None:
    deadlines: Deadlines[str] = Deadlines(slot_s=0.1)
    deadlines.set("a", 1.0)
    deadlines.set("a", 5.0)

    assert deadlines.pop_due(4.9) == []
    assert deadlines.pop_due(5.2) == ["a"]


def test_a_deadline_moved_earlier_is_reported_at_its_new_time() -> None:
    deadlines: Deadlines[str] = Deadlines(slot_s=0.1)
    deadlines.set("a", 5.0)
    deadlines.set("a", 1.0)

    assert deadlines.pop_due(1.2) == ["a"]
    assert deadlines.pop_due(9.0) == []


def test_a_discarded_key_leaves_nothing_behind() -> None:
    deadlines: Deadlines[int] = Deadlines(slot_s=0.1)
    for key in range(1000):
        deadlines.set(key, 60.0)
        deadlines.discard(key)
    deadlines.discard(7)

    assert len(deadlines) == 0
    assert not any(deadlines._slots.values())
    assert deadlines.pop_due(100.0) == []


def test_renewing_a_key_many_times_keeps_one_place_for_it() -> None:
    deadlines: Deadlines[int] = Deadlines(slot_s=0.1)
    for step in range(10_000):
        deadlines.set(1, 30.0 + step)

    assert sum(len(keys) for keys in deadlines._slots.values()) == 1
    assert len(deadlines._order) == 1


def test_a_limit_leaves_the_rest_for_the_next_time() -> None:
    deadlines: Deadlines[int] = Deadlines(slot_s=0.1)
    for key in range(10):
        deadlines.set(key, 1.0)

    first = deadlines.pop_due(2.0, limit=7)
    rest = deadlines.pop_due(2.0, limit=7)

    assert len(first) == 7
    assert sorted(first + rest) == list(range(10))


def test_any_history_reports_each_key_once_at_most_a_slot_late() -> None:
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    deadlines: Deadlines[int] = Deadlines(slot_s=0.05)
    expected: dict[int, float] = {}
    now_s = 0.0
    for _ in range(5000):
        now_s += rng.random() * 0.05
        key = rng.randrange(50)
        if rng.random() < 0.2:
            deadlines.discard(key)
            expected.pop(key, None)
        else:
            at_s = now_s + rng.random() * 2
            deadlines.set(key, at_s)
            expected[key] = at_s
        for due in deadlines.pop_due(now_s):
            assert expected.pop(due) <= now_s, f"seed {seed}"
        late = [key for key, at_s in expected.items() if at_s < now_s - 0.06]
        assert not late, f"seed {seed}: put it into random.Random of this test"
    assert len(deadlines) == len(expected)
