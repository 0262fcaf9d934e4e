"""Invariants of leases and of order: a good history passes, one that breaks the rule not."""

from __future__ import annotations

import pytest

from statemachine import (
    POSITION_BITS,
    Code,
    Done,
    ExpireSessions,
    Recorded,
    Refused,
    TaskState,
    encode_internal,
)
from tests.simulation.invariants import Violation
from tests.simulation.invariants.claim_order import ClaimOrder
from tests.simulation.invariants.fences import Fences
from tests.simulation.invariants.lease_times import LeaseTimes
from tests.simulation.invariants.repeats import Repeats
from tests.simulation.invariants.sessions import Sessions
from tests.simulation.scenes import (
    COMPLETED,
    LOST,
    SESSION,
    A,
    B,
    C,
    Scene,
    leased,
)


def test_a_life_by_the_rules_passes_the_fence() -> None:
    scene, token = leased(Fences)
    scene.release(token, Done())
    scene.result(token, LOST)
    second = scene.claim(A, attempt=2)
    scene.result(token, LOST)
    scene.cancel(Refused(Code.NOT_CANCELLABLE, ""))
    scene.result(second, Recorded(TaskState.FAILED), outcome=1)
    scene.result(second, Recorded(TaskState.FAILED), outcome=1)
    scene.cancel(Recorded(TaskState.CANCELLED))
    scene.result(second, LOST, task_id=A)
    scene.result(second, Refused(Code.NOT_FOUND, ""), task_id=B)


def test_two_leases_of_one_task_are_seen() -> None:
    scene, _ = leased(Fences)
    with pytest.raises(Violation, match="is leased with token"):
        scene.claim(A, attempt=2)


def test_a_token_that_is_no_new_position_is_seen() -> None:
    scene, token = leased(Fences)
    scene.release(token, Done())
    with pytest.raises(Violation, match="no new log position"):
        scene.claim(A, attempt=2, token=token - 1)


def test_an_ended_session_that_claims_is_seen() -> None:
    scene, token = leased(Fences)
    scene.release(token, Done())
    scene.apply(encode_internal(ExpireSessions((SESSION,))), replies=[Done()])
    with pytest.raises(Violation, match="which has ended"):
        scene.claim(A, attempt=2)


def test_a_worker_that_was_heard_is_not_told_that_its_session_has_ended() -> None:
    scene = Scene(Sessions)
    scene.register()
    gone: dict[str, str] = {"code": Code.UNKNOWN_SESSION}
    scene.ledger.settings = scene.ledger.settings._replace(lease_ms=1000)
    scene.told("heartbeat", SESSION + 1, [], **gone)
    scene.now += 1.0
    scene.told("heartbeat", SESSION, [], **gone)  # its end may be on its way
    scene.ledger.session_heard[SESSION] = scene.now - 0.9
    with pytest.raises(Violation, match="alive, and was heard"):
        scene.told("claim", SESSION, ["q"], 1, 0, **gone)
    scene.apply(encode_internal(ExpireSessions((SESSION,))), replies=[Done()])
    scene.told("claim", SESSION, ["q"], 1, 0, **gone)


def test_a_registration_that_was_answered_opens_no_other_session() -> None:
    scene = Scene(Sessions)
    later = [place << POSITION_BITS for place in range(2, 6)]
    number = scene.history._number + 1
    scene.register(number=number)
    scene.register(number=number, session=later[0])  # nobody was told of the first one
    scene.told("register", bytes(16), "w", [], {}, answer=[later[0], 1000])
    scene.register(number=number + 1, session=later[1])
    scene.told("register", bytes(16), "w", [], {}, code=Code.RATE_LIMITED)
    scene.register(number=number + 1, session=later[2])
    with pytest.raises(Violation, match="opens another session"):
        scene.register(number=number, session=later[3])


