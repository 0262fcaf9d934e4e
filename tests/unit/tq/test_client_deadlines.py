"""Deadlines: what may have been accepted, and what certainly was not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.fake_cluster import a_client, a_cluster
from tests.support.fake_server import FakeRequest
from tests.support.virtual_time import in_virtual_time, now_s
from tq.errors import (
    ConfigError,
    Unavailable,
    UnknownOutcome,
)
from tq.ids import TaskId
from tq.protocol import Type


@in_virtual_time
async def test_a_submit_never_sent_ends_as_unavailable() -> None:
    network, n1, n2, n3 = a_cluster()
    for node in (n1, n2, n3):
        node.up = False
    client = a_client(network)
    with pytest.raises(Unavailable, match="nobody listens at n2:7401"):
        await client.submit("echo", deadline="3s")
    await client.close()
    assert now_s() == 3.0


@in_virtual_time
async def test_a_submit_sent_and_never_answered_ends_as_unknown_outcome() -> None:
    network, _, _, _ = a_cluster()
    task_id = TaskId.new()
    client = a_client(network)
    with pytest.raises(UnknownOutcome, match="no answer within 2 s") as unknown:
        await client.submit("echo", task_id=task_id, deadline="2s")
    await client.close()
    assert unknown.value.task_id == task_id


@in_virtual_time
async def test_a_submit_lost_with_its_connection_stays_unknown_when_nobody_leads_later() -> None:
    network, n1, n2, n3 = a_cluster()
    client = a_client(network)
    submitting = asyncio.create_task(client.submit("echo", deadline="5s"))
    await n1.next(Type.SUBMIT_TASK)
    n2.leader = n3.leader = ""
    n1.crash()
    with pytest.raises(UnknownOutcome):
        await submitting
    await client.close()


@in_virtual_time
async def test_a_submit_only_ever_redirected_was_certainly_not_accepted() -> None:
    network, n1, n2, n3 = a_cluster()
    for node in (n1, n2, n3):
        node.on(Type.SUBMIT_TASK, lambda request: request.redirect(""))
    client = a_client(network)
    with pytest.raises(Unavailable):
        await client.submit("echo", deadline="5s")
    await client.close()


@in_virtual_time
async def test_an_outcome_unknown_to_the_leader_is_asked_again_and_then_stays_unknown() -> None:
    network, n1, n2, n3 = a_cluster()
    client = a_client(network)
    submitting = asyncio.create_task(client.submit("echo", deadline="5s"))
    first = await n1.next(Type.SUBMIT_TASK)
    for node in (n1, n2, n3):
        node.on(Type.SUBMIT_TASK, lambda request: request.nack("NO_QUORUM"))
    first.nack("UNKNOWN_OUTCOME", "leadership lost")
    with pytest.raises(UnknownOutcome):
        await submitting
    await client.close()
    assert n1.count(Type.SUBMIT_TASK) > 1


@in_virtual_time
async def test_a_read_never_answered_ends_as_unavailable() -> None:
    network, *_ = a_cluster()
    client = a_client(network)
    with pytest.raises(Unavailable):
        await client.status(TaskId.new(), deadline="2s")
    await client.close()


@in_virtual_time
async def test_a_deadline_that_is_over_sends_nothing() -> None:
    network, n1, _, _ = a_cluster()
    async with a_client(network) as client:
        with pytest.raises(Unavailable):
            await client.submit("echo", deadline=0)
        await asyncio.sleep(1)
    assert n1.count(Type.SUBMIT_TASK) == 0


@in_virtual_time
async def test_an_answer_after_the_deadline_harms_nobody() -> None:
    network, n1, _, _ = a_cluster()
    async with a_client(network) as client:
        with pytest.raises(UnknownOutcome):
            await client.submit("echo", deadline="1s")
        late = await n1.next(Type.SUBMIT_TASK)
        late.ack(1)
        submitting = asyncio.create_task(client.submit("echo"))
        (await n1.next(Type.SUBMIT_TASK)).ack(2)
        assert (await submitting).log_index == 2
    assert n1.count(Type.HELLO) == 1


@in_virtual_time
async def test_an_answered_request_leaves_nothing_behind() -> None:
    network, n1, _, _ = a_cluster()
    n1.on(Type.SUBMIT_TASK, lambda request: request.ack(1))
    loop: Any = asyncio.get_running_loop()
    async with a_client(network) as client:
        before = sum(not timer.cancelled() for timer in loop._scheduled)
        await asyncio.gather(*(client.submit("echo") for _ in range(50)))
        assert sum(not timer.cancelled() for timer in loop._scheduled) == before
        assert (client._channel._requests, list(client._channel._unsent)) == ({}, [])


@in_virtual_time
async def test_a_cancelled_caller_is_let_go_and_forgotten() -> None:
    network, n1, _, _ = a_cluster()
    async with a_client(network, in_flight_max=1) as client:
        submitting = asyncio.create_task(client.submit("echo"))
        request = await n1.next(Type.SUBMIT_TASK)
        submitting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await submitting
        n1.on(Type.SUBMIT_TASK, lambda request: request.ack(5))
        assert (await client.submit("echo")).log_index == 5
        request.ack(1)


@in_virtual_time
async def test_closing_answers_everyone_who_waits() -> None:
    network, n1, _, _ = a_cluster()
    client = a_client(network)
    submitting = asyncio.create_task(client.submit("echo"))
    reading = asyncio.create_task(client.stats())
    await n1.next(Type.SUBMIT_TASK)
    await client.close()
    with pytest.raises(UnknownOutcome, match="closed"):
        await submitting
    with pytest.raises(Unavailable, match="closed"):
        await reading
    with pytest.raises(ConfigError, match="closed"):
        await client.submit("echo")


@in_virtual_time
async def test_closing_answers_those_in_line_for_room_too() -> None:
    network, n1, _, _ = a_cluster()
    client = a_client(network, in_flight_max=1)
    first, *others = (asyncio.create_task(client.submit("echo")) for _ in range(3))
    await n1.next(Type.SUBMIT_TASK)
    await client.close()
    with pytest.raises(UnknownOutcome, match="closed"):
        await first
    for other in others:
        with pytest.raises(Unavailable, match="closed"):
            await other
    assert now_s() == 0


@in_virtual_time
async def test_no_more_requests_than_the_bound_are_in_flight_and_all_get_their_turn() -> None:
    network, n1, _, _ = a_cluster()
    open_requests: list[FakeRequest] = []
    most = 0

    def hold(request: FakeRequest) -> None:
        nonlocal most
        open_requests.append(request)
        most = max(most, len(open_requests))
        asyncio.get_running_loop().call_later(0.1, answer)

    def answer() -> None:
        open_requests.pop(0).ack(1)

    n1.on(Type.SUBMIT_TASK, hold)
    async with a_client(network, in_flight_max=10) as client:
        await asyncio.gather(*(client.submit("echo") for _ in range(100)))
    assert n1.count(Type.SUBMIT_TASK) == 100
    assert most == 10


@in_virtual_time
async def test_parked_waits_leave_room_for_submits() -> None:
    network, n1, _, _ = a_cluster()
    n1.on(Type.SUBMIT_TASK, lambda request: request.ack(1))
    async with a_client(network, in_flight_max=2) as client:
        waits = [asyncio.create_task(client.wait(TaskId.new())) for _ in range(5)]
        for _ in waits:
            await n1.next(Type.WAIT_RESULT)
        assert (await client.submit("echo")).log_index == 1
        for wait in waits:
            wait.cancel()


@in_virtual_time
async def test_who_finds_no_room_until_the_deadline_was_certainly_not_sent() -> None:
    network, n1, _, _ = a_cluster()
    client = a_client(network, in_flight_max=1)
    first = asyncio.create_task(client.submit("echo"))
    await n1.next(Type.SUBMIT_TASK)
    with pytest.raises(Unavailable, match="in flight"):
        await client.submit("echo", deadline="2s")
    await client.close()
    with pytest.raises(UnknownOutcome):
        await first
    assert n1.count(Type.SUBMIT_TASK) == 1
