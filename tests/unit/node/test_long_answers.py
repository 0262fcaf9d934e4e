"""A short request that asks for megabytes must not fill the memory, nor stop the others."""

from __future__ import annotations

import pytest

from node.session import ROOM_BYTES
from tests.unit.node.world import Client, World
from tq.protocol import Type

LONG = 300_000


@pytest.fixture
def world() -> World:
    return World()


def a_long_result(client: Client) -> bytes:
    session = client.register()
    task_id = client.submit()
    [grant] = client.claim(session)
    client.ack(Type.TASK_RESULT, task_id, grant[1], 0, bytes(LONG), "")
    return task_id


def test_one_turn_of_the_loop_makes_no_more_long_answers_than_fit(world: World) -> None:
    client = world.client()
    task_id = a_long_result(client)
    for _ in range(40):
        client.send(Type.QUERY_STATUS, task_id)
        client.send(Type.WAIT_RESULT, task_id, 1000)

    sizes: list[int] = []
    answers = 0
    while answers < 80:
        world.loop.turn()
        sizes.append(sum(map(len, client.wire.written)))
        answers += len(client.wire.take())
        assert len(sizes) < 100
    assert max(sizes) <= ROOM_BYTES + LONG + 1000
    assert client.session.in_flight == 0


def test_a_client_that_does_not_read_is_made_no_more_but_its_heartbeat_counts(
    world: World,
) -> None:
    client = world.client()
    task_id = a_long_result(client)
    session = client.register()
    client.session.stuck = True
    client.send(Type.QUERY_STATUS, task_id)
    client.send(Type.HEARTBEAT, session, [])
    assert [(Type.ACK, [])] == [(kind, fields[1]) for kind, fields in client.answers()]

    client.session.unstick()
    [(kind, [_, status])] = client.answers()
    assert (Type.ACK, LONG) == (kind, len(status["result"]))


def test_waits_for_one_task_are_answered_as_their_client_reads(world: World) -> None:
    client = world.client()
    session = client.register()
    task_id = client.submit()
    [grant] = client.claim(session)
    waiter = world.client()
    for _ in range(20):
        waiter.send(Type.WAIT_RESULT, task_id, 60_000)
    world.loop.run()
    waiter.session.stuck = True
    client.ack(Type.TASK_RESULT, task_id, grant[1], 0, bytes(LONG), "")
    assert waiter.answers() == []
    waiter.session.unstick()
    assert len(waiter.answers()) == 20


def test_a_grant_whose_lease_ended_before_its_client_could_read_it_is_not_told(
    world: World,
) -> None:
    client = world.client()
    session = client.register()
    client.submit(lease_ms=1000, lost_max=0)
    kept = client.submit(lease_ms=60_000)
    client.session.stuck = True
    client.send(Type.CLAIM_TASK, session, ["q"], 2, 0)
    assert client.answers() == []
    world.pass_s(1.5)
    client.session.unstick()
    [(kind, [_, grants])] = client.answers()
    assert (Type.ACK, [kept]) == (kind, [grant[0] for grant in grants])


def test_what_waits_is_forgotten_with_its_connection(world: World) -> None:
    client = world.client()
    task_id = a_long_result(client)
    client.session.stuck = True
    client.send(Type.QUERY_STATUS, task_id)
    world.loop.run()
    client.close()
    client.session.unstick()
    assert client.answers() == []
