"""LIST_TASKS and LOG_HASHES as a node answers them."""

from __future__ import annotations

from typing import Any

import pytest
from msgpack import packb

from cluster.interface import LogHashes
from node.requests import parse_list
from statemachine import TaskState
from tests.unit.node.test_stale_reads import follower_of
from tests.unit.node.world import ADDRESSES, OTHER_ID, World
from tq.protocol import Type

STALE = {"consistency": "stale"}


@pytest.fixture
def world() -> World:
    return World()


def test_a_list_waits_for_its_barrier_and_names_the_index_of_its_state(world: World) -> None:
    client = world.client()
    submitted = [client.submit(queue=queue) for queue in "abab"]
    world.consensus.holds_reads = True
    client.send(Type.LIST_TASKS, {"queue": "a", "limit": 1})
    assert client.answers() == []
    world.consensus.pass_reads()
    [(kind, [_, tasks, cursor, applied_index])] = client.answers()
    assert (kind, applied_index) == (Type.ACK, world.consensus.index)
    assert [one["task_id"] for one in tasks] == [cursor] == [submitted[0]]
    assert "history" not in tasks[0]

    world.consensus.holds_reads = False
    tasks, cursor, _ = client.ack(Type.LIST_TASKS, {"queue": "a", "after": cursor})
    assert ([one["task_id"] for one in tasks], cursor) == ([submitted[2]], b"")


def test_without_options_everything_is_asked_for_a_hundred_at_a_time(world: World) -> None:
    client = world.client()
    submitted = [client.submit() for _ in range(101)]
    tasks, cursor, _ = client.ack(Type.LIST_TASKS)
    assert [one["task_id"] for one in tasks] == submitted[:100]
    assert cursor == submitted[99]
    assert client.ack(Type.LIST_TASKS, {"states": ["completed", "failed"]})[:2] == [[], b""]


def test_the_tasks_of_another_namespace_are_not_shown(world: World) -> None:
    client, stranger = world.client(), world.client()
    stranger.session.namespace = "team"
    client.submit()
    own = stranger.submit()
    for options in ({}, STALE):
        assert [one["task_id"] for one in stranger.ack(Type.LIST_TASKS, options)[0]] == [own]


def test_a_follower_lists_what_it_has_applied_and_costs_no_barrier(world: World) -> None:
    client = world.client()
    submitted = [client.submit() for _ in range(3)]
    entries = world.consensus.index
    follower = follower_of(world, entries=entries - 1)
    reader = follower.client()

    tasks, cursor, applied_index = reader.ack(Type.LIST_TASKS, STALE)
    assert [one["task_id"] for one in tasks] == submitted[:2]
    assert (cursor, applied_index) == (b"", entries - 1)
    assert follower.consensus.barriers == 0
    assert reader.nack(Type.LIST_TASKS, STALE | {"at_least": entries})[0] == "BEHIND"
    assert reader.ask(Type.LIST_TASKS, {}) == (
        Type.REDIRECT,
        [ADDRESSES[OTHER_ID], follower.term],
    )


@pytest.mark.parametrize("options", [{}, STALE])
def test_lists_wait_for_a_client_that_does_not_read(world: World, options: Any) -> None:
    client = world.client()
    client.submit()
    client.session.stuck = True
    client.send(Type.LIST_TASKS, options)
    assert (client.answers(), client.session.in_flight) == ([], 1)
    client.session.unstick()
    assert [Type.ACK] == [kind for kind, _ in client.answers()]
    assert client.session.in_flight == 0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"state": ["pending"]}, "unknown key 'state'"),
        ({"queue": "a b"}, "queue must be a name"),
        ({"queue": b"a"}, "queue"),
        ({"states": []}, "states must be one or more of scheduled, pending, in_progress"),
        ({"states": ["gone"]}, "states"),
        ({"states": "pending"}, "states"),
        ({"states": [["pending"]]}, "states"),
        ({"after": bytes(15)}, "after must be 16 bytes"),
        ({"after": None}, "after"),
        ({"limit": 0}, "limit must be 1..1000"),
        ({"limit": 1001}, "limit"),
        ({"limit": True}, "limit"),
        ({"consistency": "eventual"}, "consistency"),
        ({"at_least": 0}, "at_least"),
        ("pending", "options must be a map"),
    ],
)
def test_a_wrong_option_is_named(world: World, options: object, named: str) -> None:
    code, text, _ = world.client().nack(Type.LIST_TASKS, options)
    assert code == "BAD_REQUEST"
    assert named in text


def test_states_that_are_named_again_and_again_count_once() -> None:
    asked = ["pending", "failed", *["pending"] * 50_000]
    query = parse_list(packb([1, {"states": asked}]), "default")
    assert query.wanted.states == [TaskState.PENDING, TaskState.FAILED]


def test_a_node_tells_the_checksums_it_has_of_its_log() -> None:
    asked: list[tuple[int, int]] = []

    def log_hashes(start: int, limit: int) -> LogHashes:
        asked.append((start, limit))
        return LogHashes(7, 9, [(8, 2, 4_000_000_000)])

    world = World(leads=False, log_hashes=log_hashes)
    assert world.client().ack(Type.LOG_HASHES, 8, 1) == [7, 9, [[8, 2, 4_000_000_000]]]
    assert asked == [(8, 1)]


def test_answers_to_lists_are_counted_by_the_name_of_the_request(world: World) -> None:
    client = world.client()
    client.submit()
    client.ack(Type.LIST_TASKS)
    client.ack(Type.LOG_HASHES, 1, 1)
    assert world.figures.requests[-2:] == [("LIST_TASKS", "ACK"), ("LOG_HASHES", "ACK")]


@pytest.mark.parametrize("options", [{"queue": "none"}, STALE | {"queue": "none"}])
def test_lists_that_come_together_are_made_one_in_a_turn(world: World, options: Any) -> None:
    client = world.client()
    client.submit()
    made: list[int] = []
    make = world.machine.list_tasks
    world.machine.list_tasks = lambda wanted: made.append(1) or make(wanted)  # type: ignore[method-assign,func-returns-value]
    client.session.stuck = True
    for _ in range(50):
        client.send(Type.LIST_TASKS, options)
    world.loop.run()
    assert made == []
    client.session.unstick()
    most, before = 0, 0
    for _ in range(200):
        world.loop.turn()
        most, before = max(most, len(made) - before), len(made)
    assert (len(made), most) == (50, 1)
    assert len(client.answers()) == 50
    assert client.session.in_flight == 0
