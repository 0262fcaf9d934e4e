"""How the client finds the leader and leaves a node that leads no more."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.fake_cluster import N1, N2, N3, a_client, a_cluster
from tests.support.fake_server import FakeRequest
from tests.support.virtual_time import in_virtual_time, now_s
from tq.errors import (
    Unauthenticated,
    Unavailable,
    UnknownOutcome,
)
from tq.protocol import Type


@in_virtual_time
async def test_a_redirect_is_followed_and_the_request_repeated_byte_for_byte() -> None:
    network, n1, _, n3 = a_cluster()
    async with a_client(network) as client:
        submitting = asyncio.create_task(client.submit("echo", b"x"))
        first = await n1.next(Type.SUBMIT_TASK)
        first.redirect(N3, term=5)
        n3.leader = N3
        again = await n3.next(Type.SUBMIT_TASK)
        again.ack(9)
        assert (await submitting).log_index == 9
        assert now_s() == 0.0
    assert again.body == first.body
    assert network.dialled == [N1, N3]


@in_virtual_time
async def test_the_word_of_a_follower_at_hello_saves_the_redirect() -> None:
    network, n1, _, n3 = a_cluster(leader=N3)
    n3.on(Type.SUBMIT_TASK, lambda request: request.ack(1))
    async with a_client(network) as client:
        await client.submit("echo")
    assert (n1.count(Type.HELLO), n1.count(Type.SUBMIT_TASK)) == (1, 0)


@in_virtual_time
async def test_a_leader_out_of_reach_under_its_own_address_is_used_under_its_endpoint() -> None:
    network, n1, n2, n3 = a_cluster(leader="10.0.0.3:7401")
    for follower in (n1, n2):
        follower.on(Type.SUBMIT_TASK, lambda request: request.redirect("10.0.0.3:7401"))
    n3.on(Type.SUBMIT_TASK, lambda request: request.ack(1))
    async with a_client(network) as client:
        assert (await client.submit("echo")).log_index == 1
    assert now_s() < 1.0


@in_virtual_time
async def test_a_leader_out_of_reach_costs_one_attempt_and_not_the_connection_there_is() -> None:
    network, n1, _, _ = a_cluster(leader="10.0.0.1:7401")
    n1.on(Type.SUBMIT_TASK, lambda request: request.ack(1))
    async with a_client(network, servers=N1) as client:
        assert (await client.submit("echo")).log_index == 1
    assert network.dialled == [N1, "10.0.0.1:7401"]


@in_virtual_time
async def test_all_endpoints_are_tried_until_one_knows_a_leader() -> None:
    network, n1, n2, n3 = a_cluster(leader="")
    n1.up = False
    n3.on(Type.SUBMIT_TASK, lambda request: request.ack(1))
    async with asyncio.TaskGroup() as group, asyncio.timeout(30):
        client = a_client(network)
        submitting = group.create_task(client.submit("echo"))
        await asyncio.sleep(1.5)
        n2.leader = n3.leader = N3
        assert (await submitting).log_index == 1
        await client.close()
    attempts = network.dialled[: network.dialled.index(N3) + 1]
    assert attempts == [N1, N2, N3]
    assert now_s() < 1.5 + 1.0


@in_virtual_time
async def test_attempts_become_rarer_while_nobody_leads() -> None:
    network, *_ = a_cluster(leader="")
    client = a_client(network)
    with pytest.raises(Unavailable, match="knows no leader"):
        await client.submit("echo", deadline="10s")
    await client.close()
    assert 15 <= len(network.dialled) <= 60
    assert now_s() == 10.0


@in_virtual_time
async def test_redirects_in_a_circle_do_not_spin() -> None:
    network, n1, n2, _ = a_cluster()
    n2.leader = N2
    n1.on(Type.SUBMIT_TASK, lambda request: request.redirect(N2))
    n2.on(Type.SUBMIT_TASK, lambda request: request.redirect(N1))
    client = a_client(network)
    with pytest.raises(Unavailable, match="leads"):
        await client.submit("echo", deadline="10s")
    await client.close()
    assert n1.count(Type.SUBMIT_TASK) + n2.count(Type.SUBMIT_TASK) < 60


@in_virtual_time
async def test_a_node_that_leads_no_more_is_left_and_its_last_answers_still_count() -> None:
    network, n1, n2, _ = a_cluster()
    async with a_client(network) as client:
        calls = [asyncio.create_task(client.submit("echo")) for _ in range(2)]
        redirected, answered = [await n1.next(Type.SUBMIT_TASK) for _ in calls]
        n2.leader = N2
        redirected.redirect(N2)
        answered.ack(1)
        (await n2.next(Type.SUBMIT_TASK)).ack(2)
        assert [2, 1] == [(await call).log_index for call in calls]
    assert n2.count(Type.SUBMIT_TASK) == 1


@in_virtual_time
async def test_what_a_node_that_was_left_never_answered_is_asked_at_the_new_leader() -> None:
    network, n1, n2, _ = a_cluster()
    async with a_client(network) as client:
        calls = [asyncio.create_task(client.submit("echo", deadline="5s")) for _ in range(2)]
        redirected, unanswered = [await n1.next(Type.SUBMIT_TASK) for _ in calls]
        n2.leader = N2
        redirected.redirect(N2)
        again = [await n2.next(Type.SUBMIT_TASK) for _ in calls]
        assert [request.body for request in again] == [redirected.body, unanswered.body]
        assert n1.peers == []
        again[0].ack(1)
        with pytest.raises(UnknownOutcome):
            await calls[1]
        assert (await calls[0]).log_index == 1


@in_virtual_time
async def test_a_node_that_shuts_down_is_left_at_once() -> None:
    network, n1, n2, n3 = a_cluster()
    async with a_client(network) as client:
        submitting = asyncio.create_task(client.submit("echo"))
        first = await n1.next(Type.SUBMIT_TASK)
        for node in (n1, n2, n3):
            node.leader = N2
        first.nack("SHUTTING_DOWN", "the node is shutting down", 500)
        (await n2.next(Type.SUBMIT_TASK)).ack(3)
        await submitting
        assert now_s() == 0.0


@pytest.mark.parametrize("code", ["NO_QUORUM", "TOO_MANY_CONNECTIONS"])
@in_virtual_time
async def test_not_now_is_asked_again_elsewhere(code: str) -> None:
    network, n1, n2, n3 = a_cluster()
    async with a_client(network) as client:
        submitting = asyncio.create_task(client.submit("echo"))
        first = await n1.next(Type.SUBMIT_TASK)
        for node in (n1, n2, n3):
            node.leader = N2
        first.nack(code, "not now", 300)
        again = await n2.next(Type.SUBMIT_TASK)
        again.ack(3)
        assert (await submitting).log_index == 3
        assert 0.3 <= now_s() < 1
    assert again.body == first.body


@in_virtual_time
async def test_a_hello_refused_for_good_fails_the_call_at_once() -> None:
    network, n1, _, _ = a_cluster()
    n1.on(Type.HELLO, lambda request: request.nack("UNAUTHENTICATED", "wrong token"))
    client = a_client(network, token="s3cret")
    with pytest.raises(Unauthenticated) as refused:
        await client.connect()
    await client.close()
    assert now_s() == 0.0
    assert "s3cret" not in str(refused.value)


@in_virtual_time
async def test_a_node_that_takes_no_more_connections_is_passed_over() -> None:
    network, n1, n2, n3 = a_cluster(leader=N2)
    n1.on(Type.HELLO, lambda request: request.nack("TOO_MANY_CONNECTIONS", "", 1000))
    n2.on(Type.SUBMIT_TASK, lambda request: request.ack(1))
    async with a_client(network) as client:
        await client.submit("echo")
    assert n3.count(Type.HELLO) == 0


@in_virtual_time
async def test_a_connection_lost_between_hello_and_its_use_is_not_used() -> None:
    network, n1, n2, _ = a_cluster()

    def accept_and_hang_up(request: FakeRequest) -> None:
        request.ack({"leader": N1})
        request.hang_up()

    n1.on(Type.HELLO, accept_and_hang_up)
    n2.leader = N2
    n2.on(Type.SUBMIT_TASK, lambda request: request.ack(1))
    async with a_client(network) as client:
        assert (await client.submit("echo")).log_index == 1


@in_virtual_time
async def test_a_node_is_asked_about_itself_whoever_leads() -> None:
    network, _, n2, _ = a_cluster()
    n2.on(Type.NODE_STATUS, lambda request: request.ack({"role": "follower"}))
    n2.on(Type.DIGEST, lambda request: request.ack(12, bytes(32)))
    client = a_client(network)
    assert await client.node_status("n2") == {"role": "follower"}
    assert await client.node_digest(N2) == (12, bytes(32))
    await client.close()
    assert n2.peers == []


@in_virtual_time
async def test_a_node_that_does_not_answer_costs_one_second() -> None:
    network, _, n2, n3 = a_cluster()
    n2.deaf = True
    n3.up = False
    client = a_client(network)
    with pytest.raises(Unavailable, match="n2:7401: no answer within 1 s"):
        await client.node_status(N2)
    assert now_s() == 1.0
    with pytest.raises(Unavailable, match="n3:7401: nobody listens"):
        await client.node_status(N3)
    await client.close()
