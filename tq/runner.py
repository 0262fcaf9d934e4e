"""Runs task functions away from the worker's own event loop.

Async functions share one event loop in a thread of its own; plain functions get
threads from a small pool. Whatever a function does to its loop or thread, the loop
with the connection and the heartbeats goes on. All threads are daemons: a function
that never returns cannot keep the process from ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import queue
import threading
import traceback
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Protocol

from tq.context import Ctx, Discard, bind
from tq.loop_thread import LoopThread
from tq.protocol import ERROR_MAX_BYTES
from tq.serialization import SerializationError
from tq.task import AnyTask

DETAIL_BYTES_MAX: Final = 64 * 1024
"""Longest traceback that is sent; of a longer one the end is kept, where the error is."""

log = logging.getLogger("tq.worker")


@dataclass(frozen=True)
class Success:
    """The function returned.

    Attributes:
        result: Its value, serialized.
    """

    result: bytes


@dataclass(frozen=True)
class Failure:
    """The function raised, or could not be called.

    Attributes:
        error: One line, "Type: message", at most 8 KiB of UTF-8.
        retry: Whether another try may help.
        detail: The traceback as UTF-8 text; may be empty.
    """

    error: str
    retry: bool = True
    detail: bytes = b""


Outcome = Success | Failure


def failure_of(exception: BaseException) -> Failure:
    """Write down what a function raised.

    `Discard` and values that cannot be serialized will not get better by trying again. This
    never raises, whatever the exception's own methods do.
    """
    try:
        return _described(exception)
    except BaseException:  # noqa: BLE001 - the exception is the user's, and so is what it raises
        return Failure(type(exception).__name__, retry=not isinstance(exception, Discard))


def _described(exception: BaseException) -> Failure:
    if isinstance(exception, Discard):
        return Failure(one_line(f"Discard: {_text_of(exception.reason)}"), retry=False)
    detail = "".join(traceback.format_exception(exception)).encode(errors="replace")
    return Failure(
        one_line(f"{type(exception).__name__}: {_text_of(exception)}"),
        retry=not isinstance(exception, SerializationError),
        detail=detail[-DETAIL_BYTES_MAX:].decode(errors="ignore").encode(),
    )


def _text_of(value: object) -> str:
    try:
        return str(value)
    except BaseException as error:  # noqa: BLE001 - see failure_of
        return f"(its text cannot be made: {type(error).__name__})"


def one_line(text: str) -> str:
    """Fold an error text into one line of at most 8 KiB UTF-8."""
    folded = " ".join(text.split())
    return folded.encode(errors="replace")[:ERROR_MAX_BYTES].decode(errors="ignore")


class Execution:
    """One function on its way.

    Attributes:
        done: Resolves with the outcome, on the loop that started the execution. It
            resolves even after `cancel`, once the function is really over.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.done: asyncio.Future[Outcome] = loop.create_future()
        self._loop = loop
        self._cancelled = False
        self._stop: Callable[[], object] | None = None

    def cancel(self) -> None:
        """Ask the function to stop: an async one is cancelled, a plain one has to look."""
        self._cancelled = True
        if self._stop is not None:
            self._stop()

    def on_cancel(self, stop: Callable[[], object]) -> None:
        """Say how the function is stopped; it is, at once, if that was asked for before."""
        self._stop = stop
        if self._cancelled:
            stop()

    def finish(self, outcome: Outcome) -> None:
        """Hand the outcome over, from any thread."""
        # A closed loop means that the worker has left: nobody wants the outcome.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.resolve, outcome)

    def resolve(self, outcome: Outcome) -> None:
        """Hand the outcome over, on the loop itself; the first one stands."""
        if not self.done.done():
            self.done.set_result(outcome)


class TaskRunner(Protocol):
    """What a worker asks of its runner."""

    def start(self, task: AnyTask, payload: bytes, ctx: Ctx) -> Execution:
        """Run one task; called on the loop that wants the outcome.

        Raises:
            Exception: It cannot be run here, and will not be.
        """

    def close(self) -> None:
        """Let go of everything; functions that still run are not waited for."""


