"""What a node says of itself, and what a worker makes of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.fake_cluster import a_client, a_cluster
from tests.support.virtual_time import in_virtual_time
from tests.unit.tq import worker_stage
from tests.unit.tq.doubles import FakeCluster
from tests.unit.tq.worker_stage import begun, worker_on
from tq.errors import ConfigError
from tq.node_info import NodeInfo, WorkerDefaults, said
from tq.protocol import Type
from tq.worker import Worker

TOLD: dict[str, Any] = {
    "node_id": 3,
    "cluster_id": "5f0c",
    "claim_max": 25,
    "payload_max_bytes": 2000,
    "frame_max_bytes": 70_000,
    "worker": {"concurrency": 12, "heartbeat_ms": 4000, "shutdown_ms": 7000},
}


@pytest.fixture(autouse=True)
def _fresh() -> None:
    worker_stage.clear()


def test_what_the_node_said_is_read() -> None:
    expected = NodeInfo(3, "5f0c", 25, 70_000, 2000, WorkerDefaults(12, 4000, 7000))
    assert expected == NodeInfo.of(TOLD)


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"node_id": "one", "cluster_id": 5, "claim_max": 0, "worker": []},
        {"worker": {"concurrency": True, "heartbeat_ms": 0, "shutdown_ms": -1}},
        {"worker": {"concurrency": 10**9, "heartbeat_ms": 1.5, "shutdown_ms": None}},
    ],
)
def test_what_is_missing_or_makes_no_sense_is_replaced(told: dict[str, Any]) -> None:
    assert NodeInfo() == NodeInfo.of(told)


@in_virtual_time
async def test_a_client_connects_to_learn_it_and_then_remembers() -> None:
    network, leader, _, _ = a_cluster()
    leader.info = {"claim_max": 77}
    client = a_client(network)
    assert [77, 77] == [(await client.node_info()).claim_max for _ in range(2)]
    assert leader.count(Type.HELLO) == 1
    leader.crash()
    assert (await client.node_info()).claim_max == 77
    await client.close()


@in_virtual_time
async def test_a_worker_that_was_told_nothing_does_what_the_cluster_says() -> None:
    cluster = FakeCluster(info=TOLD)
    for number in range(30):
        cluster.offer("hold", str(number))
    async with worker_on(cluster, concurrency=None) as worker:
        await begun("11")
        assert [12] == cluster.seen("claim")
        await cluster.until(lambda: len(cluster.seen("heartbeat")) == 2)
        assert 8 == pytest.approx(worker._now(), abs=0.5)
        assert worker._shutdown.timeout_s == 7


@in_virtual_time
async def test_what_a_worker_was_told_counts_more() -> None:
    cluster = FakeCluster(info=TOLD)
    for number in range(30):
        cluster.offer("hold", str(number))
    async with worker_on(cluster, concurrency=30, heartbeat="1s", shutdown_timeout="2s") as worker:
        await begun("29")
        assert [25, 5] == cluster.seen("claim"), "no claim is larger than the cluster allows"
        await cluster.until(lambda: len(cluster.seen("heartbeat")) == 3)
        assert 3 == pytest.approx(worker._now(), abs=0.5)
        assert worker._shutdown.timeout_s == 2


@in_virtual_time
async def test_an_idle_worker_speaks_before_its_session_ends_whatever_it_was_told() -> None:
    cluster = FakeCluster(lease_ms=4000)
    async with worker_on(cluster, heartbeat="1h") as worker:
        await cluster.until(lambda: len(cluster.seen("heartbeat")) == 3)
        assert 6 == pytest.approx(worker._now(), abs=0.5)


@pytest.mark.parametrize(
    ("concurrency", "heartbeat", "shutdown_timeout"),
    [(0, None, None), (None, 0, None), (None, "0.1ms", None), (None, None, -1)],
)
def test_what_makes_no_sense_is_refused_at_once(
    concurrency: int | None, heartbeat: Any, shutdown_timeout: Any
) -> None:
    with pytest.raises(ConfigError):
        said(concurrency, heartbeat, shutdown_timeout)
    with pytest.raises(ConfigError):
        Worker(
            worker_stage.app,
            concurrency=concurrency,
            heartbeat=heartbeat,
            shutdown_timeout=shutdown_timeout,
        )
