"""A leader that does not know the time, as when it hears too few clocks, stamps nothing."""

from __future__ import annotations

import pytest

from tests.unit.node.world import World
from tq.protocol import Type


def an_idle_world(idle_s: float) -> World:
    """One that did nothing for a while: log time is that of its last entry."""
    world = World()
    world.client().submit()
    world.clock.pass_s(idle_s)
    world.broker.tick()
    world.loop.run()
    return world


@pytest.fixture
def world() -> World:
    return an_idle_world(900)


def test_a_task_of_now_is_not_refused_as_too_new(world: World) -> None:
    client = world.client()
    world.knows_time = False
    client.send(Type.SUBMIT_TASK, world.task_id(), "q", "work", b"", {})
    world.pass_s(0.5)
    assert client.answers() == []

    world.knows_time = True
    world.pass_s(0.1)
    assert [kind for kind, _ in client.answers()] == [Type.ACK]
    assert client.session.in_flight == 0


def test_a_delay_is_reckoned_from_now() -> None:
    world = an_idle_world(400)
    client = world.client()
    task_id = world.task_id()
    world.knows_time = False
    client.send(Type.SUBMIT_TASK, task_id, "q", "work", b"", {"delay_ms": 100_000})
    world.loop.run()
    world.knows_time = True
    for passed_s, state in [(99.0, "scheduled"), (2.0, "pending")]:
        world.pass_s(passed_s)
        status = world.machine.status("default", task_id)
        assert status is not None
        assert status["state"] == state


def test_what_waits_is_not_accepted_when_the_office_goes(world: World) -> None:
    client, worker = world.client(), world.client()
    session = worker.register()
    world.knows_time = False
    client.send(Type.SUBMIT_TASK, world.task_id(), "q", "work", b"", {})
    worker.send(Type.CLAIM_TASK, session, ["q"], 1, 1000)
    world.pass_s(0.1)
    world.follow()
    for one in (client, worker):
        assert [kind for kind, _ in one.answers()] == [Type.REDIRECT]
        assert one.session.in_flight == 0
    assert world.broker.idle


def test_a_lease_ends_when_the_time_is_known_again(world: World) -> None:
    client = world.client()
    session = client.register()
    [grant] = client.claim(session)
    world.knows_time = False
    world.pass_s(40)
    assert world.machine.lease_of(grant[1]) is not None
    world.knows_time = True
    world.pass_s(0.1)
    assert world.machine.lease_of(grant[1]) is None


def test_a_new_cluster_gets_its_settings_before_the_first_request() -> None:
    world = World(leads=False)
    world.knows_time = False
    world.lead()
    client = world.client()
    client.send(Type.SUBMIT_TASK, world.task_id(), "q", "work", b"", {})
    assert client.answers() == []
    assert world.consensus.proposals == []
    world.knows_time = True
    world.pass_s(0.1)
    assert world.machine.seeded
    assert [kind for kind, _ in client.answers()] == [Type.ACK]
