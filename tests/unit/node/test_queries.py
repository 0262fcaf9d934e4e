from __future__ import annotations

import pytest

from node.session import Limits
from tests.unit.node.world import ADDRESSES, OTHER_ID, World
from tq.protocol import Type


@pytest.fixture
def world() -> World:
    return World()


def test_all_reads_of_one_turn_share_one_barrier(world: World) -> None:
    client = world.client()
    task_id = client.submit()
    before = world.consensus.barriers
    for _ in range(10):
        client.send(Type.QUERY_STATUS, task_id)
    client.send(Type.GET_STATS)
    client.send(Type.WAIT_RESULT, task_id, 0)
    answers = client.answers()

    assert world.consensus.barriers == before + 1
    assert [kind for kind, _ in answers] == [Type.ACK] * 12


def test_a_read_waits_for_its_barrier(world: World) -> None:
    client = world.client()
    task_id = client.submit()
    world.consensus.holds_reads = True
    client.send(Type.QUERY_STATUS, task_id)
    assert client.answers() == []
    world.consensus.pass_reads()

    [(kind, answer)] = client.answers()
    assert (kind, answer[1]["state"]) == (Type.ACK, "pending")


def test_a_leader_that_cannot_prove_it_answers_no_read(world: World) -> None:
    client = world.client()
    task_id = client.submit()
    session = client.register()
    world.consensus.holds_reads = True
    for type_, fields in (
        (Type.QUERY_STATUS, (task_id,)),
        (Type.WAIT_RESULT, (task_id, 0)),
        (Type.GET_STATS, ()),
        (Type.LIST_WORKERS, ()),
        (Type.LIST_TASKS, ({},)),
        (Type.HEARTBEAT, (session, [])),
    ):
        client.send(type_, *fields)
    world.loop.run()
    world.consensus.pass_reads(ok=False)

    assert [(kind, answer[1]) for kind, answer in client.answers()] == [
        (Type.NACK, "NO_QUORUM")
    ] * 6


def test_losing_leadership_ends_the_reads_under_way(world: World) -> None:
    client = world.client()
    world.consensus.holds_reads = True
    client.send(Type.GET_STATS)
    world.loop.run()
    world.follow()

    assert client.answers() == [(Type.REDIRECT, [1, ADDRESSES[OTHER_ID], world.term])]
    world.consensus.pass_reads()
    assert client.answers() == [], "a barrier that returns late changes nothing"


def test_an_unknown_task_is_not_found(world: World) -> None:
    client = world.client()
    assert client.nack(Type.QUERY_STATUS, b"i" * 16)[0] == "NOT_FOUND"
    assert client.nack(Type.WAIT_RESULT, b"i" * 16, 1000)[0] == "NOT_FOUND"


def test_a_task_is_not_found_in_another_namespace(world: World) -> None:
    client, stranger = world.client(), world.client()
    stranger.session.namespace = "team"
    task_id = client.submit()

    assert stranger.nack(Type.QUERY_STATUS, task_id)[0] == "NOT_FOUND"


def test_a_wait_is_answered_when_the_task_ends(world: World) -> None:
    client, worker = world.client(), world.client()
    task_id = client.submit()
    session = worker.register()
    rid = client.send(Type.WAIT_RESULT, task_id, 10_000)
    assert client.answers() == []

    [grant] = worker.claim(session)
    assert client.answers() == []
    worker.ack(Type.TASK_RESULT, task_id, grant[1], 0, b"42", "")

    [(kind, answer)] = client.answers()
    assert (kind, answer[0]) == (Type.ACK, rid)
    assert (answer[1]["state"], answer[1]["result"]) == ("completed", b"42")
    assert world.broker.queries.parked == 0


def test_a_wait_for_an_ended_task_is_answered_at_once(world: World) -> None:
    client = world.client()
    task_id = client.submit()
    client.ack(Type.CANCEL_TASK, task_id, "no more")

    assert client.ack(Type.WAIT_RESULT, task_id, 10_000)[0]["state"] == "cancelled"


def test_a_wait_that_is_over_tells_the_state_as_it_is(world: World) -> None:
    client = world.client()
    task_id = client.submit()
    client.send(Type.WAIT_RESULT, task_id, 1000)
    world.pass_s(0.9)
    assert client.answers() == []
    world.pass_s(0.3)

    [(kind, answer)] = client.answers()
    assert (kind, answer[1]["state"]) == (Type.ACK, "pending")


def test_parked_waits_go_with_leadership_with_their_connection_and_with_the_node(
    world: World,
) -> None:
    client, gone = world.client(), world.client()
    task_id = client.submit()
    for waiter in (client, gone):
        waiter.send(Type.WAIT_RESULT, task_id, 10_000)
    world.loop.run()
    gone.close()
    assert world.broker.queries.parked == 1
    world.follow()
    assert [kind for kind, _ in client.answers()] == [Type.REDIRECT]

    world.lead()
    client.send(Type.WAIT_RESULT, task_id, 10_000)
    world.loop.run()
    world.broker.drain()
    assert [answer[1] for _, answer in client.answers()] == ["SHUTTING_DOWN"]


def test_one_connection_cannot_park_waits_without_bound(world: World) -> None:
    client = world.client(limits=Limits(parked_max=1))
    task_id = client.submit()
    client.send(Type.WAIT_RESULT, task_id, 10_000)
    client.answers()

    assert client.nack(Type.WAIT_RESULT, task_id, 10_000)[0] == "RATE_LIMITED"


