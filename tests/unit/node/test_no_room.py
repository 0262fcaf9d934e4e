"""Tasks for which there is no room: refused at the door, by a leader that knows it leads."""

from __future__ import annotations

import pytest

from node.surroundings import Rules
from tests.unit.node.test_dispatcher import commands
from tests.unit.node.world import ADDRESSES, OTHER_ID, World
from tq.protocol import Type


@pytest.fixture
def world() -> World:
    return World()


def full_world(threshold: int) -> World:
    return World(rules=Rules(node_id=1, seed={"queue_depth_threshold": threshold}))


def test_a_full_queue_is_refused_without_an_entry_counting_what_is_on_its_way() -> None:
    world = full_world(3)
    client = world.client()
    world.consensus.holds = True
    ids = [world.task_id() for _ in range(5)]
    for task_id in ids:
        client.send(Type.SUBMIT_TASK, task_id, "q", "n", b"", {})
    refused = client.answers()
    world.consensus.apply()
    accepted = client.answers()

    assert [answer[1] for _, answer in refused] == ["QUEUE_FULL", "QUEUE_FULL"]
    assert all(answer[3] > 0 for _, answer in refused), "a retry hint"
    assert [kind for kind, _ in accepted] == [Type.ACK] * 3
    assert len(commands(world)[-1]) == 3


def test_a_known_id_is_never_refused_for_a_full_queue() -> None:
    world = full_world(1)
    client = world.client()
    task_id = client.submit()

    assert client.nack(Type.SUBMIT_TASK, world.task_id(), "q", "work", b"", {})[0] == "QUEUE_FULL"
    client.submit(task_id=task_id)


@pytest.mark.parametrize("batch", [False, True])
def test_a_deposed_leader_does_not_refuse_what_another_has_accepted(batch: bool) -> None:
    world = full_world(1)
    client = world.client()
    client.submit()
    task = [world.task_id(), "q", "work", b"", {}]  # accepted by a leader this one knows nothing of
    world.consensus.holds_reads = True
    if batch:
        client.send(Type.SUBMIT_BATCH, [task])
    else:
        client.send(Type.SUBMIT_TASK, *task)
    assert client.answers() == []

    world.follow()
    world.consensus.pass_reads(ok=False)

    [(kind, answer)] = client.answers()
    assert (kind, answer[1:]) == (Type.REDIRECT, [ADDRESSES[OTHER_ID], world.term])
    assert client.session.in_flight == 0


def test_what_has_room_by_the_time_the_leader_is_sure_is_taken() -> None:
    world = full_world(1)
    client = world.client()
    first = client.submit()
    world.consensus.holds_reads = True
    client.send(Type.SUBMIT_TASK, world.task_id(), "q", "work", b"", {})
    client.ack(Type.CANCEL_TASK, first, "")

    world.consensus.pass_reads()

    [(kind, _)] = client.answers()
    assert kind == Type.ACK
    assert client.session.in_flight == 0


def test_a_full_disk_refuses_new_tasks_and_nothing_else(world: World) -> None:
    client = world.client()
    task_id = client.submit()
    world.disk_low = True

    code, _, retry_after_ms = client.nack(Type.SUBMIT_TASK, world.task_id(), "q", "n", b"", {})
    assert (code, retry_after_ms) == ("DISK_FULL", 5000)
    new = [[task_id, "q", "work", b"", {}], [world.task_id(), "q", "n", b"", {}]]
    assert client.nack(Type.SUBMIT_BATCH, new)[0] == "DISK_FULL"
    client.submit(task_id=task_id)
    session = client.ack(Type.REGISTER_WORKER, b"w" * 16, "w", ["q"], {})[0]
    [[grant]] = client.ack(Type.CLAIM_TASK, session, ["q"], 1, 0)
    client.ack(Type.TASK_RESULT, grant[0], grant[1], 0, b"", "")

    world.disk_low = False
    client.submit()


def test_a_leader_that_has_not_caught_up_leaves_it_to_the_log_what_is_new() -> None:
    world = World(leads=False)
    client = world.client()
    world.consensus.holds_reads = True
    world.disk_low = True
    world.lead()  # its barrier is not through: committed tasks may not be applied here yet

    client.submit()
    world.consensus.holds_reads = False
    world.consensus.pass_reads()
    world.pass_s(0.1)
    assert client.nack(Type.SUBMIT_TASK, world.task_id(), "q", "n", b"", {})[0] == "DISK_FULL"


def test_another_queue_is_not_full() -> None:
    world = full_world(1)
    client = world.client()
    client.submit()

    client.submit(queue="other")


def test_the_door_forgets_what_was_dropped() -> None:
    world = full_world(1)
    client = world.client()
    world.consensus.holds = True
    client.send(Type.SUBMIT_TASK, world.task_id(), "q", "n", b"", {})
    world.loop.run()
    world.consensus.drop("UNKNOWN_OUTCOME")
    world.consensus.holds = False
    client.answers()

    client.submit()
    assert world.broker._door._coming == {}


def test_a_batch_is_refused_at_the_door_only_when_all_of_it_would_be() -> None:
    world = full_world(1)
    client = world.client()
    known = client.submit()
    before = len(world.consensus.proposals)

    fresh = [[world.task_id(), "q", "work", b"payload", {}]]
    assert client.nack(Type.SUBMIT_BATCH, fresh)[0] == "QUEUE_FULL"
    assert len(world.consensus.proposals) == before

    mixed = [*fresh, [known, "q", "work", b"payload", {}]]
    [answers] = client.ack(Type.SUBMIT_BATCH, mixed)
    assert [answer[0] for answer in answers] == ["QUEUE_FULL", 0]
