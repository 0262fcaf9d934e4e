"""Two real clusters behind one client: an app, a worker for each, and one of them killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.process.conftest import ClusterMaker
from tq import App, NewTask, ShardedClient, Submitted, Unavailable, UnknownOutcome, Worker

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

app = App()


@app.task(name="double")
def double(number: int) -> int:
    return 2 * number


@asynccontextmanager
async def working(servers: str, queues: list[str]) -> AsyncIterator[None]:
    """A worker of one cluster, in this very process."""
    worker = Worker(app, servers=servers, queues=queues, concurrency=2, heartbeat="1s")
    serving = asyncio.create_task(worker.serve())
    try:
        yield
    finally:
        worker.stop()
        await serving


async def test_two_clusters_work_as_one_and_one_that_is_killed_leaves_the_other(
    make_cluster: ClusterMaker,
) -> None:
    clusters = {name: make_cluster(size=1, name=name) for name in ("east", "west")}
    for cluster in clusters.values():
        cluster.nodes[1].start()
    for cluster in clusters.values():
        cluster.wait_ready()
    servers = {name: cluster.servers for name, cluster in clusters.items()}
    queues = ["mail", "reports", "thumbnails", "invoices"]
    async with ShardedClient(servers, deadline="20s") as client:
        places = {queue: client.place(queue) for queue in queues}
        assert set(places.values()) == {"east", "west"}

        tasks = [
            NewTask(name="double", queue=queue, payload=double.call(number).payload)
            for number, queue in enumerate(queues)
        ]
        submitted = await client.submit_many(tasks)
        ids = [one.task_id for one in submitted if isinstance(one, Submitted)]
        assert len(ids) == len(tasks)
        async with working(servers["east"], queues), working(servers["west"], queues):
            ended = [await client.wait(task_id, timeout="30s") for task_id in ids]
        assert [one.state for one in ended] == ["completed"] * 4
        assert [app.serializer.load_result(one.result or b"") for one in ended] == [0, 2, 4, 6]
        stats = await client.stats()
        for name, answer in stats.items():
            assert isinstance(answer, dict)
            assert answer["totals"]["submitted"] == list(places.values()).count(name)

        clusters["west"].nodes[1].kill()
        for queue, place in places.items():
            if place == "west":
                # Unknown if it went out on the connection that was just dying.
                with pytest.raises((Unavailable, UnknownOutcome), match="shard west: "):
                    await client.submit("double", queue=queue, deadline="1s")
            else:
                await client.submit("double", queue=queue)
        answers = await client.stats(deadline="5s")
        assert isinstance(answers["east"], dict)
        assert isinstance(answers["west"], Unavailable)
