"""Leases of claims that are told again, or do not reach who asked."""

from __future__ import annotations

from typing import Any

import pytest

from node.claims import CAUTIOUS_S
from tests.unit.node.world import World
from tq.protocol import Type


@pytest.fixture
def world() -> World:
    world = World()
    world.pass_s(CAUTIOUS_S + 1)  # past the time in which a new leader parks nothing
    return world


@pytest.mark.parametrize("is_new_leader", [False, True])
def test_a_lease_does_not_expire_while_its_claim_is_told_of_it_again(
    world: World, *, is_new_leader: bool
) -> None:
    client, again = world.client(), world.client()
    session = client.register()
    client.submit(lease_ms=1000)
    asked: tuple[Any, ...] = (Type.CLAIM_TASK, session, ["q"], 1, 0)
    [[grant]] = client.ack(*asked, rid=77)
    if is_new_leader:
        world.follow()
        world.lead()
    world.pass_s(0.9)
    world.consensus.holds = True
    again.send(*asked, rid=77)
    world.loop.run()
    world.pass_s(0.9)
    world.consensus.apply(1)
    world.loop.run()
    [(_, [_, grants])] = again.answers()
    assert grants == [grant]
    world.consensus.holds = False
    world.consensus.apply()
    assert world.machine.lease_of(grant[1]) is not None
    world.pass_s(2)
    assert world.machine.lease_of(grant[1]) is None, "its time is over all the same"


def test_what_was_granted_and_does_not_fit_is_given_back_although_that_was_dropped_once(
    world: World,
) -> None:
    client = world.client()
    session = client.register()
    tasks = [world.task_id() for _ in range(2)]
    for task_id in tasks:
        client.ack(Type.SUBMIT_TASK, task_id, "q", "work", bytes(9 << 20), {})
    world.consensus.holds = True
    client.send(Type.CLAIM_TASK, session, ["q"], 2, 0)
    world.loop.run()
    world.consensus.apply(1)
    world.loop.run()
    [(_, [_, grants])] = client.answers()
    assert [grant[0] for grant in grants] == tasks[:1]
    world.consensus.drop("NOT_LEADER")
    world.consensus.holds = False
    world.pass_s(0.2)
    status = world.machine.status("default", tasks[1])
    assert status is not None
    assert (status["state"], status["lost"]) == ("pending", 0)


@pytest.mark.parametrize("sessions", [1, 3])
def test_a_late_copy_of_a_claim_is_granted_nothing_however_many_came_after_it(
    world: World, sessions: int
) -> None:
    """A worker of short tasks makes hundreds of claims before a copy is given up."""
    client, late = world.client(), world.client()
    all_sessions = [client.register(worker=bytes([one]) * 16) for one in range(sessions)]
    for rid in range(300):
        client.submit()
        asked = (Type.CLAIM_TASK, all_sessions[rid % sessions], ["q"], 1, 0)
        [[grant]] = client.ack(*asked, rid=7000 + rid)
        client.ack(Type.TASK_RESULT, grant[0], grant[1], 0, b"", "")
    task_id = client.submit()
    before = len(world.consensus.proposals)

    assert late.ack(Type.CLAIM_TASK, all_sessions[0], ["q"], 1, 10_000, rid=7000) == [[]]
    assert list(world.machine.leases()) == []
    assert len(world.consensus.proposals) == before
    [grant] = client.claim(all_sessions[0])
    assert grant[0] == task_id, "it was left for others"
