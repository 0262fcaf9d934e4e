"""Vitals: no minority of wrong clocks moves the time, no minority of states goes on."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.messages import PeerProtocolError
from cluster.vitals import APART_MS, FAR_OFF_MS, Disagreement, Report, Vitals

T0_MS = 1_700_000_000_000
NOW = 5_000.0
A, B = b"a" * 32, b"b" * 32


def report_of(wall_ms: int = T0_MS, index: int = 0, digest: bytes = b"") -> Report:
    return Report(wall_ms, index, digest, disk_low=False)


def vitals_of(own_ms: int = T0_MS, *, voters: tuple[int, ...] = (1, 2, 3)) -> Vitals:
    vitals = Vitals(1, lambda: own_ms)
    vitals.voters = voters
    return vitals


def clocks(*walls_ms: int, voters: int | None = None) -> Vitals:
    """Node 1 with the first clock, having heard the others just now."""
    count = voters or len(walls_ms)
    vitals = vitals_of(walls_ms[0], voters=tuple(range(1, count + 1)))
    for peer, wall_ms in enumerate(walls_ms[1:], start=2):
        vitals.hear(peer, report_of(wall_ms), NOW)
    return vitals


# ------------------------------------------------------------------------------- clocks


@pytest.mark.parametrize(
    ("walls_ms", "expected_ms"),
    [
        ([7], 7),
        ([7, 9], 7),
        ([9, 7], 7),
        ([7, 9, 8], 8),
        ([100, 9, 8], 9),
        ([0, 9, 8], 8),
        ([1, 2, 3, 4], 2),
        ([9, 1, 2, 3, 4], 3),
    ],
)
def test_the_stamp_is_the_median_and_of_two_the_lower(
    walls_ms: list[int], expected_ms: int
) -> None:
    walls_ms = [T0_MS + wall_ms for wall_ms in walls_ms]
    assert clocks(*walls_ms).wall_ms(NOW) == T0_MS + expected_ms


walls = st.integers(0, 2**48)


@given(st.data())
def test_no_minority_of_wrong_clocks_moves_the_stamp_out_of_the_range_of_the_right_ones(
    data: st.DataObject,
) -> None:
    count = data.draw(st.sampled_from([3, 4, 5, 7]))
    wrong = data.draw(st.integers(0, (count - 1) // 2))
    right = [T0_MS + data.draw(st.integers(-50, 50)) for _ in range(count - wrong)]
    all_ms = data.draw(st.permutations(right + [data.draw(walls) for _ in range(wrong)]))
    stamp_ms = clocks(*all_ms).wall_ms(NOW)
    assert min(right) <= stamp_ms <= max(right)


@given(st.data())
def test_no_wrong_clocks_take_the_stamp_beyond_every_right_one_whoever_is_heard(
    data: st.DataObject,
) -> None:
    count = data.draw(st.sampled_from([1, 2, 3, 4, 5, 7]))
    wrong = data.draw(st.integers(0, (count - 1) // 2))
    right = [T0_MS + data.draw(st.integers(-50, 50)) for _ in range(count - wrong)]
    all_ms = data.draw(st.permutations(right + [data.draw(walls) for _ in range(wrong)]))
    heard = data.draw(st.integers(1, count))
    stamp_ms = clocks(*all_ms[:heard], voters=count).wall_ms(NOW)
    assert stamp_ms <= max(right), "time that ran ahead never returns"
    assert (stamp_ms == 0) == (heard < count // 2 + 1) or min(all_ms) == 0


@given(own=walls, other=walls)
def test_with_two_clocks_time_never_runs_ahead_of_either(own: int, other: int) -> None:
    assert clocks(own, other, voters=3).wall_ms(NOW) == min(own, other)


def test_a_clock_that_was_heard_goes_on_running_with_the_monotonic_clock() -> None:
    now_ms = [T0_MS]
    vitals = Vitals(1, lambda: now_ms[0])
    vitals.voters = (1, 2, 3)
    vitals.hear(2, report_of(T0_MS), NOW)
    vitals.hear(3, report_of(T0_MS), NOW)
    now_ms[0] = T0_MS + 3_600_000  # this node's clock jumps; two seconds have passed
    assert vitals.wall_ms(NOW + 2) == T0_MS + 2_000
    assert vitals.skew_ms(NOW + 2) == 3_598_000


def test_a_report_that_was_long_under_way_does_not_make_a_clock_slow() -> None:
    vitals = vitals_of()
    for second in range(3):
        vitals.hear(2, report_of(T0_MS + 1000 * second), NOW + second)
    vitals.hear(2, report_of(T0_MS + 3_000), NOW + 9)  # six seconds late
    assert vitals.apart(NOW) == {}


def test_a_clock_that_was_set_back_is_believed_after_a_few_reports() -> None:
    vitals = vitals_of(voters=(1, 2))
    vitals.hear(2, report_of(T0_MS + 50_000), NOW)
    assert vitals.apart(NOW) == {2: 50_000}
    for _ in range(8):
        vitals.hear(2, report_of(T0_MS), NOW)
    assert vitals.apart(NOW) == {}


def test_a_learners_clock_does_not_count() -> None:
    vitals = vitals_of(voters=(1, 2))
    vitals.hear(2, report_of(T0_MS + 10), NOW)
    vitals.hear(3, report_of(T0_MS - 90_000), NOW)
    assert vitals.wall_ms(NOW) == T0_MS
    learner = vitals_of(T0_MS - 90_000, voters=(2, 3))
    learner.hear(2, report_of(T0_MS), NOW)
    learner.hear(3, report_of(T0_MS), NOW)
    assert learner.wall_ms(NOW) == T0_MS


def test_a_clock_is_forgotten_with_its_connection() -> None:
    vitals = clocks(T0_MS + 5, T0_MS, T0_MS)
    vitals.forget(2)
    vitals.forget(3)
    vitals.forget(9)
    assert vitals.wall_ms(NOW) == 0, "one clock of three is none"


def test_clocks_apart_are_named_with_their_distance() -> None:
    assert clocks(T0_MS, T0_MS + APART_MS - 1, T0_MS).apart(NOW) == {}
    assert clocks(T0_MS, T0_MS + APART_MS, T0_MS - APART_MS).apart(NOW) == {
        2: APART_MS,
        3: -APART_MS,
    }


@pytest.mark.parametrize("sign", [1, -1])
def test_a_node_a_minute_off_a_quorum_that_agrees_is_far_off(sign: int) -> None:
    far_ms = T0_MS + sign * FAR_OFF_MS
    assert clocks(far_ms, T0_MS, T0_MS).is_far_off(NOW)
    assert not clocks(far_ms - sign, T0_MS, T0_MS).is_far_off(NOW)
    assert not clocks(T0_MS, far_ms, T0_MS).is_far_off(NOW)


def test_where_no_quorum_agrees_on_the_time_nobody_is_far_off() -> None:
    spread = [T0_MS, T0_MS + FAR_OFF_MS, T0_MS + 2 * FAR_OFF_MS]
    for turn in range(3):
        assert not clocks(*spread[turn:], *spread[:turn]).is_far_off(NOW)
    assert not clocks(T0_MS + FAR_OFF_MS, T0_MS, voters=3).is_far_off(NOW)
    assert not clocks(T0_MS + FAR_OFF_MS, T0_MS).is_far_off(NOW)
    assert not clocks(T0_MS).is_far_off(NOW)


@given(st.lists(st.integers(0, 10 * FAR_OFF_MS), min_size=1, max_size=5))
def test_a_quorum_can_always_lead(offsets_ms: list[int]) -> None:
    walls_ms = [T0_MS + offset_ms for offset_ms in offsets_ms]
    far_off = 0
    for turn in range(len(walls_ms)):
        far_off += clocks(*walls_ms[turn:], *walls_ms[:turn]).is_far_off(NOW)
    assert len(walls_ms) - far_off >= len(walls_ms) // 2 + 1


# ------------------------------------------------------------------------------ digests


def agreement(own: bytes, *others: bytes, voters: tuple[int, ...] = (1, 2, 3)) -> Any:
    """The last answer of node 1, which hears of the others' digests after its own."""
    vitals = vitals_of(voters=voters)
    answer = vitals.note_checkpoint(1000, own)
    for peer, digest in enumerate(others, start=2):
        answer = vitals.hear(peer, report_of(index=1000, digest=digest), NOW) or answer
    return answer


