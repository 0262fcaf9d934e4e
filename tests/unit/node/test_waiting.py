from __future__ import annotations

import pytest

from node.session import Session
from node.waiting import ClaimRoom, ParkedClaim, ParkedWait, WaitRoom
from statemachine import Claim
from tests.unit.node.fakes import FakeLoop, a_session

READY: dict[str, int] = {}


@pytest.fixture(autouse=True)
def _nothing_is_ready() -> None:
    READY.clear()


@pytest.fixture
def room() -> ClaimRoom:
    return ClaimRoom(lambda _namespace, queue: READY.get(queue, 0))


@pytest.fixture
def session() -> Session:
    return a_session(FakeLoop())[0]


def a_claim(
    session: Session, *queues: str, rid: int = 1, count: int = 1, until_s: float = 10.0
) -> ParkedClaim:
    command = Claim(rid, "default", "", 1, queues, count, 1000)
    return ParkedClaim(
        command,
        b"",
        session=session,
        queues=[("default", queue) for queue in queues],
        until_s=until_s,
    )


def woken(room: ClaimRoom, *queues: str) -> list[int]:
    claims = room.wake([("default", queue) for queue in queues])
    return [claim.command.request_id for claim in claims]


def test_claims_are_woken_in_the_order_they_came(room: ClaimRoom, session: Session) -> None:
    for rid in (1, 2, 3):
        room.park(a_claim(session, "a", rid=rid))
    READY["a"] = 3

    assert woken(room, "a") == [1, 2, 3]
    assert len(room) == 0


def test_no_more_claims_are_woken_than_there_are_tasks(room: ClaimRoom, session: Session) -> None:
    for rid in range(10):
        room.park(a_claim(session, "a", rid=rid))
    READY["a"] = 2

    assert woken(room, "a") == [0, 1]
    assert woken(room, "a") == [], "the two tasks are spoken for"


def test_a_claim_for_many_speaks_for_many(room: ClaimRoom, session: Session) -> None:
    for rid in (1, 2, 3):
        room.park(a_claim(session, "a", rid=rid, count=10))
    READY["a"] = 12

    assert woken(room, "a") == [1, 2]


def test_what_a_claim_spoke_for_is_free_when_it_settles(room: ClaimRoom, session: Session) -> None:
    first, second = a_claim(session, "a", count=5), a_claim(session, "a", rid=2)
    READY["a"] = 5
    assert room.reserve(first)
    assert not room.reserve(second)
    room.give_back(first)

    assert room.reserve(second)
    room.give_back(second)
    assert room._reserved == {}


def test_a_claim_of_several_queues_is_woken_once(room: ClaimRoom, session: Session) -> None:
    room.park(a_claim(session, "a", "b"))
    READY.update(a=1, b=1)

    assert woken(room, "a", "b") == [1]
    assert room._queues == {}


def test_one_that_was_woken_for_nothing_is_first_again(room: ClaimRoom, session: Session) -> None:
    room.park(a_claim(session, "a", rid=1))
    room.park(a_claim(session, "a", rid=2), first=True)
    READY["a"] = 1

    assert woken(room, "a") == [2]


def test_a_claim_leaves_when_its_wait_is_over(room: ClaimRoom, session: Session) -> None:
    room.park(a_claim(session, "a", "b", until_s=5.0))
    room.park(a_claim(session, "a", rid=2, until_s=9.0))

    assert [claim.command.request_id for claim in room.pop_due(5.1)] == [1]
    READY["a"] = 1
    assert woken(room, "a") == [2]
    assert session.parked == set()


def test_a_removed_claim_is_never_woken(room: ClaimRoom, session: Session) -> None:
    claim = a_claim(session, "a")
    room.park(claim)
    room.remove(claim)
    room.remove(claim)
    READY["a"] = 1

    assert woken(room, "a") == []
    assert room.pop_due(99.0) == []
    assert session.parked == set()


def test_a_lost_hint_is_made_good_by_looking_everywhere(room: ClaimRoom, session: Session) -> None:
    room.park(a_claim(session, "a", rid=1))
    room.park(a_claim(session, "b", rid=2))
    READY["b"] = 1

    assert [claim.command.request_id for claim in room.wake_any()] == [2]


def test_every_wait_for_a_task_ends_with_it_and_others_go_on(session: Session) -> None:
    room = WaitRoom()
    for rid, task_id in ((1, b"x"), (2, b"x"), (3, b"y")):
        room.park(ParkedWait(session, request_id=rid, task_id=task_id, until_s=5.0))

    assert [wait.request_id for wait in room.finished([b"x", b"z"])] == [1, 2]
    assert room.finished([b"x"]) == []
    assert [wait.request_id for wait in room.pop_due(5.1)] == [3]
    assert len(room) == 0
    assert session.parked == set()


def test_a_wait_whose_connection_closed_is_not_told(session: Session) -> None:
    room = WaitRoom()
    wait = ParkedWait(session, request_id=1, task_id=b"x", until_s=5.0)
    room.park(wait)
    room.remove(wait)

    assert room.finished([b"x"]) == []
    assert room.clear() == []


def test_a_look_at_every_queue_is_cut_into_bounded_steps(session: Session) -> None:
    looked: list[str] = []

    def ready(_namespace: str, queue: str) -> int:
        looked.append(queue)
        return READY.get(queue, 0)

    room = ClaimRoom(ready)
    names = [f"q{number}" for number in range(2500)]
    for rid, name in enumerate(names):
        room.park(a_claim(session, name, rid=rid))
    READY["q7"] = 1
    found: list[int] = []
    for _ in range(3):
        looked.clear()
        found += [claim.command.request_id for claim in room.wake_any()]
        assert len(looked) <= 1005
    assert found == [7]
