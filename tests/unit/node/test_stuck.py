"""A leader that is heard by a majority and can commit nothing keeps nobody waiting."""

from __future__ import annotations

import pytest

from node.proposer import STUCK_S
from tests.unit.node.world import Client, World
from tq.protocol import Code, Type


def codes(client: Client) -> list[object]:
    """What a client was told: the code of a refusal, the type of everything else."""
    return [fields[1] if kind == Type.NACK else Type(kind) for kind, fields in client.answers()]


@pytest.fixture
def world() -> World:
    return World()


def test_what_is_under_way_is_unknown_and_what_waits_behind_it_has_no_effect(world: World) -> None:
    clients = [world.client() for _ in range(4)]
    tasks = [world.task_id() for _ in clients]
    world.consensus.holds = True
    for client, task_id in zip(clients, tasks, strict=True):
        client.send(Type.SUBMIT_TASK, task_id, "q", "work", b"", {})
        world.loop.run()
    world.pass_s(STUCK_S - 0.1)
    assert [codes(client) for client in clients] == [[]] * 4
    world.pass_s(0.2)
    told = [codes(client) for client in clients]
    assert told == [[Code.UNKNOWN_OUTCOME]] * 2 + [[Code.NO_QUORUM]] * 2

    world.pass_s(1.0)
    world.consensus.holds = False
    world.consensus.apply()
    world.loop.run()
    assert [codes(client) for client in clients] == [[]] * 4, "nobody is answered twice"
    known = [world.machine.status("default", task_id) is not None for task_id in tasks]
    assert known == [True, True, False, False]
    assert all(client.session.in_flight == 0 for client in clients)
    clients[0].submit()


def test_who_comes_while_it_lasts_is_told_at_once(world: World) -> None:
    world.consensus.holds = True
    for _ in range(2):
        world.client().send(Type.SUBMIT_TASK, world.task_id(), "q", "work", b"", {})
        world.loop.run()
    world.pass_s(STUCK_S + 0.1)
    late = world.client()
    late.send(Type.SUBMIT_TASK, world.task_id(), "q", "work", b"", {})
    world.pass_s(0.1)
    assert codes(late) == [Code.NO_QUORUM]


def test_entries_that_come_slowly_are_waited_for(world: World) -> None:
    clients = [world.client() for _ in range(2)]
    world.consensus.holds = True
    for client in clients:
        client.send(Type.SUBMIT_TASK, world.task_id(), "q", "work", b"", {})
        world.loop.run()
    for client in clients:
        world.pass_s(STUCK_S - 0.5)
        world.consensus.apply(1)
        assert codes(client) == [Type.ACK]


def test_a_claim_that_nobody_waits_for_any_more_has_its_lease_and_is_told_again(
    world: World,
) -> None:
    client = world.client()
    session = client.register()
    client.submit(lease_ms=60_000)
    world.consensus.holds = True
    client.send(Type.CLAIM_TASK, session, ["q"], 1, 0, rid=901)
    world.pass_s(STUCK_S + 0.1)
    assert codes(client) == [Code.UNKNOWN_OUTCOME]

    world.consensus.holds = False
    world.consensus.apply()
    assert codes(client) == []
    [lease] = world.machine.leases()
    [[grant]] = client.ack(Type.CLAIM_TASK, session, ["q"], 1, 0, rid=901)
    assert grant[1] == lease.token
    world.pass_s(61.0)
    assert world.machine.lease_of(lease.token) is None, "nobody renews it"


def test_a_claim_that_is_repeated_meanwhile_is_told_again_and_has_the_answer(world: World) -> None:
    client, again = world.client(), world.client()
    session = client.register()
    client.submit()
    world.consensus.holds = True
    client.send(Type.CLAIM_TASK, session, ["q"], 1, 0, rid=901)
    world.pass_s(STUCK_S + 0.1)
    client.answers()
    again.send(Type.CLAIM_TASK, session, ["q"], 1, 0, rid=901)
    world.pass_s(0.1)
    assert codes(again) == [Code.UNKNOWN_OUTCOME]
    again.send(Type.CLAIM_TASK, session, ["q"], 1, 0, rid=901)
    world.consensus.holds = False
    world.consensus.apply()
    [(kind, [_, grants])] = again.answers()
    assert (kind, len(grants)) == (Type.ACK, 1)
    assert codes(client) == []


def test_a_claim_that_is_told_so_is_not_parked(world: World) -> None:
    client, other = world.client(), world.client()
    session = client.register()
    client.submit()
    world.consensus.holds = True
    other.send(Type.CLAIM_TASK, session, ["q"], 1, 0)
    client.send(Type.CLAIM_TASK, session, ["q"], 1, 30_000)
    world.pass_s(STUCK_S + 0.1)
    world.consensus.holds = False
    world.consensus.apply()
    world.loop.run()
    assert world.broker.claims.parked == 0


def test_a_registration_and_its_copy_are_told(world: World) -> None:
    first, second = world.client(), world.client()
    fields: tuple[object, ...] = (b"w" * 16, "worker", ["q"], {})
    world.consensus.holds = True
    first.send(Type.REGISTER_WORKER, *fields, rid=901)
    second.send(Type.REGISTER_WORKER, *fields, rid=901)
    world.pass_s(STUCK_S + 0.1)
    assert (codes(first), codes(second)) == ([Code.UNKNOWN_OUTCOME], [Code.UNKNOWN_OUTCOME])
    world.consensus.holds = False
    world.consensus.apply()
    [session] = world.machine.sessions()
    assert second.ack(Type.REGISTER_WORKER, *fields, rid=901)[0] == session.session
    assert (first.session.in_flight, second.session.in_flight) == (0, 0)


def test_a_task_whose_expiry_was_held_up_is_offered_again(world: World) -> None:
    client = world.client()
    session = client.register()
    client.submit(lease_ms=1000)
    [grant] = client.claim(session)
    world.consensus.holds = True
    world.pass_s(2.0 + STUCK_S)
    world.consensus.holds = False
    world.consensus.apply()
    world.pass_s(0.1)
    assert world.machine.lease_of(grant[1]) is None
    assert client.claim(client.register(worker=b"x" * 16))
