"""What a worker decides, with the clock in the test's hand."""

from __future__ import annotations

import math

import pytest

from tq.decisions import Attempt, Ending, Phase, ProgressGate, Shutdown, Slots
from tq.heart import Heart, guard_s


def heart(*, now: float = 0.0, interval_s: float = 15.0) -> Heart:
    return Heart(interval_s=interval_s, now=now)


# ------------------------------------------------------------------------------- leases


@pytest.mark.parametrize(
    ("lease_s", "guard"), [(1.0, 0.5), (5.0, 0.5), (10.0, 1.0), (30.0, 3.0), (86_400.0, 8_640.0)]
)
def test_the_guard_is_a_tenth_of_the_lease_but_at_least_half_a_second(
    lease_s: float, guard: float
) -> None:
    assert guard == pytest.approx(guard_s(lease_s))


def test_a_lease_counts_from_before_its_claim_was_sent() -> None:
    leases = heart()
    leases.hold(7, lease_s=30, sent_at=100)
    assert not leases.is_lost(7, 126.9)
    assert leases.is_lost(7, 127)


def test_a_confirmation_counts_from_before_the_heartbeat_was_sent() -> None:
    leases = heart()
    leases.hold(7, lease_s=30, sent_at=100)
    leases.confirmed([7], [], sent_at=115)
    assert not leases.is_lost(7, 141.9)
    assert leases.is_lost(7, 142)


def test_answers_out_of_order_never_shorten_a_lease() -> None:
    leases = heart()
    leases.hold(7, lease_s=30, sent_at=100)
    leases.confirmed([7], [], sent_at=120)
    leases.confirmed([7], [], sent_at=110)
    assert not leases.is_lost(7, 146.9)


def test_a_lease_seen_as_lost_is_not_revived_by_a_late_confirmation() -> None:
    leases = heart()
    leases.hold(7, lease_s=30, sent_at=100)
    assert leases.is_lost(7, 128)
    leases.confirmed([7], [], sent_at=127)
    assert leases.is_lost(7, 128)
    assert [] == leases.tokens


def test_what_the_leader_calls_lost_is_lost_at_once() -> None:
    leases = heart()
    leases.hold(7, lease_s=30, sent_at=100)
    leases.hold(8, lease_s=30, sent_at=100)
    leases.confirmed([7, 8], [7], sent_at=101)
    assert (True, False) == (leases.is_lost(7, 101), leases.is_lost(8, 101))
    leases.lose_all()
    assert leases.was_lost(8)


def test_a_token_never_held_is_lost() -> None:
    assert heart().is_lost(1, 0)


def test_a_lease_is_stale_when_half_of_it_may_be_gone() -> None:
    leases = heart()
    leases.hold(7, lease_s=30, sent_at=100)
    assert (False, True) == (leases.is_stale(7, 114.9), leases.is_stale(7, 115))


def test_heartbeats_come_each_interval() -> None:
    leases = heart(now=100)
    assert 115 == leases.next_beat_at()
    leases.sent(115)
    assert 130 == leases.next_beat_at()


def test_a_lease_shorter_than_the_interval_brings_the_heartbeat_forward() -> None:
    leases = heart(now=100)
    leases.hold(7, lease_s=4, sent_at=100)
    assert 102 == leases.next_beat_at()


@pytest.mark.parametrize("lease_s", [1.0, 1.2, 2.0, 5.0, 30.0, 3_600.0])
def test_the_renewal_of_any_lease_is_due_before_its_local_end(lease_s: float) -> None:
    leases = heart(interval_s=100_000)
    leases.hold(7, lease_s=lease_s, sent_at=0)
    assert leases.next_beat_at() <= leases.ends_at(7) - 0.25


def test_an_unanswered_heartbeat_is_repeated_after_a_pause_not_at_once() -> None:
    leases = heart(now=100)
    leases.hold(7, lease_s=4, sent_at=100)
    leases.sent(102)
    leases.unanswered(103)
    assert 103.5 == leases.next_beat_at()