def test_equal_digests_are_no_news() -> None:
    assert agreement(A, A, A) is None


def test_the_minority_must_stop() -> None:
    answer = agreement(B, A, A)
    text = "the state of node 1 at entry 1000 is not the one node 2 and node 3 agree on"
    assert answer == Disagreement(True, text, others=(2, 3), agreed=True)


def test_the_majority_goes_on_and_names_who_differs() -> None:
    answer = agreement(A, A, B)
    assert not answer.halt
    assert "at entry 1000 the state of node 3 is not the one of node 1" in answer.text
    assert "a quorum agrees with this node" in answer.text


@pytest.mark.parametrize(
    ("own", "others", "voters"),
    [
        (A, [B], (1, 2, 3)),
        (A, [B], (1, 2)),
        (A, [B, b"c"], (1, 2, 3)),
        (A, [B, B], (1, 2, 3, 4)),
        (A, [A, B, B], (1, 2, 3, 4)),
    ],
    ids=["one of three heard", "two voters", "all differ", "two of four", "two against two"],
)
def test_where_no_quorum_agrees_nobody_stops(
    own: bytes, others: list[bytes], voters: tuple[int, ...]
) -> None:
    answer = agreement(own, *others, voters=voters)
    assert not answer.halt
    assert "no quorum is known to agree" in answer.text


