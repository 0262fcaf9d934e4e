"""Many tasks at once, and queues that are full."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_cluster import a_client, a_cluster
from tests.support.fake_server import FakeRequest
from tests.support.virtual_time import in_virtual_time, now_s
from tq.client import NewTask, Retry, Submitted
from tq.errors import (
    ConfigError,
    QueueFull,
    UnknownOutcome,
)
from tq.ids import TaskId
from tq.protocol import Type


def accept_batch(request: FakeRequest) -> None:
    request.ack([[0, 100 + position] for position in range(len(request.fields[0]))])


@in_virtual_time
async def test_many_tasks_are_cut_by_count_and_keep_their_order() -> None:
    network, n1, _, _ = a_cluster()
    n1.on(Type.SUBMIT_BATCH, accept_batch)
    async with a_client(network) as client:
        results = await client.submit_many([NewTask(name=f"t{i}") for i in range(2500)])
    batches = [request.fields[0] for request in n1.seen if request.type == Type.SUBMIT_BATCH]
    assert [1000, 1000, 500] == [len(batch) for batch in batches]
    names = [task[2] for batch in batches for task in batch]
    assert names == [f"t{i}" for i in range(2500)]
    ids = [task[0] for batch in batches for task in batch]
    assert ids == [result.task_id.raw for result in results if isinstance(result, Submitted)]
    assert isinstance(results[1001], Submitted)
    assert results[1001].log_index == 101


@in_virtual_time
async def test_many_tasks_are_cut_by_bytes_and_a_large_one_travels_alone() -> None:
    network, n1, _, _ = a_cluster()
    n1.on(Type.SUBMIT_BATCH, accept_batch)
    sizes = [400_000, 400_000, 400_000, 3_000_000, 10]
    async with a_client(network) as client:
        await client.submit_many([NewTask(name="t", payload=bytes(size)) for size in sizes])
    batches = [request for request in n1.seen if request.type == Type.SUBMIT_BATCH]
    assert [2, 1, 1, 1] == [len(request.fields[0]) for request in batches]
    assert all(len(r.body) <= 1024 * 1024 for r in batches if len(r.fields[0]) > 1)


@in_virtual_time
async def test_each_task_of_a_batch_has_its_own_outcome() -> None:
    network, n1, _, _ = a_cluster()
    answers = [[0, 5], ["QUEUE_FULL", "100000 waiting", 250], ["UNKNOWN_OUTCOME", "", None]]
    n1.on(Type.SUBMIT_BATCH, lambda request: request.ack(answers))
    ids = [TaskId.new() for _ in answers]
    async with a_client(network) as client:
        results = await client.submit_many([NewTask(name="t", task_id=id_) for id_ in ids])
    accepted, full, unknown = results
    assert accepted == Submitted(ids[0], 5)
    assert isinstance(full, QueueFull)
    assert full.retry_after_s == 0.25
    assert isinstance(unknown, UnknownOutcome)
    assert unknown.task_id == ids[2]


@in_virtual_time
async def test_a_batch_never_answered_leaves_each_task_unknown_with_its_id() -> None:
    network, *_ = a_cluster()
    client = a_client(network)
    results = await client.submit_many([NewTask(name="t"), NewTask(name="u")], deadline="2s")
    await client.close()
    assert all(isinstance(result, UnknownOutcome) and result.task_id for result in results)
    assert now_s() == 2.0


@pytest.mark.parametrize("answer", [[[[0, 5]]], [[[0, 5], "?"]], [], ["?"]])
@in_virtual_time
async def test_a_batch_answered_without_sense_leaves_its_tasks_unknown_and_no_others(
    answer: list[Any],
) -> None:
    network, n1, _, _ = a_cluster()
    batches: list[FakeRequest] = []

    def take(request: FakeRequest) -> None:
        batches.append(request)
        if len(batches) == 1:
            request.ack(*answer)
        else:
            accept_batch(request)

    n1.on(Type.SUBMIT_BATCH, take)
    ids = [TaskId.new() for _ in range(2)]
    large = NewTask(name="t", payload=bytes(1024 * 1024))
    async with a_client(network) as client:
        small = [NewTask(name="t", task_id=task_id) for task_id in ids]
        *unknown, accepted = await client.submit_many([*small, large])
    assert [type(one) for one in unknown] == [UnknownOutcome, UnknownOutcome]
    assert [one.task_id for one in unknown if isinstance(one, UnknownOutcome)] == ids
    assert isinstance(accepted, Submitted)


@pytest.mark.parametrize(
    "wrong",
    [
        {"priority": 2**70},
        {"priority": object()},
        {"queue": Path("mail")},
        {"name": "lone \ud800 surrogate"},
        {"name": "n" * 1000},
        {"retry": Retry(max=2**70)},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
@in_virtual_time
async def test_what_cannot_be_encoded_is_found_before_the_first_task_of_many_leaves(
    wrong: dict[str, Any],
) -> None:
    network, n1, _, _ = a_cluster()
    n1.on(Type.SUBMIT_BATCH, accept_batch)
    tasks = [NewTask(name="t") for _ in range(2500)] + [NewTask(**({"name": "t"} | wrong))]
    async with a_client(network) as client:
        with pytest.raises(ConfigError):
            await client.submit_many(tasks)
    assert n1.count(Type.SUBMIT_BATCH) == 0


@in_virtual_time
async def test_many_tasks_of_a_client_closed_in_the_middle_have_an_outcome_each() -> None:
    network, n1, _, _ = a_cluster()
    client = a_client(network)
    submitting = asyncio.create_task(client.submit_many([NewTask(name="t")] * 6000))
    taken = [await n1.next(Type.SUBMIT_BATCH) for _ in range(4)]
    for request in taken[:3]:
        accept_batch(request)
    n1.on(Type.SUBMIT_BATCH, accept_batch)
    await asyncio.sleep(1)  # virtual
    await client.close()
    results = await submitting
    kinds = [type(result) for result in results]
    assert kinds[:3000] == [Submitted] * 3000
    assert kinds[3000:4000] == [UnknownOutcome] * 1000
    assert kinds[4000:] == [ConfigError] * 2000
    with pytest.raises(ConfigError):
        await client.submit_many([NewTask(name="t")])


@in_virtual_time
async def test_no_tasks_are_no_request() -> None:
    network, n1, _, _ = a_cluster()
    async with a_client(network) as client:
        assert await client.submit_many([]) == []
    assert n1.count(Type.SUBMIT_BATCH) == 0


@in_virtual_time
async def test_a_full_queue_is_told_at_once() -> None:
    network, n1, _, _ = a_cluster()
    n1.on(Type.SUBMIT_TASK, lambda request: request.nack("QUEUE_FULL", "", 2000))
    async with a_client(network) as client:
        with pytest.raises(QueueFull) as full:
            await client.submit("echo")
        assert now_s() == 0.0
    assert full.value.retry_after_s == 2.0


@in_virtual_time
async def test_who_wants_to_wait_for_a_full_queue_asks_again_with_the_same_task() -> None:
    network, n1, _, _ = a_cluster()
    async with a_client(network) as client:
        submitting = asyncio.create_task(client.submit("echo", wait_when_full=True))
        first = await n1.next(Type.SUBMIT_TASK)
        first.nack("QUEUE_FULL", "", 2000)
        again = await n1.next(Type.SUBMIT_TASK)
        assert now_s() == 2.0
        again.ack(8)
        assert (await submitting).log_index == 8
        assert again.fields == first.fields

        submitting = asyncio.create_task(client.submit("echo", wait_when_full=True, deadline="3s"))
        (await n1.next(Type.SUBMIT_TASK)).nack("QUEUE_FULL", "", 4000)
        with pytest.raises(QueueFull):
            await submitting


@in_virtual_time
async def test_only_the_tasks_of_a_batch_that_found_no_room_are_sent_again() -> None:
    network, n1, _, _ = a_cluster()
    tasks = [NewTask(name=name) for name in "abc"]
    async with a_client(network) as client:
        submitting = asyncio.create_task(client.submit_many(tasks, wait_when_full=True))
        full = ["QUEUE_FULL", "", 500]
        (await n1.next(Type.SUBMIT_BATCH)).ack([full, [0, 7], full])
        again = await n1.next(Type.SUBMIT_BATCH)
        again.ack([[0, 8], [0, 9]])
        results = await submitting
    assert ["a", "c"] == [task[2] for task in again.fields[0]]
    assert [8, 7, 9] == [r.log_index for r in results if isinstance(r, Submitted)]