class Runner:
    """The threads of one worker.

    Args:
        threads_max: Most plain functions at once.
    """

    def __init__(self, *, threads_max: int) -> None:
        self._coroutines = CoroutineThread()
        self._pool = DaemonPool(threads_max)

    def start(self, task: AnyTask, payload: bytes, ctx: Ctx) -> Execution:
        """Run one task; called on the loop that wants the outcome.

        Raises:
            RuntimeError: The process cannot start another thread; the task will not run.
        """
        execution = Execution(asyncio.get_running_loop())
        context = bind(ctx)
        if task.is_async:
            self._coroutines.start(lambda: _await_task(task, payload), context, execution)
        else:
            self._pool.put(lambda: execution.finish(context.run(_call_task, task, payload)))
        return execution

    def close(self) -> None:
        """Let the threads go; functions that still run are not waited for."""
        self._coroutines.close()
        self._pool.close()


def _call_task(task: AnyTask, payload: bytes) -> Outcome:
    try:
        return Success(task.dump_result(task.invoke(payload)))
    except BaseException as error:  # noqa: BLE001 - even SystemExit is the task's failure, not ours
        return failure_of(error)


async def _await_task(task: AnyTask, payload: bytes) -> Outcome:
    try:
        return Success(task.dump_result(await task.invoke(payload)))
    except BaseException as error:  # noqa: BLE001 - even SystemExit is the task's failure, not ours
        return failure_of(error)


class CoroutineThread:
    """An event loop for async task functions, started when it is first needed."""

    def __init__(self) -> None:
        self._thread: LoopThread | None = None

    def start(
        self,
        make: Callable[[], Coroutine[Any, Any, Outcome]],
        context: contextvars.Context,
        execution: Execution,
    ) -> None:
        """Run a coroutine here and resolve the execution with what it returns.

        Raises:
            RuntimeError: The process cannot start another thread.
        """
        if self._thread is None or self._thread.loop.is_closed():
            self._thread = LoopThread("tq-coroutines")
        loop = self._thread.loop

        def create() -> None:
            try:
                task = loop.create_task(make(), context=context)
            except BaseException as error:  # noqa: BLE001 - a task factory of the user's
                execution.finish(failure_of(error))
                return
            execution.on_cancel(lambda: _call_threadsafe(loop, task.cancel))
            task.add_done_callback(lambda done: execution.finish(_outcome_of(done)))

        loop.call_soon_threadsafe(create)

    def close(self) -> None:
        """Cancel what runs here and stop the loop."""
        if self._thread is not None:
            self._thread.stop()


def _outcome_of(task: asyncio.Task[Outcome]) -> Outcome:
    # Cancelled before its first step, a coroutine never reaches its own handler.
    if task.cancelled():
        return Failure("CancelledError")
    error = task.exception()
    return task.result() if error is None else failure_of(error)


def _call_threadsafe(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(call)


class DaemonPool:
    """Threads that run one call after the other; made on demand, at most `threads_max`."""

    def __init__(self, threads_max: int) -> None:
        self._threads_max = threads_max
        self._threads = 0
        self._idle = threading.Semaphore(0)
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

    def put(self, call: Callable[[], None]) -> None:
        """Run a call as soon as a thread is free.

        Raises:
            RuntimeError: The process cannot start another thread; the call will not run.
        """
        if not self._idle.acquire(blocking=False) and self._threads < self._threads_max:
            name = f"tq-plain-{self._threads + 1}"
            threading.Thread(target=self._run, name=name, daemon=True).start()
            self._threads += 1
        # Not before: what is in the queue runs, and the caller of one that cannot gives it back.
        self._calls.put(call)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call()
            except BaseException:
                log.exception("call_failed")
            self._idle.release()

    def close(self) -> None:
        """Let each thread end after the call it is in."""
        for _ in range(self._threads):
            self._calls.put(None)
