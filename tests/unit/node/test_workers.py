"""What a leader remembers of workers."""

from __future__ import annotations

import time

from node.workers import Workers
from statemachine import Session as WorkerSession

COUNT = 10_000


def key(number: int) -> tuple[str, bytes]:
    return ("default", number.to_bytes(16, "big"))


def a_session(number: int) -> WorkerSession:
    namespace, worker_id = key(number)
    return WorkerSession(number, worker_id, "worker", ("q",), (), namespace, "", 0, [])


def silent_ms(workers: Workers, session: int) -> object:
    return workers.describe(a_session(session), now_s=10.0)["silent_ms"]


def test_a_session_that_ended_is_forgotten_and_its_worker_may_come_again() -> None:
    workers = Workers()
    assert workers.registered(key(1), 101, now_s=0.0) is None
    workers.forget({101})
    assert silent_ms(workers, 101) is None
    assert workers.registered(key(1), 102, now_s=1.0) is None, "nothing was ended by it"


def test_the_end_of_a_session_before_does_not_touch_the_one_of_today() -> None:
    workers = Workers()
    workers.registered(key(1), 101, now_s=0.0)
    assert workers.registered(key(1), 102, now_s=1.0) == 101
    workers.forget({101})
    assert silent_ms(workers, 102) == 9000
    assert workers.registered(key(1), 103, now_s=2.0) == 102


def test_sessions_that_were_taken_over_end_like_others() -> None:
    workers = Workers()
    workers.take_over([a_session(1), a_session(2)])
    workers.forget({1, 5})
    assert workers.registered(key(1), 11, now_s=0.0) is None
    assert workers.registered(key(2), 12, now_s=0.0) == 2
    workers.stand_down()
    assert workers.registered(key(2), 13, now_s=0.0) is None


def test_nothing_is_left_of_workers_that_came_and_went() -> None:
    workers = Workers()
    for round_ in range(3):
        for number in range(10):
            workers.registered(key(number), 100 * round_ + number, now_s=0.0)
    workers.forget({200 + number for number in range(10)})
    left = [name for name, table in vars(workers).items() if table]
    assert left == []


def test_a_fleet_that_is_stopped_does_not_hold_up_the_leader() -> None:
    workers = Workers()
    for number in range(COUNT):
        workers.registered(key(number), number, now_s=0.0)
    began_s = time.process_time()
    for number in range(2000):
        workers.forget({number})
    assert time.process_time() - began_s < 0.2, "the end of one costs microseconds"
