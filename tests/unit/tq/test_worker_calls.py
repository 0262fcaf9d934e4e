"""The worker's half of the client."""

from __future__ import annotations

import pytest

from tests.support.fake_cluster import a_client, a_cluster
from tests.support.virtual_time import in_virtual_time
from tq.errors import (
    ProtocolError,
)
from tq.ids import TaskId
from tq.protocol import Type


@in_virtual_time
async def test_a_worker_says_its_part_of_the_protocol() -> None:
    network, n1, _, _ = a_cluster()
    answers: dict[Type, list[object]] = {
        Type.REGISTER_WORKER: [7, 30_000],
        Type.DEREGISTER_WORKER: [],
        Type.TASK_RESULT: ["completed"],
        Type.EXTEND: [],
        Type.PROGRESS: [],
        Type.RELEASE: [],
        Type.CANCEL_TASK: ["cancelled"],
    }
    for message_type, answer in answers.items():
        n1.on(message_type, lambda request, answer=answer: request.ack(*answer))  # type: ignore[misc]  # bound now
    n1.on(Type.HEARTBEAT, lambda request: request.ack(request.fields[1][1:]))
    task_id = TaskId.new()
    async with a_client(network) as client:
        session = await client.register_worker(
            bytes(16), name="w", queues=["q"], capabilities={"gpu": "no"}
        )
        assert session == (7, 30_000)
        assert await client.heartbeat(7, [1, 2], {"cpu": 0.5}) == [2]
        assert await client.complete(task_id, 1, b"r") == "completed"
        await client.fail(task_id, 1, "x" + "é" * 9000, retry=False, detail=b"d")
        await client.extend(task_id, 1, "5m")
        await client.progress(task_id, 1, 500, "half")
        await client.release(task_id, 1)
        assert await client.cancel(task_id, "user left") == "cancelled"
        await client.deregister_worker(7)
    said = [(r.type, r.fields) for r in n1.seen if r.type != Type.HELLO][1:]
    assert said == [
        (Type.REGISTER_WORKER, [bytes(16), "w", ["q"], {"gpu": "no"}]),
        (Type.HEARTBEAT, [7, [1, 2], {"cpu": 0.5}]),
        (Type.TASK_RESULT, [task_id.raw, 1, 0, b"r", ""]),
        (Type.TASK_RESULT, [task_id.raw, 1, 2, b"d", "x" + "é" * 4095]),
        (Type.EXTEND, [task_id.raw, 1, 300_000]),
        (Type.PROGRESS, [task_id.raw, 1, 500, "half"]),
        (Type.RELEASE, [task_id.raw, 1]),
        (Type.CANCEL_TASK, [task_id.raw, "user left"]),
        (Type.DEREGISTER_WORKER, [7]),
    ]


@in_virtual_time
async def test_ending_a_session_twice_is_no_error() -> None:
    network, n1, _, _ = a_cluster()
    n1.on(Type.DEREGISTER_WORKER, lambda request: request.nack("UNKNOWN_SESSION"))
    async with a_client(network) as client:
        await client.deregister_worker(7)


@in_virtual_time
async def test_grants_that_make_no_sense_are_a_protocol_error() -> None:
    network, n1, _, _ = a_cluster()
    n1.on(Type.CLAIM_TASK, lambda request: request.ack([[b"id", 1]]))
    async with a_client(network) as client:
        with pytest.raises(ProtocolError):
            await client.claim(1, ["q"], 1)
