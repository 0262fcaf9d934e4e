"""What is remembered for late repetitions, and for how long."""

from __future__ import annotations

from node.recent import KEPT_S, Recent

NOW = 1.0


def known(recent: Recent[str, int], *requests: tuple[str, int]) -> list[int | None]:
    """What is known of these requests while none of it is too old."""
    return [recent.get(owner, number, now_s=NOW) for owner, number in requests]


def test_what_was_noted_is_known_for_a_while() -> None:
    recent: Recent[str, int] = Recent(most_of_one=10, most=10)
    recent.note("a", 1, 11, now_s=0.0)
    recent.note("a", 2, 12, now_s=KEPT_S - 1)
    recent.note("b", 1, 21, now_s=KEPT_S - 1)
    assert known(recent, ("a", 1), ("a", 2), ("b", 1)) == [11, 12, 21]

    recent.note("b", 2, 22, now_s=KEPT_S + 1)
    assert known(recent, ("a", 1), ("a", 2), ("b", 1), ("c", 1)) == [None, 12, 21, None]


def test_what_is_too_old_is_not_known_though_nothing_was_noted_since() -> None:
    recent: Recent[str, int] = Recent(most_of_one=10, most=10)
    recent.note("a", 1, 11, now_s=0.0)
    assert recent.get("a", 1, now_s=KEPT_S - 1) == 11
    assert recent.get("a", 1, now_s=KEPT_S + 1) is None


def test_one_owner_does_not_drive_out_the_others() -> None:
    recent: Recent[str, int] = Recent(most_of_one=3, most=100)
    recent.note("quiet", 1, 1, now_s=0.0)
    for number in range(200):  # twice as many as are kept at all
        recent.note("busy", number, number, now_s=1.0)
    found = known(recent, *(("busy", number) for number in range(200)))
    assert [number for number in found if number is not None] == [197, 198, 199]
    assert recent.get("quiet", 1, now_s=NOW) == 1


def test_all_together_are_bounded() -> None:
    recent: Recent[int, int] = Recent(most_of_one=3, most=20)
    for owner in range(100):
        recent.note(owner, 1, 1, now_s=0.0)
    found = [owner for owner in range(100) if recent.get(owner, 1, now_s=NOW)]
    assert found == list(range(80, 100))
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
    assert recent.get(100, 1, now_s=NOW) is None