def test_lost_leases_bring_no_heartbeat_forward() -> None:
    leases = heart(now=100)
    leases.hold(7, lease_s=4, sent_at=100)
    leases.lose(7)
    assert 115 == leases.next_beat_at()


# ------------------------------------------------------------------------------ attempts


def step(attempt: Attempt, now: float, **facts: bool) -> Ending | None:
    known = {"finished": False, "lost": False, "leaving": False}
    return attempt.step(now, **(known | facts))


def test_an_attempt_times_out_at_its_limit() -> None:
    attempt = Attempt(started_at=100, timeout_s=5)
    assert step(attempt, 104.9) is None
    assert Ending.TIMED_OUT == step(attempt, 105)


def test_an_attempt_without_a_limit_goes_on() -> None:
    assert step(Attempt(started_at=0, timeout_s=None), 1e9) is None


def test_the_first_ending_stands() -> None:
    attempt = Attempt(started_at=0, timeout_s=1)
    step(attempt, 1)
    assert Ending.TIMED_OUT == step(attempt, 2, finished=True, lost=True)


def test_a_lost_lease_comes_before_a_result() -> None:
    attempt = Attempt(started_at=0, timeout_s=None)
    assert Ending.LOST == step(attempt, 0, finished=True, lost=True)


def test_a_result_that_is_there_counts_even_at_the_limit_and_on_the_way_out() -> None:
    attempt = Attempt(started_at=0, timeout_s=1)
    assert Ending.FINISHED == step(attempt, 1, finished=True, leaving=True)


def test_an_attempt_wakes_for_the_limit_or_the_lease_whichever_is_first() -> None:
    attempt = Attempt(started_at=100, timeout_s=50)
    assert 127 == attempt.wake_at(lease_ends_at=127)
    assert 150 == attempt.wake_at(lease_ends_at=200)


# -------------------------------------------------------------------------------- slots


def test_no_more_is_claimed_than_fits() -> None:
    slots = Slots(3)
    assert (3, 2) == (slots.to_claim(10), slots.to_claim(2))
    assert [True, True, True, False] == [slots.take() for _ in range(4)]
    assert 0 == slots.to_claim(10)
    slots.give_back(reported=False)
    assert 1 == slots.to_claim(10)


def test_a_function_that_is_over_makes_room_while_its_result_is_under_way() -> None:
    slots = Slots(2)
    for room in (1, 2):
        slots.take()
        slots.report()
        assert 2 == slots.free, room
    slots.take()
    slots.report()
    assert 1 == slots.free
    slots.take()
    slots.report()
    assert (0, False) == (slots.free, slots.take())
    slots.give_back(reported=True)
    assert 1 == slots.free


# ----------------------------------------------------------------------------- progress


def test_progress_passes_once_a_second_and_the_newest_report_wins() -> None:
    gate = ProgressGate()
    assert gate.offer((1, "a"))
    assert (1, "a") == gate.take(100)
    assert gate.offer((2, "b"))
    assert not gate.offer((3, "c"))
    assert (101, None) == (gate.wake_at(), gate.take(100.9))
    assert (3, "c") == gate.take(101)
    assert (math.inf, None) == (gate.wake_at(), gate.take(103))


# ------------------------------------------------------------------------------ way out


def test_the_first_signal_drains_and_the_second_leaves() -> None:
    shutdown = Shutdown(timeout_s=60)
    assert Phase.SERVING == shutdown.step(0, running=0)
    assert Phase.DRAINING == shutdown.signal(100)
    assert Phase.DRAINING == shutdown.step(101, running=1)
    assert Phase.LEAVING == shutdown.signal(102)


def test_draining_ends_when_nothing_runs_or_the_time_is_over() -> None:
    done, late = Shutdown(timeout_s=60), Shutdown(timeout_s=60)
    done.signal(100)
    late.signal(100)
    assert Phase.LEAVING == done.step(101, running=0)
    assert 160 == late.wake_at()
    assert (Phase.DRAINING, Phase.LEAVING) == (
        late.step(159.9, running=1),
        late.step(160, running=1),
    )