def test_statistics_and_workers_are_told(world: World) -> None:
    client = world.client()
    session = client.register()
    client.submit()
    world.clock.pass_s(3.0)
    client.ack(Type.HEARTBEAT, session, [], {"load": 0.5, "slots": 4})
    world.clock.pass_s(2.0)

    stats = client.ack(Type.GET_STATS)[0]
    assert stats["states"]["pending"] == 1
    [worker] = client.ack(Type.LIST_WORKERS)[0]
    assert (worker["name"], worker["session"], worker["silent_ms"]) == ("worker", session, 2000)
    assert worker["stats"] == {"load": 0.5, "slots": 4}


# ---------------------------------------------------------------- heartbeats and leases


def test_a_heartbeat_tells_the_lost_leases_and_renews_the_others(world: World) -> None:
    client = world.client()
    session = client.register()
    task_id = client.submit()
    [grant] = client.claim(session)

    for _ in range(4):
        world.pass_s(20.0)
        assert client.ack(Type.HEARTBEAT, session, [grant[1], 999]) == [[999]]
    status = client.ack(Type.QUERY_STATUS, task_id)[0]
    assert (status["state"], status["lost"]) == ("in_progress", 0)


def test_a_heartbeat_renews_nothing_before_its_barrier_has_passed(world: World) -> None:
    client = world.client()
    session = client.register()
    task_id = client.submit()
    [grant] = client.claim(session)
    world.pass_s(29.0)
    world.consensus.holds_reads = True
    client.send(Type.HEARTBEAT, session, [grant[1]])
    world.pass_s(1.5)
    assert client.answers() == []
    world.consensus.holds_reads = False
    world.consensus.pass_reads(ok=False)

    [(kind, answer)] = client.answers()
    assert (kind, answer[1]) == (Type.NACK, "NO_QUORUM")
    world.pass_s(0.6)
    assert world.machine.status("default", task_id)["lost"] == 1  # type: ignore[index] # it is there


def test_a_silent_worker_loses_lease_and_session(world: World) -> None:
    client = world.client()
    session = client.register()
    task_id = client.submit(lease_ms=3_600_000)
    client.claim(session)
    world.pass_s(29.9)
    assert client.ack(Type.QUERY_STATUS, task_id)[0]["state"] == "in_progress"
    world.pass_s(0.5)

    status = client.ack(Type.QUERY_STATUS, task_id)[0]
    assert (status["state"], status["lost"]) == ("pending", 1)
    assert client.nack(Type.HEARTBEAT, session, [])[0] == "UNKNOWN_SESSION"
    assert client.ack(Type.LIST_WORKERS) == [[]]


def test_registering_again_ends_the_old_session(world: World) -> None:
    client = world.client()
    old = client.register()
    new = client.register()

    assert client.nack(Type.HEARTBEAT, old, [])[0] == "UNKNOWN_SESSION"
    assert client.ack(Type.HEARTBEAT, new, []) == [[]]


def test_a_deregistered_session_is_unknown(world: World) -> None:
    client = world.client()
    session = client.register()
    client.ack(Type.DEREGISTER_WORKER, session)

    assert client.nack(Type.HEARTBEAT, session, [])[0] == "UNKNOWN_SESSION"


def test_a_new_leader_gives_every_lease_a_full_period(world: World) -> None:
    client = world.client()
    session = client.register()
    task_id = client.submit()
    client.claim(session)
    world.pass_s(29.0)
    world.follow()
    world.lead()
    world.pass_s(29.0)
    assert client.ack(Type.QUERY_STATUS, task_id)[0]["state"] == "in_progress"
    world.pass_s(1.5)
    assert client.ack(Type.QUERY_STATUS, task_id)[0]["state"] == "pending"


def test_a_new_leader_expires_nothing_before_its_first_barrier(world: World) -> None:
    client = world.client()
    session = client.register()
    client.submit(lease_ms=1000)
    client.claim(session)
    world.follow()
    world.consensus.holds_reads = True
    world.lead()
    before = len(world.consensus.proposals)
    world.pass_s(100.0)
    assert len(world.consensus.proposals) == before

    world.consensus.pass_reads(ok=False)
    assert not world.broker.leases.counting
    world.consensus.holds_reads = False
    world.pass_s(1.0)
    assert world.broker.leases.counting, "it asks again"


def test_extending_a_lease_changes_its_deadline(world: World) -> None:
    client = world.client()
    session = client.register()
    task_id = client.submit()
    [grant] = client.claim(session)
    client.ack(Type.EXTEND, task_id, grant[1], 100_000)
    for _ in range(4):
        world.pass_s(20.0)
        client.ack(Type.HEARTBEAT, session, [])
    assert client.ack(Type.QUERY_STATUS, task_id)[0]["state"] == "in_progress"
    world.pass_s(20.5)
    assert client.ack(Type.QUERY_STATUS, task_id)[0]["state"] == "pending"


def test_finished_leases_are_forgotten_and_run_times_are_observed(world: World) -> None:
    client = world.client()
    session = client.register()
    task_id = client.submit()
    [grant] = client.claim(session)
    assert world.broker.leases.leases == 1
    world.clock.pass_s(2.5)
    client.ack(Type.TASK_RESULT, task_id, grant[1], 0, b"", "")

    assert world.broker.leases.leases == 0
    assert world.figures.run_ms == [2500]


def test_heartbeats_under_way_count_with_their_length(world: World) -> None:
    client = world.client(limits=Limits(in_flight_max_bytes=200_000))
    session = client.register()
    world.consensus.holds_reads = True
    for _ in range(3):
        client.send(Type.HEARTBEAT, session, list(range(2**40, 2**40 + 10_000)))
    was_paused = client.wire.is_paused
    world.loop.run()
    world.consensus.pass_reads()
    assert len(client.answers()) == 3
    assert (was_paused, client.wire.is_paused) == (True, False)
    assert client.session.in_flight_bytes == 0