def test_a_claim_that_holds_leases_is_not_told_of_nothing() -> None:
    scene, token = leased(Repeats)
    scene.told("claim", SESSION, ["q"], 1, 0, answer=[[]])
    number = scene.history.operations[-1].number
    assert number != 7
    scene.history._number = 6
    with pytest.raises(Violation, match="is told of nothing and holds"):
        scene.told("claim", SESSION, ["q"], 1, 0, answer=[[]])
    scene.expire(token)
    scene.history._number = 6
    scene.told("claim", SESSION, ["q"], 1, 0, answer=[[]])


def test_a_late_result_that_is_taken_is_seen() -> None:
    scene, token = leased(Fences)
    scene.expire(token)
    with pytest.raises(Violation, match="should get a refusal"):
        scene.result(token, COMPLETED)


def test_a_result_of_the_holder_that_is_refused_is_seen() -> None:
    scene, token = leased(Fences)
    with pytest.raises(Violation, match="should get completed"):
        scene.result(token, LOST)


def test_a_retry_beyond_the_budget_is_seen() -> None:
    scene = Scene(Fences)
    scene.register()
    scene.submit(retry_max=0)
    token = scene.claim(A)
    with pytest.raises(Violation, match="should get dead_letter"):
        scene.result(token, Recorded(TaskState.FAILED), outcome=1)


def test_a_running_task_that_is_cancelled_is_seen() -> None:
    scene, _ = leased(Fences)
    with pytest.raises(Violation, match="the cancellation of"):
        scene.cancel(Recorded(TaskState.CANCELLED))


def test_a_task_nobody_submitted_that_is_leased_is_seen() -> None:
    scene = Scene(Fences)
    scene.register()
    with pytest.raises(Violation, match="nobody submitted"):
        scene.claim(A)


def test_a_lease_that_is_taken_too_early_is_seen() -> None:
    scene, token = leased(LeaseTimes)
    scene.now += 1.0
    scene.expire(token)
    token = scene.claim(A, attempt=2)
    scene.now += 0.9
    with pytest.raises(Violation, match=r"is taken after 0\.900 s"):
        scene.expire(token)


def test_a_lease_that_was_renewed_lasts_from_then() -> None:
    scene, token = leased(LeaseTimes)
    scene.now += 0.8
    scene.told("heartbeat", SESSION, [token], answer=[[]])
    scene.now += 0.9
    with pytest.raises(Violation, match=r"is taken after 0\.900 s"):
        scene.expire(token)


def test_a_lease_that_a_heartbeat_was_told_is_lost_need_not_last() -> None:
    scene, token = leased(LeaseTimes)
    scene.now += 0.8
    scene.told("heartbeat", SESSION, [token], answer=[[token]])
    scene.now += 0.3
    scene.expire(token)


def test_a_session_that_is_ended_while_it_is_heard_is_seen() -> None:
    scene, _ = leased(LeaseTimes)
    scene.ledger.settings = scene.ledger.settings._replace(lease_ms=1000)
    scene.now += 0.8
    scene.told("heartbeat", SESSION, [], answer=[[]])
    scene.now += 0.8
    with pytest.raises(Violation, match="session"):
        scene.apply(encode_internal(ExpireSessions((SESSION,))), replies=[Done()])


def test_a_claim_out_of_turn_is_seen() -> None:
    scene = Scene(ClaimOrder)
    scene.register()
    scene.submit(A)
    scene.submit(B)
    scene.submit(C, priority=200)
    scene.claim(C)
    with pytest.raises(Violation, match="is next"):
        scene.claim(B)


def test_a_lower_priority_before_a_higher_one_is_seen() -> None:
    scene = Scene(ClaimOrder)
    scene.register()
    scene.submit(A)
    scene.submit(B, priority=200)
    with pytest.raises(Violation, match="is next"):
        scene.claim(A, B)


def test_a_released_task_keeps_its_place() -> None:
    scene = Scene(ClaimOrder)
    scene.register()
    scene.submit(A)
    scene.submit(B)
    token = scene.claim(A)
    scene.release(token, Done())
    with pytest.raises(Violation, match="is next"):
        scene.claim(B)
