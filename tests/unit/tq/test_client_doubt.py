"""A refusal of the second sending says nothing of the first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support.fake_cluster import N1, a_client, a_cluster, a_status
from tests.support.fake_server import FakeNode
from tests.support.virtual_time import in_virtual_time
from tq.client import Client, NewTask, Submitted
from tq.errors import (
    ChangeRefused,
    Conflict,
    LeaseLost,
    QueueFull,
    Rejected,
    TqError,
    UnknownOutcome,
)
from tq.ids import TaskId
from tq.protocol import Type


@pytest.mark.parametrize("code", ["QUEUE_FULL", "DISK_FULL", "RATE_LIMITED", "TOO_NEW", "NEW_CODE"])
@in_virtual_time
async def test_a_task_accepted_from_the_first_sending_was_never_called_refused(code: str) -> None:
    """The first sending is under way when the second finds the queue full; then it commits."""
    network, n1, _, _ = a_cluster()
    accepted: list[bytes] = []
    task_id = TaskId.new()
    async with a_client(network) as client:
        submitting = asyncio.create_task(client.submit("echo", task_id=task_id))
        first = await n1.next(Type.SUBMIT_TASK)
        first.hang_up()
        (await n1.next(Type.SUBMIT_TASK)).nack(code, "100000 waiting", 250)
        accepted.append(first.fields[0])
        n1.on(Type.QUERY_STATUS, lambda r: r.ack(a_status(task_id, "pending", attempt=0)))
        with pytest.raises(UnknownOutcome, match=f"may yet take effect.*{code}") as unknown:
            await submitting
        assert unknown.value.task_id == task_id
        assert (await client.status(task_id)).task_id.raw in accepted


@in_virtual_time
async def test_a_refusal_of_the_only_sending_stays_a_refusal() -> None:
    network, n1, _, _ = a_cluster()
    async with a_client(network) as client:
        submitting = asyncio.create_task(client.submit("echo"))
        (await n1.next(Type.SUBMIT_TASK)).redirect(N1)
        (await n1.next(Type.SUBMIT_TASK)).nack("QUEUE_FULL", "", 250)
        with pytest.raises(QueueFull):
            await submitting


@in_virtual_time
async def test_an_outcome_unknown_to_the_leader_is_not_made_known_by_a_refusal() -> None:
    network, n1, _, _ = a_cluster()
    async with a_client(network) as client:
        submitting = asyncio.create_task(client.submit("echo"))
        (await n1.next(Type.SUBMIT_TASK)).nack("UNKNOWN_OUTCOME", "leadership lost")
        (await n1.next(Type.SUBMIT_TASK)).nack("QUEUE_FULL", "", 250)
        with pytest.raises(UnknownOutcome):
            await submitting


@in_virtual_time
async def test_each_task_of_a_batch_sent_twice_is_in_doubt_unless_its_refusal_settles_it() -> None:
    network, n1, _, _ = a_cluster()
    ids = [TaskId.new() for _ in range(3)]
    async with a_client(network) as client:
        submitting = asyncio.create_task(
            client.submit_many([NewTask(name="t", task_id=id_) for id_ in ids])
        )
        (await n1.next(Type.SUBMIT_BATCH)).hang_up()
        answers = [[0, 5], ["QUEUE_FULL", "", 250], ["CONFLICT", "other content", None]]
        (await n1.next(Type.SUBMIT_BATCH)).ack(answers)
        accepted, full, conflict = await submitting
    assert accepted == Submitted(ids[0], 5)
    assert isinstance(full, UnknownOutcome)
    assert full.task_id == ids[1]
    assert isinstance(conflict, Conflict)


@pytest.mark.parametrize(
    ("call", "message_type", "code", "heard"),
    [
        (lambda c: c.submit("t"), Type.SUBMIT_TASK, "CONFLICT", Conflict),
        (lambda c: c.submit("t"), Type.SUBMIT_TASK, "TOO_OLD", Rejected),
        (lambda c: c.complete(TaskId.new(), 5), Type.TASK_RESULT, "LEASE_LOST", LeaseLost),
        (lambda c: c.claim(1, ["q"], 1), Type.CLAIM_TASK, "UNKNOWN_SESSION", Rejected),
        (lambda c: c.claim(1, ["q"], 1), Type.CLAIM_TASK, "RATE_LIMITED", UnknownOutcome),
        (lambda c: c.progress(TaskId.new(), 5, 1), Type.PROGRESS, "RATE_LIMITED", UnknownOutcome),
        (lambda c: c.cancel(TaskId.new()), Type.CANCEL_TASK, "NOT_CANCELLABLE", UnknownOutcome),
        (lambda c: c.cancel(TaskId.new()), Type.CANCEL_TASK, "NOT_FOUND", UnknownOutcome),
        (lambda c: c.status(TaskId.new()), Type.QUERY_STATUS, "NOT_FOUND", Rejected),
    ],
)
@in_virtual_time
async def test_what_a_refusal_after_a_lost_connection_is_heard_as(
    call: Callable[[Client], Awaitable[Any]],
    message_type: Type,
    code: str,
    heard: type[TqError],
) -> None:
    network, n1, _, _ = a_cluster()
    async with a_client(network) as client:
        calling = asyncio.ensure_future(call(client))
        (await n1.next(message_type)).hang_up()
        (await n1.next(message_type)).nack(code)
        with pytest.raises(heard):
            await calling


@in_virtual_time
async def test_a_token_that_is_refused_later_does_not_call_a_sent_request_refused() -> None:
    network, n1, n2, n3 = a_cluster()
    async with a_client(network) as client:
        submitting = asyncio.create_task(client.submit("echo"))
        first = await n1.next(Type.SUBMIT_TASK)

        def strangers_only(node: FakeNode) -> None:
            node.on(Type.HELLO, lambda request: request.nack("UNAUTHENTICATED"))

        for node in (n1, n2, n3):
            strangers_only(node)
        first.hang_up()
        with pytest.raises(UnknownOutcome, match="UNAUTHENTICATED"):
            await submitting
        with pytest.raises(Rejected):
            await client.submit("echo")


@in_virtual_time
async def test_a_refusal_of_a_repetition_says_that_it_is_one() -> None:
    network, n1, _, _ = a_cluster()
    async with a_client(network) as client:
        removing = asyncio.create_task(client.remove_node(4))
        (await n1.next(Type.CHANGE_MEMBERS)).hang_up()
        (await n1.next(Type.CHANGE_MEMBERS)).nack("NO_SUCH_MEMBER")
        with pytest.raises(ChangeRefused) as repeated:
            await removing
        assert repeated.value.repeated
        removing = asyncio.create_task(client.remove_node(4))
        (await n1.next(Type.CHANGE_MEMBERS)).nack("NO_SUCH_MEMBER")
        with pytest.raises(ChangeRefused) as first:
            await removing
        assert not first.value.repeated
