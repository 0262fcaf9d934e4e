"""Status reads that any node answers from what it has applied."""

from __future__ import annotations

import pytest

from tests.unit.node.world import ADDRESSES, OTHER_ID, World
from tq.protocol import Type

STALE = {"consistency": "stale"}


@pytest.fixture
def world() -> World:
    return World()


def follower_of(leader: World, *, entries: int) -> World:
    """A follower that has applied the first entries of a leader, and no more."""
    follower = World(leads=False)
    follower.follow()
    for proposal in leader.consensus.proposals[:entries]:
        follower.consensus.apply_foreign(proposal.entry)
    return follower


def test_a_follower_that_lags_answers_an_older_state_and_says_so(world: World) -> None:
    client = world.client()
    task_id = client.submit()
    before = world.consensus.index
    client.ack(Type.CANCEL_TASK, task_id, "no more")
    reader = follower_of(world, entries=before).client()

    status, applied_index = reader.ack(Type.QUERY_STATUS, task_id, STALE)
    assert (status["state"], applied_index) == ("pending", before)
    assert client.ack(Type.QUERY_STATUS, task_id)[0]["state"] == "cancelled"


def test_a_stale_read_moves_forward_with_the_node(world: World) -> None:
    client = world.client()
    task_id = client.submit()
    client.ack(Type.CANCEL_TASK, task_id, "no more")
    follower = follower_of(world, entries=0)
    reader = follower.client()
    seen = []
    for proposal in world.consensus.proposals:
        follower.consensus.apply_foreign(proposal.entry)
        status, applied_index = reader.ack(Type.QUERY_STATUS, task_id, STALE)
        seen.append((applied_index, status and status["state"]))

    assert seen == sorted(seen)
    assert [None, "pending", "cancelled"] == [state for _, state in seen]


def test_a_stale_read_costs_no_barrier(world: World) -> None:
    client = world.client()
    task_id = client.submit()
    world.consensus.holds_reads = True
    before = world.consensus.barriers

    assert client.ack(Type.QUERY_STATUS, task_id, STALE)[0]["state"] == "pending"
    assert world.consensus.barriers == before


def test_a_deposed_leader_answers_a_stale_read_and_refuses_a_linearizable_one(
    world: World,
) -> None:
    client = world.client()
    task_id = client.submit()
    index = world.consensus.index
    world.follow(leader=None)

    assert client.ask(Type.QUERY_STATUS, task_id) == (Type.REDIRECT, ["", world.term])
    assert client.ask(Type.QUERY_STATUS, task_id, {}) == (Type.REDIRECT, ["", world.term])
    status, applied_index = client.ack(Type.QUERY_STATUS, task_id, STALE)
    assert (status["state"], applied_index) == ("pending", index)


def test_the_word_linearizable_is_the_default_spelled_out(world: World) -> None:
    client = world.client()
    task_id = client.submit()
    options = {"consistency": "linearizable"}

    assert len(client.ack(Type.QUERY_STATUS, task_id, options)) == 1
    world.follow()
    assert client.ask(Type.QUERY_STATUS, task_id, options) == (
        Type.REDIRECT,
        [ADDRESSES[OTHER_ID], world.term],
    )


def test_a_node_that_has_applied_less_than_asked_for_says_that_it_is_behind(world: World) -> None:
    client = world.client()
    task_id = client.submit()
    index = world.consensus.index
    reader = follower_of(world, entries=index - 1).client()

    code, text, retry_ms = reader.nack(Type.QUERY_STATUS, task_id, STALE | {"at_least": index})
    assert (code, retry_ms > 0) == ("BEHIND", True)
    assert str(index - 1) in text
    assert reader.ack(Type.QUERY_STATUS, task_id, STALE | {"at_least": index - 1})[1] == index - 1


def test_a_node_that_has_applied_nothing_knows_nothing(world: World) -> None:
    task_id = world.client().submit()
    reader = follower_of(world, entries=0).client()

    assert reader.nack(Type.QUERY_STATUS, task_id, STALE)[0] == "BEHIND"


def test_a_task_the_state_does_not_hold_is_answered_with_nil_and_the_index(world: World) -> None:
    client, stranger = world.client(), world.client()
    stranger.session.namespace = "team"
    task_id = client.submit()

    assert stranger.ack(Type.QUERY_STATUS, task_id, STALE) == [None, world.consensus.index]
    assert client.ack(Type.QUERY_STATUS, b"i" * 16, STALE) == [None, world.consensus.index]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"consitency": "stale"}, "unknown key 'consitency'"),
        ({"consistency": "eventual"}, "consistency"),
        ({"consistency": True}, "consistency"),
        ({"consistency": "stale", "at_least": -1}, "at_least"),
        ({"consistency": "stale", "at_least": "9"}, "at_least"),
        ({"at_least": 0}, "at_least"),
        ("stale", "options must be a map"),
    ],
)
def test_a_wrong_option_is_named(world: World, options: object, named: str) -> None:
    client = world.client()
    task_id = client.submit()

    code, text, _ = client.nack(Type.QUERY_STATUS, task_id, options)
    assert code == "BAD_REQUEST"
    assert named in text


def test_stale_reads_wait_for_a_client_that_does_not_read(world: World) -> None:
    client = world.client()
    task_id = client.submit()
    client.session.stuck = True
    client.send(Type.QUERY_STATUS, task_id, STALE)
    assert (client.answers(), client.session.in_flight) == ([], 1)
    client.session.unstick()

    assert [Type.ACK] == [kind for kind, _ in client.answers()]
    assert client.session.in_flight == 0


def test_nothing_is_told_once_the_node_has_failed(world: World) -> None:
    """What it holds then may be half of a snapshot, and "no such task" as of some index."""
    client = world.client()
    task_id = client.submit()
    world.machine.restore(lambda _family: iter(()))  # as a load that broke off leaves it
    client.send(Type.QUERY_STATUS, world.task_id(), {})
    world.broker.fatal("planted")
    client.send(Type.QUERY_STATUS, task_id, STALE)
    client.send(Type.SUBMIT_TASK, task_id, "q", "work", b"", {})
    world.pass_s(0.1)
    world.follow()
    assert client.answers() == []
    assert world.fatal == ["planted"]
