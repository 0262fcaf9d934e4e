"""What the client says and hears, against scripted nodes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.fake_cluster import a_client, a_cluster
from tests.support.fake_server import FakeNode
from tests.support.ports import free_ports
from tests.support.virtual_time import in_virtual_time
from tq.client import Client, Retry, Submitted
from tq.errors import (
    BadRequest,
    ConfigError,
    Conflict,
    LeaseLost,
    Rejected,
)
from tq.ids import TaskId
from tq.protocol import PAYLOAD_MAX_BYTES, Type


@in_virtual_time
async def test_a_submit_says_what_the_caller_said_and_no_more() -> None:
    network, n1, _, _ = a_cluster()
    async with a_client(network) as client:
        submitting = asyncio.create_task(
            client.submit("echo", b"hi", queue="mail", priority=200, delay="1m", timeout=5)
        )
        request = await n1.next(Type.SUBMIT_TASK)
        request.ack(42)
        submitted = await submitting

    assert submitted == Submitted(submitted.task_id, 42)
    options = {"priority": 200, "delay_ms": 60_000, "timeout_ms": 5_000}
    assert request.fields == [submitted.task_id.raw, "mail", "echo", b"hi", options]


@in_virtual_time
async def test_a_retry_policy_travels_whole() -> None:
    network, n1, _, _ = a_cluster()
    async with a_client(network) as client:
        policy = Retry(max=8, base="3s", cap="1h", lost=1)
        submitting = asyncio.create_task(client.submit("echo", retry=policy, lease="45s"))
        request = await n1.next(Type.SUBMIT_TASK)
        request.ack(1)
        await submitting

    assert request.fields[4] == {
        "retry_max": 8,
        "retry_base_ms": 3_000,
        "retry_cap_ms": 3_600_000,
        "lost_max": 1,
        "lease_ms": 45_000,
    }


@in_virtual_time
async def test_namespace_and_token_are_said_in_hello() -> None:
    network, n1, _, _ = a_cluster()
    async with a_client(network, namespace="shop", token="s3cret", name="till") as client:
        assert "s3cret" not in repr(client)
    hello = n1.seen[0]
    assert hello.type == Type.HELLO
    assert hello.fields == [1, "till", {"namespace": "shop", "token": "s3cret"}]


@in_virtual_time
async def test_answers_out_of_order_reach_their_callers() -> None:
    network, n1, _, _ = a_cluster()
    async with a_client(network) as client:
        calls = [asyncio.create_task(client.submit("echo")) for _ in range(3)]
        requests = [await n1.next(Type.SUBMIT_TASK) for _ in calls]
        for log_index in (2, 0, 1):
            requests[log_index].ack(log_index)
        submitted = await asyncio.gather(*calls)

    assert [0, 1, 2] == [one.log_index for one in submitted]
    assert [one.task_id.raw for one in submitted] == [request.fields[0] for request in requests]


@in_virtual_time
async def test_requests_of_one_turn_leave_in_one_write() -> None:
    network, n1, _, _ = a_cluster()
    n1.on(Type.SUBMIT_TASK, lambda request: request.ack(1))
    chunks: list[bytes] = []
    async with a_client(network) as client:
        peer = n1.peers[0]
        whole = peer.data_received

        def spy(data: bytes) -> None:
            chunks.append(data)
            whole(data)

        peer.data_received = spy  # type: ignore[method-assign]  # a spy
        await asyncio.gather(*(client.submit("echo") for _ in range(50)))
    assert len(chunks) == 1


@in_virtual_time
async def test_a_refusal_is_raised_as_what_it_is() -> None:
    network, n1, _, _ = a_cluster()
    n1.on(Type.SUBMIT_TASK, lambda request: request.nack("CONFLICT", "other payload"))
    n1.on(Type.TASK_RESULT, lambda request: request.nack("LEASE_LOST"))
    n1.on(Type.QUERY_STATUS, lambda request: request.nack("FUTURE_CODE", "new here", 500))
    task_id = TaskId.new()
    async with a_client(network) as client:
        with pytest.raises(Conflict, match="other payload"):
            await client.submit("echo", task_id=task_id)
        with pytest.raises(LeaseLost):
            await client.complete(task_id, 7, b"")
        with pytest.raises(Rejected, match="FUTURE_CODE") as unknown:
            await client.status(task_id)
    assert unknown.value.retry_after_s == 0.5


@in_virtual_time
async def test_a_payload_over_the_limit_is_refused_before_it_travels() -> None:
    network, n1, _, _ = a_cluster()
    async with a_client(network) as client:
        with pytest.raises(BadRequest, match="TOO_LARGE"):
            await client.submit("echo", bytes(PAYLOAD_MAX_BYTES + 1))
    assert n1.count(Type.SUBMIT_TASK) == 0


@in_virtual_time
async def test_a_frame_over_the_nodes_own_limit_is_refused_and_nothing_else_suffers() -> None:
    network, n1, _, _ = a_cluster()
    n1.info = {"frame_max_bytes": 1000}
    n1.on(Type.SUBMIT_TASK, lambda request: request.ack(1))
    async with a_client(network) as client:
        with pytest.raises(BadRequest, match="TOO_LARGE"):
            await client.submit("echo", bytes(1000))
        assert (await client.submit("echo", bytes(500))).log_index == 1


@in_virtual_time
async def test_what_cannot_be_encoded_is_refused_and_nothing_else_suffers() -> None:
    network, n1, _, _ = a_cluster()
    n1.on(Type.SUBMIT_TASK, lambda request: request.ack(1))
    async with a_client(network) as client:
        with pytest.raises(ConfigError):
            await client.submit("echo", priority=2**70)
        with pytest.raises(ConfigError):
            await client.submit("\ud800")
        assert (await client.submit("echo")).log_index == 1


@pytest.mark.parametrize(
    ("servers", "changes"),
    [
        ("", {}),
        ([], {}),
        ("n1:99999", {}),
        ("n1", {"namespace": "not a name"}),
        ("n1", {"deadline": "soon"}),
        ("n1", {"in_flight_max": 0}),
    ],
)
def test_arguments_that_make_no_sense_are_refused(servers: Any, changes: Any) -> None:
    with pytest.raises(ConfigError):
        Client(servers, **changes)


def test_a_client_belongs_to_one_event_loop_and_outlives_it() -> None:
    client: Client | None = None
    ids: list[int] = []

    async def story(log_index: int) -> None:
        nonlocal client
        network, n1, _, _ = a_cluster()
        n1.on(Type.SUBMIT_TASK, lambda request: request.ack(log_index))
        client = client or a_client(network)
        client._channel._seeker._dial = network.dial
        assert (await client.submit("echo")).log_index == log_index
        ids.extend(request.request_id for request in n1.seen if request.type == Type.SUBMIT_TASK)

    in_virtual_time(story)(1)
    in_virtual_time(story)(2)
    assert len(set(ids)) == 2  # a worker's session remembers its claims by them


async def test_over_tcp() -> None:
    [port] = free_ports(1)
    node = FakeNode(f"127.0.0.1:{port}")
    node.on(Type.SUBMIT_TASK, lambda request: request.ack(len(request.fields[3])))
    server = await node.listen(port)
    async with Client(node.address) as client:
        sizes = [0, 1, 100_000, 3_000_000]
        submitted = await asyncio.gather(*(client.submit("echo", bytes(size)) for size in sizes))
        assert sizes == [one.log_index for one in submitted]
    server.close()
    await server.wait_closed()
