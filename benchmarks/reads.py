"""What a status read costs: with the barrier, and stale, on an idle and on a loaded cluster.

Three real nodes on loopback, the fsync on. One bare client reads the status of one task, one
read after the other: linearizable from the leader, stale from the leader, stale from a
follower, in turns, so that all three meet the same moments. Then the same while another
process submits as fast as `--producers` clients can.

    python -m benchmarks.reads [--seconds 8] [--producers 32]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.producers import SdkProducer
from deploy.local.cluster import LocalCluster
from deploy.local.processes import ChildProcess
from tests.process.raw_client import ACK, QUERY_STATUS, SUBMIT_TASK, RawClient, new_task_id
from tq import Client

READS_PER_TURN = 20
WARM_UP_S = 2.0
STALE = {"consistency": "stale"}


class Reader:
    """Reads one task's status in one way, and keeps how long each read took.

    Args:
        name: For the table.
        client: Connected to the node that is asked.
        fields: Of the request.
    """

    def __init__(self, name: str, client: RawClient, fields: tuple[object, ...]) -> None:
        self.name = name
        self._client = client
        self._fields = fields
        self.took_s: list[float] = []

    def turn(self) -> None:
        """Read a few times."""
        for _ in range(READS_PER_TURN):
            began = time.perf_counter()
            kind, answer = self._client.request(QUERY_STATUS, *self._fields)
            self.took_s.append(time.perf_counter() - began)
            assert kind == ACK, answer

    def quantile_ms(self, percent: int) -> float:
        """Return a percentile of what was measured."""
        return statistics.quantiles(self.took_s, n=100)[percent - 1] * 1000


@contextmanager
def readers(cluster: LocalCluster, task_id: bytes) -> Iterator[list[Reader]]:
    """Connect the three ways to read."""
    leader = cluster.wait_leader()
    follower = next(node for node in cluster.nodes.values() if node is not leader)
    with ExitStack() as stack:

        def connect(address: str) -> RawClient:
            return stack.enter_context(RawClient(address))

        yield [
            Reader("stale, follower", connect(follower.client_address), (task_id, STALE)),
            Reader("stale, leader", connect(leader.client_address), (task_id, STALE)),
            Reader("linearizable", connect(leader.client_address), (task_id,)),
        ]


def measure(cluster: LocalCluster, task_id: bytes, *, seconds: float) -> list[Reader]:
    """Read in turns for some time."""
    with readers(cluster, task_id) as ways:
        for way in ways:
            way.turn()
            way.took_s.clear()
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            for way in ways:
                way.turn()
    return ways


async def load(servers: str, *, producers: int, seconds: float) -> None:
    """Submit from many clients at once for some time: what the other process does."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(producers):
            group.create_task(SdkProducer(servers).run(stop))
        await asyncio.sleep(seconds)
        stop.set()


async def submitted(servers: str) -> int:
    """Ask the cluster how many tasks it has taken in its life."""
    async with Client(servers, deadline="30s") as client:
        return int((await client.stats())["totals"]["submitted"])


def table(condition: str, ways: list[Reader]) -> None:
    """Print one block: milliseconds, and how many times the first line's."""
    base = ways[0]
    for way in ways:
        p50, p99 = way.quantile_ms(50), way.quantile_ms(99)
        print(
            f"{condition:<22} {way.name:<16} {p50:>7.2f} {p99:>7.2f} {len(way.took_s):>7}"
            f" {p50 / base.quantile_ms(50):>8.1f}x {p99 / base.quantile_ms(99):>6.1f}x"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    parser.add_argument("--producers", type=int, default=32, help="clients that make the load")
    parser.add_argument("--load", metavar="SERVERS", help="only make load; used by the script")
    given = parser.parse_args()
    if given.load:
        asyncio.run(load(given.load, producers=given.producers, seconds=given.seconds))
        return
    limit = "broker:\n  queue_depth_threshold: 10000000\n"
    with (
        tempfile.TemporaryDirectory() as name,
        LocalCluster(Path(name), configuration=limit) as cluster,
    ):
        leader = cluster.start()
        task_id = new_task_id()
        with RawClient(leader.client_address) as client:
            kind, answer = client.request(SUBMIT_TASK, task_id, "reads", "read", b"x" * 64, {})
            assert kind == ACK, answer
        print(f"{'cluster':<22} {'read':<16} {'p50 ms':>7} {'p99 ms':>7} {'reads':>7}", end="")
        print(f" {'p50':>9} {'p99':>7}")
        table("idle", measure(cluster, task_id, seconds=given.seconds))
        busy = ChildProcess(
            [
                *(sys.executable, "-m", "benchmarks.reads", "--load", cluster.servers),
                *("--producers", str(given.producers)),
                *("--seconds", str(given.seconds + 2 * WARM_UP_S)),
            ],
            log_path=Path(name) / "load.log",
        )
        busy.start()
        time.sleep(WARM_UP_S)
        before, began = asyncio.run(submitted(cluster.servers)), time.monotonic()
        ways = measure(cluster, task_id, seconds=given.seconds)
        rate = (asyncio.run(submitted(cluster.servers)) - before) / (time.monotonic() - began)
        table(f"{rate:,.0f} submits/s", ways)
        busy.wait(timeout_s=30)


if __name__ == "__main__":
    main()
