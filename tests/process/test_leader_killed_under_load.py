"""The promise, on real processes: kill -9 of the leader, and of everybody, loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time

import pytest

from deploy.local.cluster import LocalCluster, LocalNode
from tests.process.load import Load, wait_all_completed
from tests.process.replicas import equal_digests
from tq import Client

pytestmark = [pytest.mark.process, pytest.mark.long, pytest.mark.timeout(900)]

TASKS = 24_000
SECONDS = 62.0
LEASED_MIN = 200

log = logging.getLogger(__name__)
"""`--log-cli-level=info` shows the figures of a run."""


async def leased(servers: str) -> int:
    """Ask the leader how many tasks are under a lease."""
    async with Client(servers) as client:
        stats = await client.stats()
    return int(stats["states"]["in_progress"])


async def kill_leader_while_leased(cluster: LocalCluster, event: asyncio.Event) -> LocalNode:
    """Wait for the event and for enough leased tasks; then SIGKILL the leader and restart it."""
    await event.wait()
    async with asyncio.timeout(30):
        while (under_lease := await leased(cluster.servers)) < LEASED_MIN:
            await asyncio.sleep(0.01)
    leader = await asyncio.to_thread(cluster.wait_leader)
    killed_at = time.monotonic()
    leader.kill()
    successor = await asyncio.to_thread(cluster.wait_leader)
    log.info(
        "node %d killed with %d tasks leased; node %d leads after %.3f s",
        leader.node_id,
        under_lease,
        successor.node_id,
        time.monotonic() - killed_at,
    )
    leader.start()
    await asyncio.to_thread(cluster.wait_ready)
    return leader


async def test_every_accepted_task_completes_once_though_the_leader_is_killed_three_times(
    cluster: LocalCluster,
) -> None:
    load = Load(cluster.servers, total=TASKS, seconds=SECONDS)
    marks = [load.mark(fraction) for fraction in (0.25, 0.5, 0.75)]
    workers = asyncio.create_task(load.work())

    async def nemesis() -> int:
        for mark in marks:
            await kill_leader_while_leased(cluster, mark)
        return len(marks)

    try:
        _, kills = await asyncio.gather(load.produce(), nemesis())
        other = await wait_all_completed(cluster.servers, load.accepted)
    finally:
        workers.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await workers

    assert (3, TASKS) == (kills, len(load.accepted))
    assert {} == other
    assert {} == {task_id: n for task_id, n in load.completed.items() if n != 1}
    async with Client(cluster.servers) as client:
        totals = (await client.stats())["totals"]
    assert (TASKS, TASKS) == (totals["submitted"], totals["completed"])
    index, digest = equal_digests(cluster)
    log.info(
        "%d accepted, %d completed, %d late results refused, digest %s at index %d on all nodes",
        len(load.accepted),
        totals["completed"],
        load.lease_lost,
        digest.hex()[:16],
        index,
    )


async def test_all_nodes_killed_at_once_under_load_keep_every_acknowledged_task(
    cluster: LocalCluster,
) -> None:
    load = Load(cluster.servers, total=6_000, seconds=12.0, workers=0)
    half = load.mark(0.5)
    producer = asyncio.create_task(load.produce())

    await half.wait()
    for node in cluster.nodes.values():
        node.signal(signal.SIGKILL)  # all of them before the first is waited for
    promised = set(load.accepted)
    for node in cluster.nodes.values():
        node.kill()
    for node in cluster.nodes.values():
        node.start()
    await asyncio.to_thread(cluster.wait_ready)
    await producer

    assert len(promised) >= 3_000
    missing = await not_found(cluster.servers, load.accepted)
    assert set() == missing & promised, "acknowledged before the kill"
    assert set() == missing, "acknowledged after the restart"
    equal_digests(cluster)


async def not_found(servers: str, ids: set[str]) -> set[str]:
    """Return those ids of which the cluster has no pending record."""
    missing = set()
    async with Client(servers) as client:
        ordered = sorted(ids)
        for first in range(0, len(ordered), 200):
            part = ordered[first : first + 200]
            answers = await asyncio.gather(
                *(client.status(task_id) for task_id in part), return_exceptions=True
            )
            for task_id, answer in zip(part, answers, strict=True):
                if isinstance(answer, BaseException) or answer.state != "pending":
                    missing.add(task_id)
    return missing
