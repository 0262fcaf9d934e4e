"""Connections lost in the middle: the same request again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.fake_cluster import N2, a_client, a_cluster
from tests.support.virtual_time import in_virtual_time, now_s
from tq.errors import ConfigError, UnknownOutcome
from tq.ids import TaskId
from tq.protocol import Type


@in_virtual_time
async def test_a_request_whose_connection_is_lost_is_sent_again_with_the_same_id() -> None:
    network, n1, _, _ = a_cluster()
    async with a_client(network) as client:
        submitting = asyncio.create_task(client.submit("echo", b"payload"))
        first = await n1.next(Type.SUBMIT_TASK)
        first.hang_up()
        again = await n1.next(Type.SUBMIT_TASK)
        again.ack(4)
        assert (await submitting).log_index == 4
        assert now_s() == 0.0
    assert again.body == first.body
    assert again.peer is not first.peer


@in_virtual_time
async def test_a_claim_is_repeated_with_its_request_id_and_session() -> None:
    network, n1, _, _ = a_cluster()
    task_id = TaskId.new()
    async with a_client(network) as client:
        claiming = asyncio.create_task(client.claim(77, ["mail"], 5, wait="20s"))
        first = await n1.next(Type.CLAIM_TASK)
        first.hang_up()
        again = await n1.next(Type.CLAIM_TASK)
        again.ack([[task_id.raw, 99, "mail", "send", b"p", 1, 30_000, 0, 12]])
        [grant] = await claiming
    assert (again.request_id, again.fields) == (first.request_id, [77, ["mail"], 5, 20_000])
    assert (grant.task_id, grant.token, grant.payload, grant.attempt) == (task_id, 99, b"p", 1)


@in_virtual_time
async def test_all_requests_in_flight_are_sent_again_in_their_order() -> None:
    network, n1, n2, n3 = a_cluster()
    async with a_client(network) as client:
        calls = [asyncio.create_task(client.submit("echo")) for _ in range(20)]
        first = [await n1.next(Type.SUBMIT_TASK) for _ in calls]
        for node in (n2, n3):
            node.leader = N2
        n1.crash()
        again = [await n2.next(Type.SUBMIT_TASK) for _ in calls]
        for request in again:
            request.ack(request.request_id)
        await asyncio.gather(*calls)
    assert [request.body for request in again] == [request.body for request in first]


@in_virtual_time
async def test_a_node_that_falls_silent_is_left_for_the_next_leader_within_a_second() -> None:
    network, n1, n2, n3 = a_cluster()
    n2.on(Type.SUBMIT_TASK, lambda request: request.ack(2))
    async with a_client(network) as client:
        n1.deaf = True
        n2.leader = n3.leader = N2
        assert (await client.submit("echo")).log_index == 2
        assert 0.5 <= now_s() <= 1.0


@in_virtual_time
async def test_a_slow_answer_is_waited_for_while_the_node_lives() -> None:
    network, n1, _, _ = a_cluster()
    async with a_client(network) as client:
        claiming = asyncio.create_task(client.claim(1, ["q"], 1, wait="60s"))
        request = await n1.next(Type.CLAIM_TASK)
        await asyncio.sleep(59)
        request.ack([])
        assert await claiming == []
    assert n1.count(Type.HELLO) == 1


@in_virtual_time
async def test_nonsense_from_a_node_ends_its_connection_and_not_the_request() -> None:
    network, n1, _, _ = a_cluster()
    async with a_client(network) as client:
        submitting = asyncio.create_task(client.submit("echo"))
        first = await n1.next(Type.SUBMIT_TASK)
        first.peer.send_raw(b"\xff\xff\xff\xff nonsense")
        again = await n1.next(Type.SUBMIT_TASK)
        again.ack(1)
        assert (await submitting).log_index == 1
    assert again.peer is not first.peer


@pytest.mark.parametrize(
    ("message_type", "fields"),
    [(0x83, []), (Type.NACK, ["CODE"]), (Type.REDIRECT, [7]), (Type.SUBMIT_TASK, [])],
)
@in_virtual_time
async def test_an_answer_that_is_none_ends_the_connection(
    message_type: int, fields: list[object]
) -> None:
    network, n1, _, _ = a_cluster()
    async with a_client(network) as client:
        submitting = asyncio.create_task(client.submit("echo"))
        first = await n1.next(Type.SUBMIT_TASK)
        first.peer.send(message_type, [first.request_id, *fields])
        (await n1.next(Type.SUBMIT_TASK)).ack(1)
        assert (await submitting).log_index == 1


@in_virtual_time
async def test_a_client_that_lost_its_connection_at_rest_connects_again_on_demand() -> None:
    network, n1, _, _ = a_cluster()
    n1.on(Type.SUBMIT_TASK, lambda request: request.ack(1))
    async with a_client(network) as client:
        n1.peers[0].hang_up()
        await asyncio.sleep(60)
        assert n1.count(Type.HELLO) == 1
        await client.submit("echo")
    assert n1.count(Type.HELLO) == 2


@in_virtual_time
async def test_a_request_that_ends_its_connections_is_sent_with_pauses() -> None:
    """One that the node cannot read, or that crashes it."""
    network, n1, _, _ = a_cluster()
    n1.on(Type.SUBMIT_TASK, lambda request: request.hang_up())
    async with a_client(network) as client:
        with pytest.raises(UnknownOutcome):
            await client.submit("echo", deadline="10s")
    assert 5 <= n1.count(Type.SUBMIT_TASK) <= 40


@in_virtual_time
async def test_a_connection_that_served_for_a_while_is_replaced_at_once_every_time() -> None:
    network, n1, _, _ = a_cluster()
    async with a_client(network) as client:
        for _ in range(20):
            submitting = asyncio.create_task(client.submit("echo"))
            (await n1.next(Type.SUBMIT_TASK)).ack(1)
            await submitting
            n1.peers[0].hang_up()
        assert now_s() == 0.0


@pytest.mark.parametrize("facts", [{1: "x"}, {"a": {2: 3}}, {None: 1}])
@in_virtual_time
async def test_facts_that_the_node_would_not_read_never_leave(facts: Any) -> None:
    network, n1, _, _ = a_cluster()
    async with a_client(network) as client:
        with pytest.raises(ConfigError):
            await client.heartbeat(77, stats=facts)
        with pytest.raises(ConfigError):
            await client.register_worker(bytes(16), name="w", queues=["mail"], capabilities=facts)
    assert n1.count(Type.REGISTER_WORKER) == 0
