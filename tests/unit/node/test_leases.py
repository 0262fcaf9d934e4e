from __future__ import annotations

import time

from node.leases import EXPIRE_MAX, LeaseKeeper
from statemachine import Lease

SESSION = 77


class Truth:
    """What the machine would know."""

    def __init__(self) -> None:
        self.leases: dict[int, Lease] = {}

    def grant(self, token: int, *, lease_ms: int = 10_000, session: int = SESSION) -> Lease:
        self.leases[token] = Lease(b"task%012d" % token, token, session, lease_ms)
        return self.leases[token]

    def keeper(self, *, session_s: float = 30.0) -> LeaseKeeper:
        return LeaseKeeper(lease_of=self.leases.get, session_s=lambda: session_s)


def counting(truth: Truth, *, now_s: float = 0.0) -> LeaseKeeper:
    keeper = truth.keeper()
    keeper.take_over(truth.leases.values(), [SESSION], now_s=now_s)
    return keeper


def granted(truth: Truth, keeper: LeaseKeeper, token: int, *, now_s: float) -> None:
    lease = truth.grant(token)
    keeper.granted(token, lease_ms=lease.lease_ms, now_s=now_s)


def test_a_lease_expires_when_its_full_length_has_passed_and_not_before() -> None:
    truth = Truth()
    keeper = counting(truth)
    granted(truth, keeper, 1, now_s=5.0)

    assert keeper.expired(now_s=14.9) == []
    assert keeper.expired(now_s=15.2) == [(b"task000000000001", 1)]


def test_a_new_leader_gives_every_live_lease_a_full_period() -> None:
    truth = Truth()
    truth.grant(1)
    keeper = counting(truth, now_s=1000.0)

    assert keeper.expired(now_s=1009.9) == []
    assert keeper.expired(now_s=1010.2) == [(b"task000000000001", 1)]


def test_a_heartbeat_renews_what_it_lists_and_nothing_else() -> None:
    truth = Truth()
    keeper = counting(truth)
    granted(truth, keeper, 1, now_s=0.0)
    granted(truth, keeper, 2, now_s=0.0)

    assert keeper.renew(SESSION, [1], now_s=8.0) == []

    assert [token for _, token in keeper.expired(now_s=10.2)] == [2]
    assert [token for _, token in keeper.expired(now_s=17.9)] == [2], "proposed again until gone"
    assert 1 in [token for _, token in keeper.expired(now_s=18.2)]


def test_a_heartbeat_tells_which_leases_are_lost() -> None:
    truth = Truth()
    keeper = counting(truth)
    granted(truth, keeper, 1, now_s=0.0)
    truth.grant(2, session=SESSION + 1)

    assert keeper.renew(SESSION, [1, 2, 3], now_s=1.0) == [2, 3]


def test_a_lease_whose_expiry_was_proposed_is_told_as_lost() -> None:
    truth = Truth()
    keeper = counting(truth)
    granted(truth, keeper, 1, now_s=0.0)
    assert keeper.expired(now_s=10.2)

    assert keeper.renew(SESSION, [1], now_s=10.3) == [1]


def test_a_deposed_leader_renews_nothing_and_expires_nothing() -> None:
    truth = Truth()
    keeper = counting(truth)
    granted(truth, keeper, 1, now_s=0.0)
    keeper.stand_down()

    assert keeper.renew(SESSION, [1], now_s=1.0) is None
    assert keeper.expired(now_s=100.0) == []
    assert keeper.dead_sessions({SESSION}.__contains__, now_s=100.0) == []
    keeper.granted(2, lease_ms=1, now_s=0.0)
    assert keeper.leases == 0


def test_a_lease_that_ended_otherwise_is_dropped_without_a_command() -> None:
    truth = Truth()
    keeper = counting(truth)
    granted(truth, keeper, 1, now_s=0.0)
    del truth.leases[1]

    assert keeper.expired(now_s=60.0) == []
    assert keeper.leases == 0


def test_an_expiry_that_was_not_applied_is_proposed_again() -> None:
    truth = Truth()
    keeper = counting(truth)
    granted(truth, keeper, 1, now_s=0.0)

    assert keeper.expired(now_s=10.2)
    assert keeper.expired(now_s=10.3) == []
    assert keeper.expired(now_s=13.0)
    del truth.leases[1]
    assert keeper.expired(now_s=20.0) == []


