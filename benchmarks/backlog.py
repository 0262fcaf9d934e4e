"""What a backlog costs: memory of the leader, time to start again.

Three real nodes on loopback take N pending tasks of 256 bytes; the script prints
one JSON line with the resident memory of every node before and after, the time of
the submits, and the time from restart to ready of the killed leader and of all.

    python -m benchmarks.backlog --tasks 100000
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from pathlib import Path

import psutil

from deploy.local.cluster import LocalCluster, LocalNode
from tq import Client, NewTask, Submitted

PAYLOAD_BYTES = 256
BATCH = 1000


def resident_mb(node: LocalNode) -> float:
    return round(psutil.Process(node.pid).memory_info().rss / 1e6, 1)


async def fill(servers: str, count: int) -> float:
    """Submit `count` tasks in batches, four in flight; return the seconds it took."""
    started = time.perf_counter()
    gate = asyncio.Semaphore(4)

    async with Client(servers, deadline="60s") as client:

        async def batch(size: int) -> None:
            async with gate:
                tasks = [NewTask(name="x", payload=os.urandom(PAYLOAD_BYTES)) for _ in range(size)]
                answers = await client.submit_many(tasks)
            refused = [answer for answer in answers if not isinstance(answer, Submitted)]
            assert not refused, refused[0]

        await asyncio.gather(*(batch(min(BATCH, count - n)) for n in range(0, count, BATCH)))
    return time.perf_counter() - started


def restart(cluster: LocalCluster, nodes: list[LocalNode]) -> float:
    """Kill these nodes, start them again, and return the seconds until all are ready."""
    for node in nodes:
        node.kill()
    started = time.perf_counter()
    for node in nodes:
        node.start()
    cluster.wait_ready(timeout_s=60)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=100_000)
    count = parser.parse_args().tasks
    limit = f"broker:\n  queue_depth_threshold: {count + 1}\n"
    with (
        tempfile.TemporaryDirectory() as directory,
        LocalCluster(Path(directory), configuration=limit) as cluster,
    ):
        leader = cluster.start()
        empty = {n.node_id: resident_mb(n) for n in cluster.nodes.values()}
        seconds = asyncio.run(fill(cluster.servers, count))
        full = {n.node_id: resident_mb(n) for n in cluster.nodes.values()}
        one = restart(cluster, [leader])
        everyone = restart(cluster, list(cluster.nodes.values()))
        again = {n.node_id: resident_mb(n) for n in cluster.nodes.values()}
    figures = {
        "tasks": count,
        "payload_bytes": PAYLOAD_BYTES,
        "leader": leader.node_id,
        "submit_s": round(seconds, 2),
        "resident_mb_empty": empty,
        "resident_mb_full": full,
        "resident_mb_after_restart": again,
        "restart_to_ready_s_leader": round(one, 2),
        "restart_to_ready_s_all": round(everyone, 2),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
