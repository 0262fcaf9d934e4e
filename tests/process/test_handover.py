"""Leaders that are told to stop hand over in order: under load, again and again, nothing lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import pytest

from benchmarks.handover import Handovers, figures, submitted
from deploy.local.cluster import LocalCluster
from tests.process.conftest import ClusterMaker
from tests.process.load import Load, wait_all_completed
from tests.process.replicas import equal_digests
from tq import Client

pytestmark = [pytest.mark.process, pytest.mark.long, pytest.mark.timeout(900)]

ROUNDS = 10
TASKS = 6_000
SECONDS = 20.0

log = logging.getLogger(__name__)
"""`--log-cli-level=info` shows the figures of a run."""


async def test_a_leader_told_to_stop_hands_over_in_order_ten_times_and_loses_nothing(
    make_cluster: ClusterMaker,
) -> None:
    cluster = make_cluster(tls=True)
    await asyncio.to_thread(cluster.start)
    handovers = Handovers(cluster, rounds=ROUNDS)
    await handovers.run()
    known = await submitted(cluster.servers)
    log.info("%s", figures(handovers, known=known))

    assert [] == [one for one in handovers.done if not one.is_orderly]
    assert handovers.accepted == known, "each accepted submit is there, and there once"
    equal_digests(cluster)


async def test_a_rolling_restart_under_load_loses_nothing(cluster: LocalCluster) -> None:
    load = Load(cluster.servers, total=TASKS, seconds=SECONDS, workers=20, hold_s=0.2)
    marks = [load.mark(fraction) for fraction in (0.2, 0.45, 0.7)]
    workers = asyncio.create_task(load.work())

    async def roll() -> list[int]:
        codes = []
        for mark, node in zip(marks, cluster.nodes.values(), strict=True):
            await mark.wait()
            codes.append(await asyncio.to_thread(node.stop))
            node.start()
            await asyncio.to_thread(cluster.wait_ready)
        return codes

    try:
        _, codes = await asyncio.gather(load.produce(), roll())
        other = await wait_all_completed(cluster.servers, load.accepted)
    finally:
        workers.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await workers

    assert ([0, 0, 0], TASKS) == (codes, len(load.accepted))
    assert {} == other
    assert {} == {task_id: n for task_id, n in load.completed.items() if n != 1}
    async with Client(cluster.servers) as client:
        totals = (await client.stats())["totals"]
    assert (TASKS, TASKS) == (totals["submitted"], totals["completed"])
    log.info("%d completed, %d leases lost on the way", totals["completed"], totals["lost"])
    equal_digests(cluster)
