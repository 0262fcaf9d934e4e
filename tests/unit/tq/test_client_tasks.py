"""Status and waits."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.fake_cluster import N3, a_client, a_cluster, a_status
from tests.support.virtual_time import in_virtual_time, now_s
from tq.errors import (
    NotFound,
    ProtocolError,
    TaskTimeout,
)
from tq.ids import TaskId
from tq.protocol import Type


@in_virtual_time
async def test_a_status_is_read_whole_and_unknown_keys_are_passed_over() -> None:
    network, n1, _, _ = a_cluster()
    task_id = TaskId.new()
    history = [[1, "submitted", ""], [2, "claimed", "w1"]]
    answer = a_status(task_id, result=b"r", history=history, shape_of_things_to_come=1)
    n1.on(Type.QUERY_STATUS, lambda request: request.ack(answer))
    async with a_client(network) as client:
        status = await client.status(str(task_id).upper())
    assert (status.task_id, status.result, status.is_final) == (task_id, b"r", True)
    assert [event.event for event in status.history] == ["submitted", "claimed"]


@pytest.mark.parametrize("answer", [{}, {"task_id": b"short"}, []])
@in_virtual_time
async def test_a_status_that_makes_no_sense_is_a_protocol_error(answer: object) -> None:
    network, n1, _, _ = a_cluster()
    n1.on(Type.QUERY_STATUS, lambda request: request.ack(answer))
    async with a_client(network) as client:
        with pytest.raises(ProtocolError):
            await client.status(TaskId.new())


@in_virtual_time
async def test_a_wait_goes_on_across_lost_connections_and_leaders() -> None:
    network, n1, n2, n3 = a_cluster()
    task_id = TaskId.new()
    async with a_client(network) as client:
        waiting = asyncio.create_task(client.wait(task_id, timeout="10m"))
        for _ in range(3):
            parked = await n1.next(Type.WAIT_RESULT)
            await asyncio.sleep(60)
            parked.ack(a_status(task_id, "in_progress"))
        await n1.next(Type.WAIT_RESULT)
        n2.leader = n3.leader = ""
        n1.crash()
        await asyncio.sleep(200)
        n2.leader = n3.leader = N3
        (await n3.next(Type.WAIT_RESULT)).ack(a_status(task_id, result=b"done"))
        assert (await waiting).result == b"done"


@in_virtual_time
async def test_a_wait_ends_when_its_time_is_over() -> None:
    network, n1, _, _ = a_cluster()
    task_id = TaskId.new()
    client = a_client(network)
    waiting = asyncio.create_task(client.wait(task_id, timeout="90s"))
    for _ in range(2):
        parked = await n1.next(Type.WAIT_RESULT)
        await asyncio.sleep(parked.fields[1] / 1000)
        parked.ack(a_status(task_id, "pending"))
    with pytest.raises(TaskTimeout, match="pending"):
        await waiting
    assert now_s() == 90.0
    for node in network.nodes.values():
        node.crash()
    with pytest.raises(TaskTimeout, match="nobody listens"):
        await client.wait(task_id, timeout="5s")
    assert now_s() <= 97.0
    await client.close()


@in_virtual_time
async def test_a_wait_that_finds_too_many_parked_tries_again_later() -> None:
    network, n1, _, _ = a_cluster()
    task_id = TaskId.new()
    async with a_client(network) as client:
        waiting = asyncio.create_task(client.wait(task_id, timeout="10s"))
        (await n1.next(Type.WAIT_RESULT)).nack("RATE_LIMITED", "too many are parked", 1000)
        again = await n1.next(Type.WAIT_RESULT)
        assert now_s() == 1.0
        again.ack(a_status(task_id))
        assert (await waiting).state == "completed"


@in_virtual_time
async def test_a_wait_for_a_task_that_does_not_exist_says_so() -> None:
    network, n1, _, _ = a_cluster()
    n1.on(Type.WAIT_RESULT, lambda request: request.nack("NOT_FOUND"))
    async with a_client(network) as client:
        with pytest.raises(NotFound):
            await client.wait(TaskId.new())
