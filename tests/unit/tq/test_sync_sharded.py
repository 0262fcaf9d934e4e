"""The blocking client of several clusters: the same names, in a thread of its own."""

from __future__ import annotations

import asyncio
import inspect
import threading

import pytest

from tests.support.fake_server import FakeNetwork, FakeNode
from tests.unit.tq.test_sync import public
from tq.errors import ConfigError, NotFound, Unavailable
from tq.new_task import NewTask, Submitted
from tq.protocol import Type
from tq.sharded import ShardedClient
from tq.sync_sharded import SyncShardedClient

SHARDS = {"a": "a1:7401", "b": "b1:7401"}


class LateShards:
    """A network of which only shard a is up, made in the loop that dials first."""

    def __init__(self) -> None:
        self.node: FakeNode | None = None

    async def dial(self, address: str, protocol: asyncio.Protocol) -> None:
        if self.node is None:
            self.node = FakeNode("a1:7401")
            self.node.on(Type.SUBMIT_TASK, lambda request: request.ack(4))
            self.node.on(
                Type.SUBMIT_BATCH, lambda request: request.ack([[0, 5]] * len(request.fields[0]))
            )
            self.node.on(Type.QUERY_STATUS, lambda request: request.nack("NOT_FOUND"))
            self.node.on(Type.GET_STATS, lambda request: request.ack({}))
        await FakeNetwork(self.node).dial(address, protocol)


def a_queue_of(client: SyncShardedClient, shard: str) -> str:
    return next(name for name in map(str, range(1000)) if client.place(name) == shard)


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    assert public(SyncShardedClient) == public(ShardedClient)
    assert inspect.signature(SyncShardedClient) == inspect.signature(ShardedClient)


def test_calls_block_until_their_answers_and_the_threads_end() -> None:
    before = set(threading.enumerate())
    with SyncShardedClient(SHARDS, dial=LateShards().dial, deadline="1s") as client:
        queue, other = a_queue_of(client, "a"), a_queue_of(client, "b")
        assert client.submit("t", queue=queue).log_index == 4
        fine, down = client.submit_many(
            [NewTask(name="t", queue=queue), NewTask(name="t", queue=other)]
        )
        assert isinstance(fine, Submitted)
        assert isinstance(down, Unavailable)
        assert down.shard == "b"
        with pytest.raises(Unavailable, match="shard b: "):
            client.status(client.new_id(queue))
        assert isinstance(client.stats()["b"], Unavailable)
        with pytest.raises(NotFound):
            client.shards["a"].status(client.new_id(queue))
        started = set(threading.enumerate()) - before
    for thread in started:
        thread.join(timeout=10)
    assert [thread.is_alive() for thread in started] == [False, False]


async def test_inside_a_running_loop_it_refuses_with_a_hint() -> None:
    client = SyncShardedClient(SHARDS, dial=LateShards().dial)
    assert repr(client) == "SyncShardedClient(a, b, namespace='default')"
    with pytest.raises(ConfigError, match=r"use tq.ShardedClient and await its stats\(\)"):
        client.stats()
    client.close()


def test_wrong_arguments_are_refused_where_they_are_written() -> None:
    with pytest.raises(ConfigError):
        SyncShardedClient({"a": "n1:99999"})
