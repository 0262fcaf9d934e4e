"""A registration and its repetitions are one request: they open one session."""

from __future__ import annotations

from typing import Any

import pytest

from node.claims import CAUTIOUS_S
from node.recent import KEPT_S
from tests.unit.node.world import Client, World
from tq.protocol import Type

RID = 700_000
WORKER = b"w" * 16


@pytest.fixture
def world() -> World:
    world = World()
    world.pass_s(CAUTIOUS_S + 1)  # past the time in which a new leader parks nothing
    return world


def send(client: Client, *, rid: int = RID, worker: bytes = WORKER) -> None:
    client.send(Type.REGISTER_WORKER, worker, "worker", ["q"], {}, rid=rid)


def register(client: Client, *, rid: int = RID, worker: bytes = WORKER) -> int:
    session: int = client.ack(Type.REGISTER_WORKER, worker, "worker", ["q"], {}, rid=rid)[0]
    return session


def sessions_told(client: Client) -> list[Any]:
    return [fields[1] for kind, fields in client.answers() if kind == Type.ACK]


def test_a_late_copy_of_a_registration_ends_nothing(world: World) -> None:
    worker, late = world.client(), world.client()
    session = register(worker)
    world.client().submit()
    [grant] = worker.claim(session)
    before = len(world.consensus.proposals)

    assert register(late) == session
    assert world.machine.lease_of(grant[1]) is not None
    assert len(world.consensus.proposals) == before
    assert worker.ack(Type.HEARTBEAT, session, [grant[1]]) == [[]]


def test_a_worker_that_registers_anew_ends_its_session_before(world: World) -> None:
    worker = world.client()
    session = register(worker)
    world.client().submit()
    [grant] = worker.claim(session)

    assert register(world.client(), rid=RID + 1) != session
    assert world.machine.lease_of(grant[1]) is None


def test_workers_with_equal_request_ids_have_sessions_of_their_own(world: World) -> None:
    one, other = world.client(), world.client()
    sessions = {register(one), register(other, worker=b"v" * 16)}
    other.session.namespace = "elsewhere"
    sessions.add(register(other))
    assert len(sessions) == 3
    assert all(world.machine.session(session) is not None for session in sessions)


def test_a_late_copy_does_not_end_the_session_that_came_after_its_own(world: World) -> None:
    worker = world.client()
    ended = register(worker)
    session = register(worker, rid=RID + 1)

    assert register(world.client()) == ended, "as it was answered at first"
    assert world.machine.session(session) is not None


def test_copies_that_are_under_way_at_once_open_one_session(world: World) -> None:
    clients = [world.client() for _ in range(3)]
    world.consensus.holds = True
    for client in clients:
        send(client)
        world.loop.run()
    clients[1].close()
    world.consensus.holds = False
    world.consensus.apply()

    [session], [], [told] = (sessions_told(client) for client in clients)
    assert told == session
    assert world.machine.session(session) is not None
    assert all(client.session.in_flight == 0 for client in clients)


def test_a_copy_goes_its_own_way_when_the_one_under_way_is_dropped(world: World) -> None:
    first, copy = world.client(), world.client()
    world.consensus.holds = True
    send(first)
    world.loop.run()
    send(copy)
    world.consensus.drop("NOT_LEADER")
    world.consensus.holds = False
    world.loop.run()
    world.consensus.apply()

    assert [kind for kind, _ in first.answers()] == [Type.NACK]
    [session] = sessions_told(copy)
    assert world.machine.session(session) is not None


def test_a_copy_is_sent_to_the_new_leader_with_the_one_that_is_under_way(world: World) -> None:
    first, copy = world.client(), world.client()
    world.consensus.holds = True
    send(first)
    world.loop.run()
    send(copy)
    world.follow()
    world.consensus.drop("UNKNOWN_OUTCOME")

    assert [kind for kind, _ in first.answers()] == [Type.NACK]
    assert [kind for kind, _ in copy.answers()] == [Type.REDIRECT]


def test_a_leader_that_is_elected_again_knows_the_registrations_of_its_time_before(
    world: World,
) -> None:
    session = register(world.client())
    world.follow()
    world.lead()
    assert register(world.client()) == session


def test_a_deposed_leader_does_not_tell_of_a_registration(world: World) -> None:
    client = world.client()
    register(client)
    world.consensus.holds_reads = True
    send(client)
    world.loop.run()
    world.follow()
    assert [kind for kind, _ in client.answers()] == [Type.REDIRECT]
    assert client.session.in_flight == 0


def test_a_session_that_is_told_again_lives_from_then(world: World) -> None:
    worker = world.client()
    session = register(worker)
    world.pass_s(25)
    assert register(worker) == session
    world.pass_s(25)
    assert world.machine.session(session) is not None
    world.pass_s(10)
    assert world.machine.session(session) is None, "its time is over all the same"


def test_a_repetition_long_after_opens_another_session(world: World) -> None:
    worker = world.client()
    session = register(worker)
    world.pass_s(KEPT_S + 1)
    assert register(worker) != session
