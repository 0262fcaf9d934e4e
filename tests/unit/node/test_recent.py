"""What is remembered for late repetitions, and for how long."""

from __future__ import annotations

from node.recent import KEPT_S, Recent


def test_what_was_noted_is_known_for_a_while() -> None:
    recent: Recent[str, int] = Recent(most_of_one=10, most=10)
    recent.note("a", 1, 11, now_s=0.0)
    recent.note("a", 2, 12, now_s=KEPT_S - 1)
    recent.note("b", 1, 21, now_s=KEPT_S - 1)
    assert [recent.get("a", 1), recent.get("a", 2), recent.get("b", 1)] == [11, 12, 21]

    recent.note("b", 2, 22, now_s=KEPT_S + 1)
    assert [recent.get("a", 1), recent.get("a", 2), recent.get("b", 1)] == [None, 12, 21]
    assert recent.get("c", 1) is None


def test_one_owner_does_not_drive_out_the_others() -> None:
    recent: Recent[str, int] = Recent(most_of_one=3, most=100)
    recent.note("quiet", 1, 1, now_s=0.0)
    for number in range(50):
        recent.note("busy", number, number, now_s=1.0)
    assert [number for number in range(50) if recent.get("busy", number) is not None] == [
        47,
        48,
        49,
    ]
    assert recent.get("quiet", 1) == 1


def test_all_together_are_bounded() -> None:
    recent: Recent[int, int] = Recent(most_of_one=3, most=20)
    for owner in range(100):
        recent.note(owner, 1, 1, now_s=0.0)
    assert [owner for owner in range(100) if recent.get(owner, 1)] == list(range(80, 100))
    assert len(recent) == 20


def test_nothing_is_left_of_what_is_too_old() -> None:
    recent: Recent[int, int] = Recent(most_of_one=3, most=1000)
    for owner in range(100):
        for number in range(5):
            recent.note(owner, number, 1, now_s=0.0)
    recent.note(100, 1, 1, now_s=KEPT_S + 1)
    assert len(recent) == 1
    recent.clear()
    assert len(recent) == 0
    assert recent.get(100, 1) is None
