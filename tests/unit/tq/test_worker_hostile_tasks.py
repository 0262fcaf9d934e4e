"""Task functions and machines at their worst: every lease is reported or given back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import tq
from tests.support.virtual_time import in_virtual_time
from tests.unit.tq.doubles import FakeCluster, InlineRunner
from tq.runner import Failure, Runner, failure_of
from tq.task import AnyTask
from tq.worker import Worker

app = tq.App("unused:7401")
WAIT_S = 20.0  # far more than any of it takes
entered = threading.Event()
gate = threading.Event()
ran: list[int] = []


class Unspeakable(Exception):  # noqa: N818 -- what it is, not what went wrong
    def __str__(self) -> str:
        raise AttributeError("no response")


class UnspeakableExit(Exception):  # noqa: N818 -- what it is, not what went wrong
    def __str__(self) -> str:
        raise SystemExit


async def leave() -> None:
    raise SystemExit("from inside")


@app.task(name="wait_for_gate")
async def wait_for_gate() -> str:
    entered.set()
    while not gate.is_set():
        await asyncio.sleep(0)
    return "through"


@app.task(name="gather_an_exit")
async def gather_an_exit() -> None:
    await asyncio.gather(leave())


@app.task(name="stop_the_loop")
async def stop_the_loop() -> None:
    asyncio.get_running_loop().stop()


@app.task(name="raise_unspeakable")
def raise_unspeakable() -> None:
    raise Unspeakable


@app.task(name="raise_unspeakable_async")
async def raise_unspeakable_async() -> None:
    raise Unspeakable


@app.task(name="discard_unspeakable")
def discard_unspeakable() -> None:
    raise tq.Discard(Unspeakable())  # type: ignore[arg-type]  # what people pass


@app.task(name="plain")
def plain(number: int) -> int:
    ran.append(number)
    return number


@app.task(name="spare")
async def spare(number: int) -> int:
    return number


@pytest.fixture(autouse=True)
def _fresh() -> None:
    entered.clear()
    gate.clear()
    ran.clear()


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


@pytest.mark.parametrize("name", ["gather_an_exit", "stop_the_loop"])
async def test_a_task_that_ends_the_loop_of_all_async_tasks_ends_nobody_else(name: str) -> None:
    cluster = FakeCluster()
    async with worker_on(cluster):
        neighbour = cluster.offer("wait_for_gate")
        await asyncio.to_thread(entered.wait, WAIT_S)
        verb, _ = await cluster.end_of(cluster.offer(name))
        assert ("fail" if name == "gather_an_exit" else "complete") == verb
        gate.set()
        assert ("complete", b'"through"') == await cluster.end_of(neighbour)
        assert ("complete", b"7") == await cluster.end_of(cluster.offer("spare", 7))


@pytest.mark.parametrize("name", ["raise_unspeakable", "raise_unspeakable_async"])
async def test_an_exception_that_cannot_be_written_is_a_failure_like_any_other(name: str) -> None:
    cluster = FakeCluster()
    async with worker_on(cluster, concurrency=1):
        for _ in range(3):  # more than there are slots
            verb, (error, retry) = await cluster.end_of(cluster.offer(name))
            assert ("fail", True) == (verb, retry)
            assert error == "Unspeakable: (its text cannot be made: AttributeError)"
        assert ("complete", b"1") == await cluster.end_of(cluster.offer("plain", 1))


async def test_a_reason_that_cannot_be_written_discards_all_the_same() -> None:
    cluster = FakeCluster()
    async with worker_on(cluster):
        verb, (_, retry) = await cluster.end_of(cluster.offer("discard_unspeakable"))
        assert ("fail", False) == (verb, retry)


def test_not_even_an_exception_whose_text_ends_the_process_gets_out() -> None:
    failure = failure_of(UnspeakableExit())
    assert failure.error == "UnspeakableExit: (its text cannot be made: SystemExit)"


def no_more_threads(monkeypatch: pytest.MonkeyPatch, prefix: str, *, times: int) -> list[str]:
    """Let the next threads with such a name not start; returns the names of those."""
    start = threading.Thread.start
    refused: list[str] = []

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith(prefix) and len(refused) < times:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    return refused


@pytest.mark.parametrize(("name", "thread"), [("plain", "tq-plain"), ("spare", "tq-coroutines")])
async def test_a_task_without_a_thread_is_given_back_and_never_runs(
    name: str, thread: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tq.worker.PAUSE_MAX_S", 0.0)
    refused = no_more_threads(monkeypatch, thread, times=1)
    cluster = FakeCluster()
    async with worker_on(cluster, concurrency=1):
        assert ("release", None) == await cluster.end_of(cluster.offer(name, 1))
        assert 1 == len(refused)
        # The pool has not shrunk, and what was given back does not run behind this one's back.
        assert ("complete", b"2") == await cluster.end_of(cluster.offer(name, 2))
        assert ("complete", b"3") == await cluster.end_of(cluster.offer(name, 3))
    assert ran == ([2, 3] if name == "plain" else [])


class BrokenRunner(InlineRunner):
    def start(self, task: AnyTask, payload: bytes, ctx: tq.Ctx) -> Any:
        raise RuntimeError("can't start new thread")


@in_virtual_time
async def test_a_worker_that_can_run_nothing_gives_all_back_and_leaves_the_queue_alone() -> None:
    cluster = FakeCluster()
    worker = Worker(app, client=lambda: cluster, runner=BrokenRunner, concurrency=2)
    for number in range(1000):
        cluster.offer("plain", number)
    serving = asyncio.create_task(worker.serve())
    await asyncio.sleep(60)  # virtual
    worker.stop()
    await serving
    assert 4 <= len(cluster.ended) <= 40
    assert {"release"} == {verb for verb, _ in cluster.ended.values()}
    assert {} == cluster.held
    assert 2 <= len(cluster.seen("claim")) <= 15


class OddRunner(Runner):
    """Its event loop makes no tasks: the user's code set a factory that raises."""

    def start(self, task: AnyTask, payload: bytes, ctx: tq.Ctx) -> Any:
        self._coroutines.start = self._broken(self._coroutines.start)  # type: ignore[method-assign]
        return super().start(task, payload, ctx)

    @staticmethod
    def _broken(start: Callable[..., None]) -> Callable[..., None]:
        def started(make: Callable[[], Awaitable[Any]], *rest: Any) -> None:
            def refuse() -> Any:
                raise ValueError("no task for you")

            start(refuse, *rest)

        return started


async def test_a_coroutine_that_cannot_be_made_is_a_failure() -> None:
    cluster = FakeCluster()
    async with worker_on(cluster, runner=lambda: OddRunner(threads_max=1)):
        verb, (error, _) = await cluster.end_of(cluster.offer("spare", 1))
        assert ("fail", "ValueError: no task for you") == (verb, error)


def test_what_a_task_raised_is_told_as_before() -> None:
    told = failure_of(ValueError("two\nlines"))
    assert isinstance(told, Failure)
    assert told.error == "ValueError: two lines"
