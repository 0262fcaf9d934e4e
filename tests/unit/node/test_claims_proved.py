"""Claims and the leaders that may answer them."""

from __future__ import annotations

from typing import Any

import pytest

from node.claims import CAUTIOUS_S
from tests.unit.node.test_claims import park, proposals
from tests.unit.node.world import Client, World
from tq.protocol import Type


@pytest.fixture
def world() -> World:
    world = World()
    world.clock.pass_s(CAUTIOUS_S + 1)  # past the time in which a new leader parks nothing
    return world


@pytest.mark.parametrize("registered", [True, False])
@pytest.mark.parametrize("wait_ms", [0, 500])
def test_a_deposed_leader_answers_no_claim(world: World, registered: bool, wait_ms: int) -> None:
    client = world.client()
    session = client.register() if registered else 12345
    world.consensus.holds_reads = world.consensus.holds = True
    client.send(Type.CLAIM_TASK, session, ["q"], 1, wait_ms)
    world.pass_s(0.6)
    assert client.answers() == [], "another leader may know the session, or have granted tasks"

    world.follow()
    world.consensus.drop("NOT_LEADER")
    world.consensus.pass_reads(ok=False)

    assert [kind for kind, _ in client.answers()] == [Type.REDIRECT]
    assert client.session.in_flight == 0
    assert world.broker.claims.idle


def test_the_session_of_a_claim_is_refused_by_the_log(world: World) -> None:
    before = proposals(world)
    assert world.client().nack(Type.CLAIM_TASK, 12345, ["q"], 1, 0)[0] == "UNKNOWN_SESSION"
    assert proposals(world) == before + 1


def test_a_repetition_that_waits_for_longer_goes_on_when_the_first_is_over(world: World) -> None:
    first, again = world.client(), world.client()
    session = first.register()
    world.consensus.holds_reads = True
    rid = first.send(Type.CLAIM_TASK, session, ["q"], 1, 0)
    first.answers()
    again.send(Type.CLAIM_TASK, session, ["q"], 1, 10_000, rid=rid)
    world.consensus.holds_reads = False
    world.consensus.pass_reads()
    assert (first.answers(), again.answers()) == ([], [])

    task_id = world.client().submit()

    for client in (first, again):
        [(kind, answer)] = client.answers()
        assert (kind, answer[0], answer[1][0][0]) == (Type.ACK, rid, task_id)


def test_a_claim_is_known_as_long_as_its_leases_live(world: World) -> None:
    client, again = world.client(), world.client()
    session = client.register()
    grants = {}
    for _ in range(40):  # more than are remembered by their ids
        client.submit()
        rid, [grant] = claimed(client, session)
        grants[rid] = grant
    rid, grant = next(iter(grants.items()))

    client.submit()  # and it is not granted this one instead
    [repeated] = again.ack(Type.CLAIM_TASK, session, ["q"], 1, 0, rid=rid)[0]

    assert repeated[:2] == grant[:2]


def claimed(client: Client, session: int) -> tuple[int, list[list[Any]]]:
    rid = client.send(Type.CLAIM_TASK, session, ["q"], 1, 0)
    [(kind, answer)] = client.answers()
    assert kind == Type.ACK
    return rid, answer[1]


def test_claims_of_two_namespaces_have_nothing_to_do_with_each_other(world: World) -> None:
    worker, stranger = world.client(), world.client()
    stranger.session.namespace = "other"
    session = worker.register()
    rid = park(worker, session)
    stranger.send(Type.CLAIM_TASK, session, ["q"], 1, 500, rid=rid)
    assert (stranger.answers(), world.broker.claims.parked) == ([], 2)

    world.pass_s(0.6)

    assert worker.answers() == []
    [(_, answer)] = stranger.answers()
    assert answer == [rid, []]
    assert world.broker.claims.parked == 1


def granted_others(world: World, client: Client, again: Client) -> tuple[int, int]:
    """Repeat a claim whose task ends before the entry of the repetition, which gets another."""
    session = client.register()
    first = client.submit()
    rid, [grant] = claimed(client, session)
    second = world.client().submit()
    world.consensus.holds = True
    client.send(Type.TASK_RESULT, first, grant[1], 0, b"", "")
    world.loop.run()
    again.send(Type.CLAIM_TASK, session, ["q"], 1, 0, rid=rid)
    world.loop.run()
    client.wire.take()
    world.consensus.apply(2)
    world.loop.run()
    [lease] = world.machine.leases()
    assert lease.task_id == second
    return session, rid


def test_a_repetition_is_told_of_nothing_when_it_holds_nothing(world: World) -> None:
    """Simulation seed 42997920104051: it was told so while it held a task, given back later."""
    client, again = world.client(), world.client()
    session, rid = granted_others(world, client, again)
    third = world.client()
    third.send(Type.CLAIM_TASK, session, ["q"], 1, 0, rid=rid)  # and once more, meanwhile
    assert (again.answers(), third.answers()) == ([], [])
    world.consensus.apply()
    world.loop.run()
    assert list(world.machine.leases()) == []
    for one in (again, third):
        assert [answer[1] for _, answer in one.answers()] == [[]]
        assert one.session.in_flight == 0
    assert world.broker.idle


def test_a_repetition_whose_tasks_cannot_be_given_back_asks_again(world: World) -> None:
    client, again = world.client(), world.client()
    granted_others(world, client, again)
    world.follow()
    world.consensus.drop("UNKNOWN_OUTCOME")
    [(kind, answer)] = again.answers()
    assert (kind, answer[1]) == (Type.NACK, "UNKNOWN_OUTCOME")


def test_a_release_that_is_dropped_again_and_again_answers_once(world: World) -> None:
    """As while a leader hands over to one that cannot take it yet."""
    client, again = world.client(), world.client()
    granted_others(world, client, again)
    for _ in range(3):
        world.consensus.drop("NOT_LEADER")
        world.pass_s(0.1)
    assert [answer[1] for _, answer in again.answers()] == ["UNKNOWN_OUTCOME"]
    world.consensus.holds = False
    world.consensus.apply()
    world.loop.run()
    assert list(world.machine.leases()) == []
    assert world.broker.idle
    assert again.session.in_flight == 0


def test_what_cannot_be_given_back_is_asked_for_before_a_repetition_is_told_of_nothing(
    world: World,
) -> None:
    client, again = world.client(), world.client()
    session, rid = granted_others(world, client, again)
    world.consensus.drop("NOT_LEADER")
    again.answers()
    again.send(Type.CLAIM_TASK, session, ["q"], 1, 0, rid=rid)
    assert again.answers() == []
    world.consensus.holds = False
    world.consensus.apply()
    world.pass_s(0.1)
    assert [answer[1] for _, answer in again.answers()] == [[]]
    assert list(world.machine.leases()) == []
