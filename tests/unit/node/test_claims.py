from __future__ import annotations

from typing import Any

import pytest

from node.claims import CAUTIOUS_S
from node.session import Limits
from statemachine import LIMITS, claiming, decode_entry
from tests.unit.node.world import ADDRESSES, OTHER_ID, Client, World
from tq.protocol import Type


@pytest.fixture
def world() -> World:
    world = World()
    world.clock.pass_s(CAUTIOUS_S + 1)  # past the time in which a new leader parks nothing
    return world


def park(client: Client, session: int, *, wait_ms: int = 10_000, queues: Any = ("q",)) -> int:
    rid = client.send(Type.CLAIM_TASK, session, list(queues), 1, wait_ms)
    assert client.answers() == []
    return rid


def proposals(world: World) -> int:
    return len(world.consensus.proposals)


def test_a_claim_carries_the_payload(world: World) -> None:
    client = world.client()
    session = client.register()
    task_id = client.submit(priority=7, timeout_ms=5000)

    [grant] = client.claim(session)

    token = grant[1]
    place = token >> 20
    assert grant == [task_id, token, "q", "work", b"payload", 1, 30_000, 5000, grant[8]]
    assert grant[8] >> 20 == place - 1


def test_a_claim_that_finds_nothing_parks_without_an_entry(world: World) -> None:
    client = world.client()
    session = client.register()
    before = proposals(world)
    park(client, session)

    assert proposals(world) == before
    assert world.broker.claims.parked == 1


def test_a_claim_without_a_wait_is_answered_at_once_without_an_entry(world: World) -> None:
    client = world.client()
    session = client.register()
    before = proposals(world)

    assert client.claim(session) == []
    assert proposals(world) == before


def test_a_submit_wakes_the_parked_claim(world: World) -> None:
    worker, client = world.client(), world.client()
    session = worker.register()
    rid = park(worker, session)
    task_id = client.submit()

    [(kind, answer)] = worker.answers()
    assert (kind, answer[0], answer[1][0][0]) == (Type.ACK, rid, task_id)
    assert world.broker.claims.parked == 0


def test_parked_claims_are_served_in_the_order_they_came(world: World) -> None:
    client = world.client()
    workers = [world.client() for _ in range(3)]
    for number, worker in enumerate(workers):
        park(worker, worker.register(worker=bytes([number]) * 16))
    client.submit()
    assert [len(worker.answers()) for worker in workers] == [1, 0, 0]
    client.submit()
    assert [len(worker.answers()) for worker in workers] == [0, 1, 0]


def test_one_task_wakes_one_claim_of_many(world: World) -> None:
    client = world.client()
    worker = world.client()
    session = worker.register()
    for _ in range(20):
        park(worker, session)
    before = proposals(world)
    client.submit()

    claims = [
        command
        for proposal in world.consensus.proposals[before:]
        for command in decode_entry(proposal.entry)[1]
        if type(command).__name__ == "Claim"
    ]
    assert len(claims) == 1
    assert world.broker.claims.parked == 19


def test_a_parked_claim_is_answered_empty_when_its_wait_is_over(world: World) -> None:
    client = world.client()
    rid = park(client, client.register(), wait_ms=2000)

    world.pass_s(1.9)
    assert client.answers() == []
    world.pass_s(0.3)
    assert client.answers() == [(Type.ACK, [rid, []])]


def test_a_parked_claim_goes_with_its_connection(world: World) -> None:
    worker, client = world.client(), world.client()
    session = worker.register()
    park(worker, session)
    worker.close()
    client.submit()

    assert world.broker.claims.parked == 0
    assert len(client.claim(session)) == 1, "the task was left for others"


def test_losing_leadership_sends_parked_claims_to_the_new_leader(world: World) -> None:
    client = world.client()
    rid = park(client, client.register())
    world.follow()

    assert client.answers() == [(Type.REDIRECT, [rid, ADDRESSES[OTHER_ID], world.term])]
    assert world.broker.claims.parked == 0


def test_draining_answers_parked_claims_with_nothing(world: World) -> None:
    client = world.client()
    rid = park(client, client.register())
    world.broker.drain()

    assert client.answers() == [(Type.ACK, [rid, []])]


