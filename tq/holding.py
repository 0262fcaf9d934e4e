"""One claimed task, from the claim until its end is on record: `Holding`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from tq.bell import Bell
from tq.context import Ctx, Progress
from tq.decisions import Attempt, Ending, ProgressGate
from tq.errors import BadRequest, ConfigError, LeaseLost, NotFound, Rejected, TqError
from tq.heart import Heart
from tq.ids import TaskId
from tq.runner import Execution, Failure, Outcome, Success, TaskRunner, one_line
from tq.task import AnyTask
from tq.worker_calls import Grant

GRACE_S: Final = 1.0
"""How long a function that was told to stop may take before its task is given back."""
REPORT_PAUSE_S: Final = 0.2
REPORT_PAUSE_MAX_S: Final = 5.0
"""Between reports that are refused for reasons that have nothing to do with the result."""

log = logging.getLogger("tq.worker")


class ReportClient(Protocol):
    """What a holding asks of a client; `tq.Client` is one."""

    async def complete(self, task_id: TaskId, token: int, result: bytes) -> str: ...  # noqa: D102 - each as in `tq.Client`
    async def fail(  # noqa: D102
        self, task_id: TaskId, token: int, error: str, *, retry: bool = True, detail: bytes = b""
    ) -> str: ...
    async def progress(self, task_id: TaskId, token: int, permille: int, note: str) -> None: ...  # noqa: D102
    async def release(self, task_id: TaskId, token: int) -> None: ...  # noqa: D102


class Holding:
    """Runs one task, watches its lease, its timeout and the worker, and reports the end.

    Args:
        grant: What was claimed.
        client: Takes the reports.
        heart: Knows whether the lease still holds; renewing it is the worker's work.
        runner: Runs the function.
        tasks: The app's tasks by name.
        on_over: Called once when the function is over, before its end is reported.

    Attributes:
        is_over: Whether it was called.
    """

    def __init__(
        self,
        grant: Grant,
        *,
        client: ReportClient,
        heart: Heart,
        runner: TaskRunner,
        tasks: Mapping[str, AnyTask],
        on_over: Callable[[], None],
    ) -> None:
        self.is_over = False
        self._on_over = on_over
        self._grant = grant
        self._client = client
        self._heart = heart
        self._runner = runner
        self._task = tasks.get(grant.name)
        self._known = sorted(tasks)
        self._loop = asyncio.get_running_loop()
        self._bell = Bell()
        self._gate = ProgressGate()
        self._execution: Execution | None = None
        self._reporting: asyncio.Task[None] | None = None
        self._leaving = False
        self._facts = {"task_id": grant.task_id, "task": grant.name, "token": grant.token}

    def look(self) -> None:
        """Look at the lease again: the heart has learned something."""
        self._bell.ring()

    def leave(self) -> None:
        """Stop the task and give it back: the worker is leaving."""
        self._leaving = True
        self._bell.ring()

    async def carry(self) -> None:
        """Carry the task to its end; returns once its function is over, too.

        Only a worker that is leaving does not wait for a function that will not stop.

        Raises:
            Exception: This worker cannot run it, and has given it back.
        """
        try:
            await self._carry()
        except Exception:
            # Before anything else: nobody would renew the lease, and its loss would be charged.
            if self._execution is not None:
                self._execution.cancel()
            await self.give_back()
            raise

    async def _carry(self) -> None:
        if not await self._wait_confirmed():
            return
        if self._task is None:
            await self._report(self._unregistered())
            return
        ctx = Ctx(
            task_id=self._grant.task_id,
            token=self._grant.token,
            attempt=self._grant.attempt,
            name=self._grant.name,
            queue=self._grant.queue,
            on_progress=self._offer_progress,
        )
        execution = self._runner.start(self._task, self._grant.payload, ctx)
        self._execution = execution
        execution.done.add_done_callback(lambda _: self._bell.ring())
        ending = await self._watch(execution)
        if self._reporting is not None:
            self._reporting.cancel()  # news of a task that is over
        await self._end(ending, execution, ctx)
        self._heart.drop(self._grant.token)
        while not execution.done.done() and not self._leaving:
            await self._bell.wait()  # the slot is taken for as long as the function is busy

    async def give_back(self) -> None:
        """Release the task: another worker may have it at once."""
        try:
            await self._client.release(self._grant.task_id, self._grant.token)
        except TqError as error:
            # Its lease will end by itself, since nobody renews it.
            log.warning("release_failed", extra={"facts": {**self._facts, "error": str(error)}})
        else:
            log.info("task_released", extra={"facts": self._facts})

    # ----------------------------------------------------------------------- watching

    async def _wait_confirmed(self) -> bool:
        """Wait until the lease is fresh enough to start; False when the task is gone."""
        token = self._grant.token
        while self._heart.is_stale(token, self._loop.time()):
            if self._heart.was_lost(token):
                self._say_lost("it was over before the task could start")
                return False
            if self._leaving:
                break
            await self._bell.wait()
        if self._leaving:
            await self.give_back()
        return not self._leaving

    async def _watch(self, execution: Execution) -> Ending:
        token, timeout_ms = self._grant.token, self._grant.timeout_ms
        attempt = Attempt(
            started_at=self._loop.time(), timeout_s=timeout_ms / 1000 if timeout_ms else None
        )
        while True:
            now = self._loop.time()
            ending = attempt.step(
                now,
                finished=execution.done.done(),
                lost=self._heart.is_lost(token, now),
                leaving=self._leaving,
            )
            if ending is not None:
                return ending
            progress_at = self._send_progress(now)
            wake_at = attempt.wake_at(lease_ends_at=self._heart.ends_at(token))
            await self._bell.wait(min(wake_at, progress_at))

    def _offer_progress(self, progress: Progress) -> None:
        """Take a report from the function's thread; wake the loop for the first that waits."""
        if self._gate.offer(progress):
            # A closed loop means that the worker has left this function behind.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._bell.ring)

    def _send_progress(self, now: float) -> float:
        """Send the report whose time has come; return when to look again."""
        if self._reporting is not None and not self._reporting.done():
            return math.inf  # its end rings the bell
        progress = self._gate.take(now)
        if progress is None:
            return self._gate.wake_at()
        self._reporting = asyncio.create_task(self._report_progress(*progress))
        self._reporting.add_done_callback(lambda _: self._bell.ring())
        return math.inf

    async def _report_progress(self, permille: int, note: str) -> None:
        grant = self._grant
        try:
            await self._client.progress(grant.task_id, grant.token, permille, note)
        except LeaseLost:
            self._heart.lose(grant.token)
        except TqError as error:
            log.debug("progress_failed", extra={"facts": {**self._facts, "error": str(error)}})

    # ---------------------------------------------------------------------- reporting

    async def _end(self, ending: Ending, execution: Execution, ctx: Ctx) -> None:
        if ending is Ending.FINISHED:
            self.is_over = True
            self._on_over()
            await self._report(execution.done.result())
            return
        ctx.mark_cancelled(lost=ending is Ending.LOST)
        execution.cancel()
        if ending is Ending.LOST:
            self._say_lost("its result will not be sent")
        elif ending is Ending.TIMED_OUT:
            timeout_s = self._grant.timeout_ms / 1000
            await self._report(Failure(f"TimeoutError: timed out after {timeout_s:g} s"))
        else:
            await asyncio.wait({execution.done}, timeout=GRACE_S)
            await self.give_back()

    async def _report(self, outcome: Outcome) -> None:
        """Send the end until it is on record; the same end may be sent again and again.

        Only what is wrong with a result itself makes a failure of it: that a node refuses the
        connection, or is busy, says nothing about what the function did.
        """
        pause_s = REPORT_PAUSE_S
        while True:
            try:
                await self._send(outcome)
            except LeaseLost:
                self._heart.lose(self._grant.token)
                self._say_lost("its result was refused")
                return
            except (BadRequest, ConfigError, NotFound) as error:
                if isinstance(outcome, Failure) or isinstance(error, NotFound):
                    self._say_refused(error)
                    return
                outcome = Failure(one_line(f"{type(error).__name__}: {error}"), retry=False)
            except TqError as error:
                if self._heart.is_lost(self._grant.token, self._loop.time()):
                    self._say_lost(f"before its result was on record: {error}")
                    return
                await asyncio.sleep(pause_s)
                if isinstance(error, Rejected):
                    pause_s = min(2 * pause_s, REPORT_PAUSE_MAX_S)
            else:
                return

    async def _send(self, outcome: Outcome) -> None:
        grant = self._grant
        if isinstance(outcome, Success):
            await self._client.complete(grant.task_id, grant.token, outcome.result)
            log.debug("task_completed", extra={"facts": self._facts})
            return
        await self._client.fail(
            grant.task_id, grant.token, outcome.error, retry=outcome.retry, detail=outcome.detail
        )
        facts = {**self._facts, "attempt": grant.attempt, "error": outcome.error}
        log.warning("task_failed", extra={"facts": facts})

    def _unregistered(self) -> Failure:
        known = ", ".join(self._known) or "none"
        return Failure(
            one_line(
                f"UnregisteredTask: this worker's app has no task {self._grant.name!r}; "
                f"is another version of it deployed? It has: {known}"
            )
        )

    def _say_refused(self, error: TqError) -> None:
        log.error("report_refused", extra={"facts": {**self._facts, "error": str(error)}})

    def _say_lost(self, why: str) -> None:
        log.warning("lease_lost", extra={"facts": {**self._facts, "why": why}})
