"""The stage of the worker's tests: an app, gates to hold its tasks, a worker in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import tq
from tests.unit.tq.doubles import FakeCluster, InlineRunner
from tq.worker import Worker

app = tq.App("unused:7401")
started: dict[str, asyncio.Event] = {}
gates: dict[str, asyncio.Event] = {}
cancellations: dict[str, asyncio.Event] = {}
cancelled: list[str] = []


@app.task(name="double")
async def double(number: int) -> int:
    return 2 * number


@app.task(name="hold")
async def hold(key: str) -> str:
    """Run until the test opens the gate; record a cancellation."""
    started.setdefault(key, asyncio.Event()).set()
    try:
        await gates.setdefault(key, asyncio.Event()).wait()
    except asyncio.CancelledError:
        cancelled.append(key)
        cancellations.setdefault(key, asyncio.Event()).set()
        raise
    return key


@app.task(name="explode")
async def explode() -> None:
    raise ValueError("two\nlines")


@app.task(name="give_up")
async def give_up() -> None:
    raise tq.Discard("never mind")


@app.task(name="unwritable")
async def unwritable() -> object:
    return object()


@app.task(name="report")
async def report(ctx: tq.Ctx, seconds: int) -> None:
    for step in range(seconds * 10):
        ctx.progress(step / (seconds * 10), f"step {step}")
        await asyncio.sleep(0.1)  # virtual


def clear() -> None:
    """Forget what an earlier test left."""
    for shared in (started, gates, cancellations):
        shared.clear()
    cancelled.clear()


@asynccontextmanager
async def worker_on(cluster: FakeCluster, **options: Any) -> AsyncIterator[Worker]:
    """Run a worker; at the end let it go at once and check that it went."""
    worker = Worker(
        app, client=lambda: cluster, runner=InlineRunner, **({"concurrency": 2} | options)
    )
    serving = asyncio.create_task(worker.serve())
    try:
        yield worker
    finally:
        worker.stop()
        worker.stop()
        await serving
        assert cluster.closed


async def begun(key: str) -> None:
    await started.setdefault(key, asyncio.Event()).wait()


# ------------------------------------------------------------------------------ results