def test_repeating_a_claim_returns_the_same_grants_though_nothing_is_ready(world: World) -> None:
    client = world.client()
    session = client.register()
    client.submit()
    first = client.ack(Type.CLAIM_TASK, session, ["q"], 1, 10_000, rid=500)
    other = world.client()

    assert other.ack(Type.CLAIM_TASK, session, ["q"], 1, 10_000, rid=500) == first


def test_a_new_leader_recognises_a_repeated_claim_it_never_saw(world: World) -> None:
    client = world.client()
    session = client.register()
    client.submit()
    first = client.ack(Type.CLAIM_TASK, session, ["q"], 1, 10_000, rid=500)
    world.follow()
    world.lead()

    assert client.ack(Type.CLAIM_TASK, session, ["q"], 1, 10_000, rid=500) == first


def test_a_claim_that_went_through_the_log_for_nothing_parks_afterwards(world: World) -> None:
    client = world.client()
    session = client.register()
    world.follow()
    world.lead()
    before = proposals(world)
    park(client, session)

    assert proposals(world) == before + 1
    world.client().submit()
    assert len(client.answers()) == 1


def test_a_grant_whose_connection_died_stays_leased_until_the_claim_is_repeated(
    world: World,
) -> None:
    worker, client = world.client(), world.client()
    session = worker.register()
    task_id = client.submit()
    world.consensus.holds = True
    worker.send(Type.CLAIM_TASK, session, ["q"], 1, 0, rid=9)
    world.loop.run()
    worker.close()
    world.consensus.holds = False
    world.consensus.apply()
    world.loop.run()

    again = world.client()
    [grants] = again.ack(Type.CLAIM_TASK, session, ["q"], 1, 0, rid=9)
    assert grants[0][0] == task_id


def repeated(world: World, *clients: Client, session: int, wait_ms: int = 10_000) -> None:
    """The same claim over one connection after the other, as when the first falls silent."""
    for client in clients:
        client.send(Type.CLAIM_TASK, session, ["q"], 1, wait_ms, rid=77)
        world.loop.run()


def finish(client: Client, grant: list[Any]) -> None:
    client.ack(Type.TASK_RESULT, grant[0], grant[1], 0, b"", "")


def test_a_repetition_takes_the_place_of_the_claim_that_waits(world: World) -> None:
    silent, again = world.client(), world.client()
    session = silent.register()
    repeated(world, silent, again, session=session)
    task_id = world.client().submit()

    assert world.broker.claims.parked == 0
    heard = again.answers()
    assert silent.answers() == heard
    [(_, [_, [grant]])] = heard
    assert grant[0] == task_id


def test_a_claim_goes_on_over_the_connection_before_when_that_of_its_repetition_ends(
    world: World,
) -> None:
    first, again = world.client(), world.client()
    session = first.register()
    repeated(world, first, again, session=session)
    again.close()
    assert world.broker.claims.parked == 1
    task_id = world.client().submit()

    [(_, [_, [grant]])] = first.answers()
    assert grant[0] == task_id
    first.close()
    assert world.broker.claims.parked == 0


def test_a_claim_under_way_parks_over_the_connection_that_is_left(world: World) -> None:
    first, again = world.client(), world.client()
    session = first.register()
    world.follow()
    world.lead()  # for a while it proposes claims that find nothing
    world.consensus.holds = True
    repeated(world, first, again, session=session)
    again.close()
    world.consensus.holds = False
    world.consensus.apply()
    assert world.broker.claims.parked == 1
    first.close()
    assert world.broker.claims.parked == 0


@pytest.mark.parametrize("under_way", [False, True])
def test_every_connection_of_a_claim_is_sent_to_the_new_leader(
    world: World, *, under_way: bool
) -> None:
    first, again = world.client(), world.client()
    session = first.register()
    world.consensus.holds = True
    if under_way:
        world.client().send(Type.SUBMIT_TASK, world.task_id(), "q", "work", b"", {})
        world.consensus.apply()
    repeated(world, first, again, session=session)
    world.follow()
    world.consensus.drop("NOT_LEADER")
    world.loop.run()

    heard = first.answers()
    assert [kind for kind, _ in heard] == [Type.REDIRECT]
    assert again.answers() == heard


