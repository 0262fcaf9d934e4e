"""Through the SDK, as users write it: decorated functions, `asend`, `tq-worker` processes."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from benchmarks.families.measurement import Figures, Measurement
from benchmarks.judging.calibration import Scaling
from benchmarks.judging.quantiles import quantile
from benchmarks.judging.verdicts import Row
from benchmarks.stage import BenchmarkError, Effort, Stage, fresh
from deploy.local.cluster import ROOT
from deploy.local.processes import ChildProcess
from tq import Client

_WORKERS: Final = 2
_CONCURRENCY: Final = 32
_TASKS_ONE_BY_ONE: Final = 500
_POLL_S: Final = 0.01
_DRAIN_MAX_S: Final = 300.0


@contextmanager
def _process(stage: Stage, name: str, *arguments: str) -> Iterator[ChildProcess]:
    child = ChildProcess(
        [sys.executable, "-m", *arguments],
        log_path=stage.cluster.directory / f"{name}.log",
        environment={"TQ_SERVERS": stage.cluster.servers},
        directory=ROOT,
    )
    child.start()
    try:
        yield child
    finally:
        child.stop(timeout_s=10)


@contextmanager
def _workers(stage: Stage, count: int) -> Iterator[None]:
    """Run workers; they are registered when the block begins."""
    with ExitStack() as stack:
        for number in range(count):
            arguments = ("tq.worker_cli", "benchmarks.sdk_app:app")
            options = ("--concurrency", f"{_CONCURRENCY}", "--log-level", "warning")
            stack.enter_context(_process(stage, f"worker{number}", *arguments, *options))
        asyncio.run(_until_workers(stage.cluster.servers, count))
        yield


async def _until_workers(servers: str, count: int) -> None:
    async with Client(servers, deadline="30s") as client, asyncio.timeout(30):
        while len(await client.workers()) < count:  # noqa: ASYNC110 - of other processes
            await asyncio.sleep(_POLL_S)


def _output(producer: ChildProcess, *, timeout_s: float) -> dict[str, Any]:
    if code := producer.wait(timeout_s=timeout_s):
        raise BenchmarkError(f"the producer ended with {code}: {producer.output()[-2000:]}")
    told: dict[str, Any] = json.loads(producer.output().splitlines()[-1])
    return told


async def _until_drained(servers: str) -> tuple[float, int]:
    """Wait until everything submitted is completed; return when that was seen, and how much."""
    async with Client(servers, deadline="30s") as client, asyncio.timeout(_DRAIN_MAX_S):
        while True:
            totals = (await client.stats())["totals"]
            if totals["completed"] == totals["submitted"]:
                return time.monotonic(), int(totals["completed"])
            await asyncio.sleep(_POLL_S)


def _lifecycle(effort: Effort) -> Figures:
    """Measure from the first submit to the last completion, the drain included."""
    with fresh() as stage, _workers(stage, _WORKERS):
        servers = stage.cluster.servers
        producing = ("benchmarks.sdk_load", "noop", f"{effort.seconds}")
        with _process(stage, "producer", *producing) as producer:
            told = _output(producer, timeout_s=effort.seconds + 60)
        ended_s, completed = asyncio.run(_until_drained(servers))
    if completed != told["submitted"]:
        raise BenchmarkError(f"{told['submitted']} submitted, {completed} completed")
    began_s = told["began_s"]  # the monotonic clock is one for all processes
    return {
        "sdk_lifecycle": completed / (ended_s - began_s),
        "submit_rate": completed / (told["ended_s"] - began_s),
        "tasks": completed,
    }


def _long_poll(effort: Effort) -> Figures:
    tasks = effort.count(_TASKS_ONE_BY_ONE)
    work = ("benchmarks.sdk_load", "began", f"{tasks}")
    with (
        fresh() as stage,
        _workers(stage, 1),
        _process(stage, "producer", *work) as producer,
    ):
        latencies_ms = _output(producer, timeout_s=300)["latencies_ms"]
    latencies_ms = latencies_ms[len(latencies_ms) // 10 :]  # the first ones dial and warm up
    return {
        "long_poll_p50": quantile(latencies_ms, 50),
        "long_poll_p99": quantile(latencies_ms, 99),
        "tasks": len(latencies_ms),
    }


MEASUREMENTS = (
    Measurement(
        "sdk_lifecycle",
        (
            Row(
                "sdk_lifecycle",
                "lifecycle through the SDK, two worker processes",
                "/s",
                6_000,
                15_000,
                scaling=Scaling.CPU,
            ),
        ),
        _lifecycle,
    ),
    Measurement(
        "long_poll",
        (
            Row(
                "long_poll_p50",
                "idle worker: submit to handler start, p50",
                "ms",
                2,
                0.6,
                "lower",
                Scaling.CPU_AND_DISK,
            ),
            Row(
                "long_poll_p99",
                "idle worker: submit to handler start, p99",
                "ms",
                10,
                3,
                "lower",
                Scaling.CPU_AND_DISK,
            ),
        ),
        _long_poll,
    ),
)
