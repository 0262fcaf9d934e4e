"""Members that come and go on real processes under load: nothing accepted is lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from deploy.local.cluster import LocalCluster, LocalNode
from tests.process.conftest import ClusterMaker
from tests.process.load import Load, wait_all_completed
from tests.process.replicas import equal_digests
from tq import ChangeRefused, Client

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

DEADLINE_S = 90.0

log = logging.getLogger(__name__)
"""`--log-cli-level=info` shows the figures of a run."""


async def until(condition: Callable[[], object], cluster: LocalCluster, what: str) -> None:
    """Wait until something is so, and leave the event loop to the load meanwhile."""
    await asyncio.to_thread(
        cluster.wait_for, lambda: condition() or None, what=what, timeout_s=DEADLINE_S
    )


async def persist(change: Callable[[], Awaitable[int]]) -> int:
    """Ask for a change until it is done; return how often it was refused for now."""
    refusals = 0
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                await change()
            except ChangeRefused as refusal:
                if refusal.code not in {"NOT_CAUGHT_UP", "QUORUM_AT_RISK"}:
                    raise
                refusals += 1
                await asyncio.sleep(0.1)
            else:
                return refusals


async def let_in(cluster: LocalCluster, node_id: int) -> LocalNode:
    """Start one more node, add it while it waits, and promote it."""
    node = cluster.join(node_id)
    await until(lambda: "is not a member yet" in node.output(), cluster, "word that it must wait")
    async with Client(cluster.servers, deadline=DEADLINE_S) as client:
        await client.add_node(node_id, node.peer_address)
        refusals = await persist(lambda: client.promote_node(node_id))
    await until(lambda: node.http("/readyz")[0] == 200, cluster, "readiness of the new node")
    log.info("node %d is a voter; it had not caught up %d times before", node_id, refusals)
    return node


@contextlib.asynccontextmanager
async def workers(load: Load) -> AsyncIterator[None]:
    """Run the load's workers as long as the block lasts."""
    running = asyncio.create_task(load.work())
    try:
        yield
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def run(cluster: LocalCluster, load: Load, nemesis: Callable[[], Awaitable[None]]) -> None:
    """Have a load and a nemesis at the same time, then check what was promised."""
    async with workers(load):
        await asyncio.gather(load.produce(), nemesis())
        other = await wait_all_completed(cluster.servers, load.accepted)
    assert len(load.accepted) == load.total
    assert {} == other
    assert {} == {task_id: n for task_id, n in load.completed.items() if n != 1}
    async with Client(cluster.servers) as client:
        totals = (await client.stats())["totals"]
    assert (load.total, load.total) == (totals["submitted"], totals["completed"])
    index, digest = await asyncio.to_thread(equal_digests, cluster)
    log.info("%d tasks, digest %s at index %d", load.total, digest.hex()[:16], index)


def members(cluster: LocalCluster, node_id: int) -> tuple[list[int], list[int]] | None:
    """Return voters and learners as a node knows them."""
    status = cluster.nodes[node_id].status()
    return None if status is None else (status["voters"], status["learners"])


async def test_a_node_joins_and_the_leader_is_removed_under_load(cluster: LocalCluster) -> None:
    load = Load(cluster.servers, total=3_000, seconds=15.0, workers=20, hold_s=0.2)
    early, half = load.mark(0.1), load.mark(0.5)
    removed: list[LocalNode] = []

    async def nemesis() -> None:
        await early.wait()
        await let_in(cluster, 4)
        await half.wait()
        leader = await asyncio.to_thread(cluster.wait_leader)
        started_at = time.monotonic()
        async with Client(cluster.servers, deadline=DEADLINE_S) as client:
            await persist(lambda: client.remove_node(leader.node_id))
        log.info("leader %d removed in %.3f s", leader.node_id, time.monotonic() - started_at)
        removed.append(leader)

    await run(cluster, load, nemesis)

    [gone] = removed
    assert await asyncio.to_thread(gone.wait, timeout_s=DEADLINE_S) == 0
    assert '"event": "node_removed"' in gone.output()
    left = sorted({1, 2, 3, 4} - {gone.node_id})
    assert [(left, [])] * 3 == [members(cluster, node_id) for node_id in left]

    gone.start()
    assert await asyncio.to_thread(gone.wait, timeout_s=DEADLINE_S) == 1
    assert f"node {gone.node_id} was removed from cluster" in gone.output()


async def test_a_dead_node_whose_disk_is_lost_is_replaced_under_load(
    make_cluster: ClusterMaker,
) -> None:
    # Few entries are kept, so the new node is sent a snapshot.
    cluster = make_cluster(configuration="raft:\n  log_tail: 64KiB\n")
    cluster.start()
    load = Load(cluster.servers, total=3_000, seconds=15.0, workers=20, hold_s=0.2)
    early = load.mark(0.3)

    async def nemesis() -> None:
        await early.wait()
        leader = await asyncio.to_thread(cluster.wait_leader)
        dead = next(node for node in cluster.nodes.values() if node is not leader)
        dead.kill()
        shutil.rmtree(dead.data_dir)
        async with Client(cluster.servers, deadline=DEADLINE_S) as client:
            await persist(lambda: client.remove_node(dead.node_id))
        del cluster.nodes[dead.node_id]
        await let_in(cluster, 4)

    await run(cluster, load, nemesis)

    voters = sorted(cluster.nodes)
    assert 4 in voters
    assert [(voters, [])] * 3 == [members(cluster, node_id) for node_id in voters]
    status = cluster.nodes[4].status()
    assert status is not None
    assert (status["amnesiac"], status["snapshots_installed"]) == (False, 1)