def test_an_expiry_that_was_dropped_stands_no_longer_in_the_way() -> None:
    truth = Truth()
    keeper = counting(truth)
    granted(truth, keeper, 1, now_s=0.0)
    granted(truth, keeper, 2, now_s=0.0)
    assert len(keeper.expired(now_s=10.2)) == 2
    assert keeper.renew(SESSION, [1], now_s=10.3) == [1], "its end may be under way"
    keeper.expiry_settled([1, 2])

    keeper.extended(1, now_s=11.0)
    assert keeper.renew(SESSION, [2], now_s=11.0) == []
    assert keeper.expired(now_s=20.9) == []
    assert len(keeper.expired(now_s=21.2)) == 2


def test_a_session_whose_ending_was_dropped_is_alive() -> None:
    keeper = counting(Truth())
    assert keeper.dead_sessions(lambda _: True, now_s=31.0) == [SESSION]
    assert not keeper.is_alive(SESSION)
    keeper.ending_settled([SESSION])
    assert keeper.is_alive(SESSION)


def test_extending_can_make_a_lease_longer_and_shorter() -> None:
    truth = Truth()
    keeper = counting(truth)
    granted(truth, keeper, 1, now_s=0.0)
    truth.grant(1, lease_ms=60_000)
    keeper.extended(1, now_s=1.0)
    assert keeper.expired(now_s=60.9) == []

    truth.grant(1, lease_ms=1000)
    keeper.extended(1, now_s=61.0)
    assert [token for _, token in keeper.expired(now_s=62.2)] == [1]


def test_a_lease_is_not_expired_while_its_extension_is_under_way() -> None:
    """The expiry came after the extension in the log, and ended what had just been granted."""
    truth = Truth()
    truth.grant(1, lease_ms=1000)
    keeper = counting(truth)
    keeper.hold(1)
    keeper.hold(1)
    assert keeper.expired(now_s=1.5) == []
    keeper.let_go(1)
    assert keeper.expired(now_s=2.0) == []
    keeper.let_go(1)
    assert [token for _, token in keeper.expired(now_s=2.5)] == [1]
    keeper.let_go(1)  # of an earlier leadership


def test_a_worker_session_dies_after_the_time_of_two_heartbeats() -> None:
    truth = Truth()
    keeper = counting(truth)
    keeper.registered(5, now_s=10.0)
    keeper.renew(SESSION, [], now_s=20.0)

    assert keeper.dead_sessions({5, SESSION}.__contains__, now_s=39.8) == []
    assert keeper.dead_sessions({5, SESSION}.__contains__, now_s=40.2) == [5]
    assert keeper.dead_sessions({SESSION}.__contains__, now_s=50.2) == [SESSION]


def test_a_heartbeat_that_comes_while_its_session_is_being_ended_is_told_so() -> None:
    """It came late, and was told that all is well while the entry under way ended it."""
    keeper = counting(Truth())
    assert keeper.dead_sessions({SESSION}.__contains__, now_s=30.2) == [SESSION]

    assert not keeper.is_alive(SESSION)
    # Not applied: it is proposed again, and dead all the while.
    assert keeper.dead_sessions({SESSION}.__contains__, now_s=32.4) == [SESSION]
    assert not keeper.is_alive(SESSION)
    keeper.take_over([], [SESSION], now_s=40.0)
    assert keeper.is_alive(SESSION)


def test_a_session_the_machine_does_not_know_needs_no_command() -> None:
    keeper = counting(Truth())

    assert keeper.dead_sessions(set[int]().__contains__, now_s=100.0) == []
    assert not keeper.is_alive(SESSION)


def test_expiries_come_in_bounded_batches() -> None:
    truth = Truth()
    for token in range(EXPIRE_MAX + 10):
        truth.grant(token)
    keeper = counting(truth)

    first = keeper.expired(now_s=60.0)
    second = keeper.expired(now_s=60.0)

    assert len(first) == EXPIRE_MAX
    assert len(second) == 10
    assert len({token for _, token in first + second}) == EXPIRE_MAX + 10


def test_a_hundred_thousand_leases_are_renewed_without_growing() -> None:
    truth = Truth()
    for token in range(100_000):
        truth.grant(token)
    keeper = counting(truth)
    tokens = list(range(100_000))

    began_s = time.process_time()
    for beat in range(1, 4):
        assert keeper.renew(SESSION, tokens, now_s=beat * 5.0) == []
        assert keeper.expired(now_s=beat * 5.0) == []
    took_s = time.process_time() - began_s

    assert keeper.leases == 100_000
    assert sum(map(len, keeper._leases._slots.values())) == 100_000
    assert took_s < 3.0, "a renewal costs microseconds"