def test_nothing_is_granted_to_a_claim_that_was_answered_elsewhere(world: World) -> None:
    """The first waits on a dead connection while the second is granted, and its task ends."""
    silent, again, client = world.client(), world.client(), world.client()
    session = silent.register()
    repeated(world, silent, again, session=session)
    client.submit()
    [(_, [_, [grant]])] = again.answers()
    silent.answers()
    finish(again, grant)
    client.submit()

    assert silent.answers() == []
    assert list(world.machine.leases()) == []
    assert len(client.claim(session)) == 1, "the task was left for others"


def test_a_repetition_is_answered_with_the_claim_that_is_under_way(world: World) -> None:
    silent, again = world.client(), world.client()
    session = silent.register()
    task_id = world.client().submit()
    world.consensus.holds = True
    repeated(world, silent, again, session=session)
    assert len(world.consensus.waiting) == 1
    world.consensus.holds = False
    world.consensus.apply()
    world.loop.run()

    heard = again.answers()
    assert silent.answers() == heard
    [(_, [_, [grant]])] = heard
    assert grant[0] == task_id


def test_a_repetition_waits_as_long_as_itself_says(world: World) -> None:
    silent, again = world.client(), world.client()
    session = silent.register()
    world.follow()
    world.lead()  # for a while it proposes claims that find nothing
    world.consensus.holds = True
    repeated(world, silent, session=session, wait_ms=0)
    repeated(world, again, session=session, wait_ms=2000)
    world.consensus.holds = False
    world.consensus.apply()

    assert again.answers() == []
    world.pass_s(2.3)
    assert again.answers() == [(Type.ACK, [77, []])]
    assert silent.answers() == [(Type.ACK, [77, []])]


def test_a_claim_repeated_after_its_task_has_ended_is_granted_nothing(world: World) -> None:
    client, late = world.client(), world.client()
    session = client.register()
    client.submit()
    repeated(world, client, session=session)
    [(_, [_, [grant]])] = client.answers()
    finish(client, grant)
    client.submit()
    before = proposals(world)
    repeated(world, late, session=session)

    assert late.answers() == [(Type.ACK, [77, []])]
    assert proposals(world) == before
    assert list(world.machine.leases()) == []


def test_what_a_late_repetition_is_granted_is_given_back(world: World) -> None:
    """Its task ends while it is on its way: to the machine it is a new claim then."""
    client, late = world.client(), world.client()
    session = client.register()
    client.submit()
    repeated(world, client, session=session)
    [(_, [_, [grant]])] = client.answers()
    second = world.client().submit()
    world.consensus.holds = True
    client.send(Type.TASK_RESULT, grant[0], grant[1], 0, b"", "")
    world.loop.run()
    repeated(world, late, session=session)
    world.consensus.holds = False
    world.consensus.apply()
    world.loop.run()

    assert late.answers() == [(Type.ACK, [77, []])]
    assert list(world.machine.leases()) == []
    task = world.machine.status("default", second)
    assert task is not None
    assert (task["state"], task["lost"]) == ("pending", 0)


def test_a_claim_of_an_unknown_session_is_refused_even_when_nothing_is_ready(
    world: World,
) -> None:
    client = world.client()
    assert client.nack(Type.CLAIM_TASK, 12345, ["q"], 1, 5000)[0] == "UNKNOWN_SESSION"
    client.submit()
    assert client.nack(Type.CLAIM_TASK, 12345, ["q"], 1, 5000)[0] == "UNKNOWN_SESSION"


def test_a_claim_whose_entry_has_an_unknown_fate_is_told_so(world: World) -> None:
    client = world.client()
    session = client.register()
    client.submit()
    world.consensus.holds = True
    client.send(Type.CLAIM_TASK, session, ["q"], 1, 0)
    world.loop.run()
    world.consensus.drop("UNKNOWN_OUTCOME")

    [(kind, answer)] = client.answers()
    assert (kind, answer[1]) == (Type.NACK, "UNKNOWN_OUTCOME")
    world.consensus.holds = False
    assert len(client.claim(session)) == 1, "what the claim spoke for is free again"


