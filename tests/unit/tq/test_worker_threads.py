"""The worker with its real threads: blocked loops, plain functions, signals."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import tq
from tests.unit.tq.doubles import FakeCluster
from tq.worker import Worker

app = tq.App("unused:7401")
running = threading.Event()
gate = threading.Event()
heard: dict[str, Any] = {}
WAIT_S = 20.0  # far more than any of it takes


@app.task(name="block_the_loop")
async def block_the_loop() -> bool:
    running.set()
    return gate.wait(WAIT_S)  # the loop of all async tasks stands still


@app.task(name="plain")
def plain(number: int) -> str:
    return f"{number} in {threading.current_thread().name}"


@app.task(name="watch_ctx")
def watch_ctx(ctx: tq.Ctx) -> None:
    running.set()
    heard["cancelled"] = ctx.wait_cancelled(WAIT_S)
    heard["lost"] = ctx.lost
    heard["same"] = tq.current() is ctx
    gate.set()


@app.task(name="meet")
def meet() -> int:
    return barrier.wait(WAIT_S)


@app.task(name="leave_process")
def leave_process() -> None:
    raise SystemExit("not like this")


@app.task(name="leave_process_async")
async def leave_process_async() -> None:
    raise SystemExit("not like this")


@app.task(name="ask_current")
async def ask_current() -> list[Any]:
    await asyncio.sleep(0)
    context = tq.current()
    return [context.attempt, context.fence, context.queue]


@pytest.fixture(autouse=True)
def _fresh() -> None:
    running.clear()
    gate.clear()
    heard.clear()


@asynccontextmanager
async def worker_on(cluster: FakeCluster, **options: Any) -> AsyncIterator[Worker]:
    worker = Worker(app, client=lambda: cluster, **({"concurrency": 4} | options))
    serving = asyncio.create_task(worker.serve())
    try:
        async with asyncio.timeout(WAIT_S):
            yield worker
    finally:
        gate.set()
        worker.stop()
        worker.stop()
        await serving


barrier = threading.Barrier(3)


async def test_a_task_that_blocks_its_loop_does_not_stop_the_heartbeats() -> None:
    cluster = FakeCluster()
    async with worker_on(cluster, heartbeat=0.01):
        token = cluster.offer("block_the_loop")
        await asyncio.to_thread(running.wait, WAIT_S)
        beats = len(cluster.seen("heartbeat"))
        await cluster.until(lambda: len(cluster.seen("heartbeat")) >= beats + 3)
        assert [token] == cluster.seen("heartbeat")[-1]
        assert not gate.is_set()
        gate.set()
        assert ("complete", b"true") == await cluster.end_of(token)


async def test_a_blocked_loop_does_not_keep_a_timeout_from_being_reported() -> None:
    cluster = FakeCluster()
    async with worker_on(cluster):
        token = cluster.offer("block_the_loop", timeout_ms=20)
        verb, (error, _) = await cluster.end_of(token)
        assert ("fail", "TimeoutError: timed out after 0.02 s") == (verb, error)
        assert not gate.is_set()


async def test_plain_functions_run_in_threads_side_by_side() -> None:
    cluster = FakeCluster()
    async with worker_on(cluster, concurrency=3):
        tokens = [cluster.offer("meet") for _ in range(3)]
        results = {(await cluster.end_of(token))[1] for token in tokens}
        assert {b"0", b"1", b"2"} == results
        _, where = await cluster.end_of(cluster.offer("plain", 7))
        assert where.startswith(b'"7 in tq-plain-')


async def test_a_plain_function_is_told_when_its_time_is_over() -> None:
    cluster = FakeCluster()
    async with worker_on(cluster):
        await cluster.end_of(cluster.offer("watch_ctx", timeout_ms=20))
        await asyncio.to_thread(gate.wait, WAIT_S)
    assert {"cancelled": True, "lost": False, "same": True} == heard
    assert [] == cluster.seen("complete")


async def test_a_plain_function_is_told_when_its_lease_is_lost_and_sends_nothing() -> None:
    cluster = FakeCluster()
    async with worker_on(cluster, heartbeat=0.01):
        token = cluster.offer("watch_ctx")
        await asyncio.to_thread(running.wait, WAIT_S)
        cluster.lost.add(token)
        await asyncio.to_thread(gate.wait, WAIT_S)
        await cluster.end_of(cluster.offer("plain", 1))
    assert {"cancelled": True, "lost": True, "same": True} == heard
    assert [] == [facts for facts in cluster.seen("complete") if facts[0] == token]
    assert [] == cluster.seen("fail")


async def test_a_slot_stays_taken_while_a_timed_out_function_still_runs() -> None:
    cluster = FakeCluster()
    async with worker_on(cluster, concurrency=1, heartbeat=0.01):
        await cluster.end_of(cluster.offer("block_the_loop", timeout_ms=500))  # begun by then
        token = cluster.offer("plain", 1)
        beats = len(cluster.seen("heartbeat"))
        await cluster.until(lambda: len(cluster.seen("heartbeat")) >= beats + 3)
        assert [1] == cluster.seen("claim")
        gate.set()
        assert "complete" == (await cluster.end_of(token))[0]


@pytest.mark.parametrize("name", ["leave_process", "leave_process_async"])
async def test_a_task_that_exits_fails_and_the_worker_goes_on(name: str) -> None:
    cluster = FakeCluster()
    async with worker_on(cluster):
        verb, (error, retry) = await cluster.end_of(cluster.offer(name))
        assert ("fail", "SystemExit: not like this", True) == (verb, error, retry)
        assert "complete" == (await cluster.end_of(cluster.offer("plain", 1)))[0]
        assert "complete" == (await cluster.end_of(cluster.offer("ask_current")))[0]


async def test_current_knows_the_attempt_and_its_fence() -> None:
    cluster = FakeCluster()
    async with worker_on(cluster):
        token = cluster.offer("ask_current", attempt=3)
        assert ("complete", f'[3,{token},"default"]'.encode()) == await cluster.end_of(token)


def start(script: str) -> subprocess.Popen[str]:
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-c", script]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)


def test_a_signal_drains_the_process_and_its_exit_code_is_0() -> None:
    script = (
        "import asyncio, tq\n"
        "from tests.unit.tq.doubles import FakeCluster\n"
        "app = tq.App('unused:7401')\n"
        "@app.task(name='t')\n"
        "async def t():\n"
        "    print('running', flush=True)\n"
        "    await asyncio.sleep(0.05)\n"
        "    return 1\n"
        "def client():\n"
        "    global cluster\n"
        "    cluster = FakeCluster()\n"
        "    cluster.offer('t')\n"
        "    return cluster\n"
        "tq.Worker(app, client=client).run()\n"
        "print([verb for verb, _ in cluster.calls if verb in {'complete', 'deregister'}])\n"
    )
    process = start(script)
    try:
        assert process.stdout is not None
        assert "running\n" == process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=WAIT_S)
    finally:
        process.kill()
    assert (0, "['complete', 'deregister']\n") == (process.returncode, output)


def test_a_function_that_never_returns_cannot_keep_the_process_alive() -> None:
    script = (
        "import threading, tq\n"
        "from tests.unit.tq.doubles import FakeCluster\n"
        "app = tq.App('unused:7401')\n"
        "@app.task(name='t')\n"
        "def t():\n"
        "    print('running', flush=True)\n"
        "    threading.Event().wait()\n"
        "def client():\n"
        "    cluster = FakeCluster()\n"
        "    cluster.offer('t')\n"
        "    return cluster\n"
        "tq.Worker(app, client=client).run()\n"
    )
    process = start(script)
    try:
        assert process.stdout is not None
        assert "running\n" == process.stdout.readline()
        asked_at = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        assert 0 == process.wait(WAIT_S)
        assert time.monotonic() - asked_at < 10
    finally:
        process.kill()
        process.communicate()