def test_learners_do_not_outvote_a_voter_and_a_learner_can_be_the_one_that_differs() -> None:
    assert not agreement(A, B, B, voters=(1, 8, 9)).halt
    assert agreement(A, B, B, voters=(2, 3)).halt
    assert agreement(A, B, B, voters=(2, 3, 4)).halt


def test_only_digests_of_the_same_entry_are_compared_whoever_is_first() -> None:
    vitals = vitals_of()
    assert vitals.hear(2, report_of(index=2000, digest=A), NOW) is None
    assert vitals.hear(3, report_of(index=2000, digest=A), NOW) is None
    assert vitals.note_checkpoint(1000, B) is None
    answer = vitals.note_checkpoint(2000, B)
    assert answer is not None
    assert answer.halt
    assert vitals.checkpoint == 2000


def test_a_peer_that_came_back_is_heard_anew() -> None:
    vitals = vitals_of()
    vitals.note_checkpoint(1000, A)
    assert vitals.hear(2, report_of(index=1000, digest=B), NOW) is not None
    vitals.forget(2)
    assert vitals.hear(3, report_of(index=1000, digest=A), NOW) is None


def test_only_so_many_checkpoints_are_kept() -> None:
    vitals = vitals_of()
    for index in range(1, 2000):
        vitals.note_checkpoint(index, A)
        vitals.hear(2, report_of(index=index, digest=A), NOW)
    assert len(vitals._own) == len(vitals._peers[2].digests) == 256
    assert vitals.hear(3, report_of(index=1, digest=B), NOW) is None
    assert vitals.hear(3, report_of(index=1999, digest=B), NOW) is not None


digests = st.sampled_from([A, B, b"c"])


@given(st.sampled_from([3, 5]).flatmap(lambda n: st.lists(digests, min_size=n, max_size=n)))
def test_a_quorum_is_never_stopped_and_everyone_else_is(states: list[bytes]) -> None:
    count = len(states)
    everyone = tuple(range(1, count + 1))
    for me in everyone:
        vitals = Vitals(me, lambda: T0_MS)
        vitals.voters = everyone
        answers = [vitals.note_checkpoint(1000, states[me - 1])]
        answers += [
            vitals.hear(peer, report_of(index=1000, digest=states[peer - 1]), NOW)
            for peer in everyone
            if peer != me
        ]
        stopped = any(answer is not None and answer.halt for answer in answers)
        majority = [digest for digest in states if states.count(digest) > count // 2]
        assert stopped == bool(majority and states[me - 1] != majority[0])


# ------------------------------------------------------------------------ disks and wire


def test_low_disks_are_known_by_node() -> None:
    vitals = vitals_of()
    vitals.hear(3, report_of()._replace(disk_low=True), NOW)
    assert vitals.low_disks() == (3,)
    vitals.disk_low = True
    assert vitals.low_disks() == (1, 3)
    assert vitals.report().disk_low
    vitals.forget(3)
    assert vitals.low_disks() == (1,)


def test_a_report_carries_the_clock_and_the_last_checkpoint() -> None:
    vitals = vitals_of()
    assert vitals.report() == Report(T0_MS, 0, b"", disk_low=False)
    vitals.note_checkpoint(1000, A)
    assert vitals.report() == Report(T0_MS, 1000, A, disk_low=False)
    assert Report.from_list(vitals.report().to_list()) == vitals.report()


@pytest.mark.parametrize(
    "form",
    [
        [],
        [1, 2, b"", False, 5],
        [-1, 0, b"", False],
        [True, 0, b"", False],
        [2**63, 0, b"", False],
        [0, -1, b"", False],
        [0, 1.0, b"", False],
        [0, 1, "text", False],
        [0, 1, b"x" * 65, False],
        [0, 1, b"", 0],
        [0, 1, b"", None],
    ],
    ids=repr,
)
def test_what_is_not_a_report_is_refused(form: list[object]) -> None:
    with pytest.raises(PeerProtocolError):
        Report.from_list(form)