def test_one_connection_cannot_park_without_bound(world: World) -> None:
    client = world.client(limits=Limits(parked_max=2))
    session = client.register()
    park(client, session)
    park(client, session)

    assert client.nack(Type.CLAIM_TASK, session, ["q"], 1, 1000)[0] == "RATE_LIMITED"


def test_one_connection_cannot_park_without_bound_at_a_new_leader_either() -> None:
    world = World()
    client = world.client(limits=Limits(parked_max=2))
    session = client.register()
    for _ in range(2):
        park(client, session)

    assert client.nack(Type.CLAIM_TASK, session, ["q"], 1, 1000)[0] == "RATE_LIMITED"
    assert world.broker.claims.parked == 2
    assert client.session.in_flight == 0
    assert client.claim(session) == [], "what does not wait is answered"
    task_id = world.client().submit()
    assert [answer[1][0][0] for _, answer in client.answers()] == [task_id]


def test_a_claim_that_was_parked_keeps_its_place_though_another_came_meanwhile(
    world: World,
) -> None:
    worker, client = world.client(limits=Limits(parked_max=1)), world.client()
    session = worker.register()
    park(worker, session)
    world.consensus.holds = True
    task_id = world.task_id()
    client.send(Type.SUBMIT_TASK, task_id, "q", "work", b"", {})
    world.loop.run()
    client.send(Type.CANCEL_TASK, task_id, "")
    world.loop.run()
    world.consensus.apply(1)  # the submit wakes the claim, which comes too late for the task
    world.loop.run()
    park(worker, session)
    world.consensus.holds = False
    world.consensus.apply()

    assert worker.answers() == []
    assert world.broker.claims.parked == 2
    client.answers()
    first, second = client.submit(), client.submit()
    assert [answer[1][0][0] for _, answer in worker.answers()] == [first, second]


def test_grants_that_do_not_fit_one_frame_are_given_back(world: World) -> None:
    client = world.client()
    session = client.register()
    payload = b"x" * (9 * 1024 * 1024)
    ids = [world.task_id() for _ in range(3)]
    for task_id in ids:
        client.ack(Type.SUBMIT_TASK, task_id, "q", "work", payload, {})

    assert [grant[0] for grant in client.claim(session, count=3)] == ids[:1]
    assert [grant[0] for grant in client.claim(session, count=3)] == ids[1:2]
    assert world.machine.status("default", ids[2])["lost"] == 0  # type: ignore[index] # it is there


def test_a_task_that_becomes_due_wakes_the_parked_claim(world: World) -> None:
    worker, client = world.client(), world.client()
    park(worker, worker.register())
    client.submit(delay_ms=3000)

    world.pass_s(2.9)
    assert worker.answers() == []
    world.pass_s(0.3)
    assert len(worker.answers()) == 1


def test_an_entry_of_another_leader_wakes_nobody_on_a_follower(world: World) -> None:
    client = world.client()
    task_id = client.submit()
    entry = world.consensus.proposals[-1].entry
    other = World(leads=False)
    other.follow()
    other.consensus.apply_foreign(entry)

    assert other.consensus.proposals == []
    assert other.machine.status("default", task_id) is not None


def test_a_waiting_claim_of_a_session_that_holds_all_it_may_does_not_fill_the_log(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claiming, "LIMITS", LIMITS._replace(session_leases_max=2))
    greedy, other = world.client(), world.client()
    full, free = greedy.register(), other.register(worker=b"v" * 16)
    for _ in range(2):
        greedy.submit()
        greedy.claim(full)
    greedy.send(Type.CLAIM_TASK, full, ["q"], 1, 60_000)
    other.send(Type.CLAIM_TASK, free, ["q"], 1, 60_000)
    world.loop.run()
    before = len(world.consensus.proposals)
    world.client().submit()
    world.pass_s(5)

    assert len(world.consensus.proposals) - before <= 4
    [(kind, answer)] = greedy.answers()
    assert (Type.NACK, "RATE_LIMITED") == (kind, answer[1])
    [(kind, [_, grants])] = other.answers()
    assert (Type.ACK, 1) == (kind, len(grants))
