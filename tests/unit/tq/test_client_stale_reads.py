"""Stale reads of the client: any node, and never back in time."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.support.fake_cluster import N1, N2, N3, a_client, a_cluster, a_status
from tests.support.fake_server import FakeNetwork, FakeNode
from tests.support.virtual_time import in_virtual_time, now_s
from tq.client import Client
from tq.errors import ConfigError, NotFound, Unavailable
from tq.ids import TaskId
from tq.protocol import Type


def serves(node: FakeNode, task_id: TaskId, *, applied_index: int, state: str = "pending") -> None:
    """Let a node answer stale reads as a real one does."""
    node.on(
        Type.QUERY_STATUS,
        lambda request: (
            request.nack("BEHIND", f"applied {applied_index}", 20)
            if request.fields[1]["at_least"] > applied_index
            else request.ack(a_status(task_id, state), applied_index)
        ),
    )


@in_virtual_time
async def test_a_stale_read_is_answered_by_a_node_that_knows_no_leader() -> None:
    network, *nodes = a_cluster(leader="")
    task_id = TaskId.new()
    for node in nodes:
        serves(node, task_id, applied_index=12)
    client = a_client(network)
    status = await client.status(task_id, consistency="stale")
    assert (status.state, status.applied_index) == ("pending", 12)
    with pytest.raises(Unavailable):
        await client.status(task_id, deadline="1s")
    await client.close()
    assert all(node.peers == [] for node in nodes)


@in_virtual_time
async def test_a_linearizable_status_names_no_index_and_sends_no_options() -> None:
    network, n1, _, _ = a_cluster()
    task_id = TaskId.new()
    n1.on(Type.QUERY_STATUS, lambda request: request.ack(a_status(task_id)))
    async with a_client(network) as client:
        assert (await client.status(task_id)).applied_index is None
    assert [[task_id.raw]] == [one.fields for one in n1.seen if one.type == Type.QUERY_STATUS]


@in_virtual_time
async def test_stale_reads_do_not_go_back_when_another_node_answers() -> None:
    network, *nodes = a_cluster()
    task_id = TaskId.new()
    serves(nodes[0], task_id, applied_index=20, state="completed")
    serves(nodes[1], task_id, applied_index=10)
    serves(nodes[2], task_id, applied_index=10)
    client = a_client(network, servers=N1)
    client._readers._seeker._endpoints = [N1, N2, N3]
    assert (await client.status(task_id, consistency="stale")).state == "completed"
    nodes[0].crash()
    reading = asyncio.create_task(client.status(task_id, consistency="stale"))
    await asyncio.sleep(1.0)
    assert not reading.done(), "nobody else has come so far"
    serves(nodes[1], task_id, applied_index=21, state="cancelled")
    status = await reading
    assert (status.state, status.applied_index) == ("cancelled", 21)
    await client.close()


@in_virtual_time
async def test_a_read_may_ask_for_its_own_submit() -> None:
    network, *nodes = a_cluster()
    task_id = TaskId.new()
    for node, applied_index in zip(nodes, (30, 29, 29), strict=True):
        serves(node, task_id, applied_index=applied_index)
    client = a_client(network)
    status = await client.status(task_id, consistency="stale", at_least=30)
    assert status.applied_index == 30
    await client.close()
    assert now_s() < 0.2


@in_virtual_time
async def test_a_task_that_is_not_there_yet_is_not_found_as_of_an_index() -> None:
    network, *nodes = a_cluster()
    for node in nodes:
        node.on(Type.QUERY_STATUS, lambda request: request.ack(None, 7))
    client = a_client(network)
    with pytest.raises(NotFound, match="as of entry 7"):
        await client.status(TaskId.new(), consistency="stale")
    assert client._seen_index == 7
    await client.close()


@in_virtual_time
async def test_the_readers_of_many_clients_are_spread_over_the_nodes() -> None:
    network, *nodes = a_cluster()
    task_id = TaskId.new()
    for node in nodes:
        serves(node, task_id, applied_index=1)
    for seed in range(30):
        await one_read(network, task_id, seed)
    assert all(node.count(Type.QUERY_STATUS) >= 5 for node in nodes)


async def one_read(network: FakeNetwork, task_id: TaskId, seed: int) -> None:
    client = Client(list(network.nodes), dial=network.dial, rng=random.Random(seed))
    await client.status(task_id, consistency="stale")
    await client.close()


@pytest.mark.parametrize(
    "options", [{"consistency": "eventual"}, {"consistency": "linearizable", "at_least": 3}]
)
@in_virtual_time
async def test_options_that_make_no_sense_are_refused_before_anything_is_sent(
    options: dict[str, object],
) -> None:
    network, *_ = a_cluster()
    client = a_client(network)
    with pytest.raises(ConfigError, match="consistency"):
        await client.status(TaskId.new(), **options)  # type: ignore[arg-type]  # the mistake
    await client.close()
    assert network.dialled == []
