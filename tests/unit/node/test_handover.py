"""A leader that is told to stop: its office first, its clients with it, then the rest."""

from __future__ import annotations

import asyncio

import pytest
from structlog.typing import FilteringBoundLogger

from node import handover, logs
from tests.unit.node.world import ADDRESSES, OTHER_ID, World
from tq.protocol import Type

REDIRECT_FIELDS = [ADDRESSES[OTHER_ID], 2]


@pytest.fixture
def world() -> World:
    return World()


def a_log() -> FilteringBoundLogger:
    return logs.logger(node=1)


def submit_fields(world: World) -> tuple[object, ...]:
    return (world.task_id(), "q", "work", b"payload", {})


def test_a_command_that_comes_while_leadership_leaves_is_sent_on_to_the_new_leader(
    world: World,
) -> None:
    client = world.client()
    world.broker.begin_hand_over()
    client.send(Type.SUBMIT_TASK, *submit_fields(world))
    client.send(Type.TASK_RESULT, world.task_id(), 7, 0, b"", "")
    proposed = len(world.consensus.proposals)
    assert client.answers() == []
    world.follow(leader=None)
    assert client.answers() == [], "nobody can be told where to go yet"
    world._role("follower", OTHER_ID)

    answers = client.answers()
    assert [(Type.REDIRECT, REDIRECT_FIELDS)] * 2 == [(kind, a[1:]) for kind, a in answers]
    assert proposed == len(world.consensus.proposals)
    assert (0, 0) == (client.session.in_flight, client.session.in_flight_bytes)


def test_what_is_under_way_is_answered_while_leadership_leaves(world: World) -> None:
    client = world.client()
    world.consensus.holds = True
    client.send(Type.SUBMIT_TASK, *submit_fields(world))
    world.loop.run()
    world.broker.begin_hand_over()
    assert not world.broker.proposer.idle
    world.consensus.apply()

    assert [Type.ACK] == [kind for kind, _ in client.answers()]
    assert world.broker.proposer.idle


def test_parked_claims_and_waits_go_to_the_new_leader_once_it_is_known(world: World) -> None:
    client = world.client()
    session = client.register()
    task_id = client.submit(queue="other")
    client.send(Type.CLAIM_TASK, session, ["q"], 1, 60_000)
    client.send(Type.WAIT_RESULT, task_id, 60_000)
    assert client.answers() == []
    world.broker.begin_hand_over()
    world.follow(leader=None)
    assert client.answers() == []
    world._role("follower", OTHER_ID)

    answers = client.answers()
    assert [(Type.REDIRECT, REDIRECT_FIELDS)] * 2 == [(kind, a[1:]) for kind, a in answers]


def test_reads_that_the_old_leader_cannot_prove_any_more_are_sent_on(world: World) -> None:
    client = world.client()
    task_id = client.submit()
    world.consensus.holds_reads = True
    world.broker.begin_hand_over()
    client.send(Type.QUERY_STATUS, task_id)
    world.loop.run()
    world.consensus.pass_reads(ok=False)  # said before the role
    world.follow(leader=None)
    world._role("follower", OTHER_ID)

    assert [(Type.REDIRECT, REDIRECT_FIELDS)] == [(kind, a[1:]) for kind, a in client.answers()]


def test_a_read_is_still_answered_while_this_node_leads(world: World) -> None:
    client = world.client()
    task_id = client.submit()
    world.broker.begin_hand_over()

    assert client.ack(Type.QUERY_STATUS, task_id)[0]["state"] == "pending"


def test_a_leader_that_nobody_relieves_serves_what_it_kept(world: World) -> None:
    client = world.client()
    world.broker.begin_hand_over()
    client.send(Type.SUBMIT_TASK, *submit_fields(world))
    assert client.answers() == []
    world.broker.end_hand_over()

    assert [Type.ACK] == [kind for kind, _ in client.answers()]


def test_a_client_that_is_gone_is_not_answered(world: World) -> None:
    client = world.client()
    world.broker.begin_hand_over()
    client.send(Type.SUBMIT_TASK, *submit_fields(world))
    client.close()
    proposed = len(world.consensus.proposals)
    world.broker.end_hand_over()
    world.loop.run()

    assert proposed == len(world.consensus.proposals)


def test_kept_commands_count_as_under_way(world: World) -> None:
    client = world.client()
    world.broker.begin_hand_over()
    for _ in range(world.consensus.index + 5000):
        client.send(Type.SUBMIT_TASK, *submit_fields(world))
    assert client.wire.is_paused


async def test_the_transfer_waits_for_what_is_under_way(world: World) -> None:
    client = world.client()
    world.consensus.holds = True
    client.send(Type.SUBMIT_TASK, *submit_fields(world))
    world.loop.run()
    seen: list[bool] = []

    def transfer() -> None:
        seen.append(world.broker.proposer.idle)
        world.follow()

    handing = asyncio.create_task(handover.hand_over(world.broker, transfer, log=a_log()))
    await asyncio.sleep(0)
    assert seen == []
    world.consensus.apply()
    async with asyncio.timeout(10):
        await handing
    assert seen == [True]


async def test_a_leader_whom_everyone_has_left_does_not_wait_for_a_successor(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "PATIENCE_S", (600.0, 600.0))
    async with asyncio.timeout(10):
        await handover.hand_over(world.broker, lambda: None, log=a_log(), is_alone=lambda: True)
    assert not world.broker.has_handed_over


async def test_a_transfer_that_fails_is_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "PATIENCE_S", (0.01, 0.01))
    client = world.client()
    asked: list[None] = []
    async with asyncio.timeout(10):
        await handover.hand_over(world.broker, lambda: asked.append(None), log=a_log())

    assert len(asked) == 2
    client.submit()
