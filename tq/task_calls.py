"""The submitter's half of the client: submit, status, wait, cancel."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tq.caller import Caller, Consistency
from tq.durations import Duration, milliseconds
from tq.errors import (
    ConfigError,
    NotFound,
    ProtocolError,
    QueueFull,
    RateLimited,
    TaskTimeout,
    TqError,
    Unavailable,
    UnknownOutcome,
    from_refusal,
)
from tq.ids import TaskId
from tq.new_task import NewTask, Retry, Submitted, cut, sendable
from tq.protocol import BATCH_TASKS_MAX, WAIT_MAX_MS, Code, Type
from tq.status import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_BATCHES_IN_FLIGHT = 4
_ANSWER_S = 1.0  # for the answer of a wait to travel, beyond the wait itself
_PAUSE_S = 1.0  # where the cluster gave no hint


class TaskCalls(Caller):
    """What submitters say. `tq.Client` has these methods."""

    async def submit(
        self,
        name: str,
        payload: bytes = b"",
        *,
        queue: str = "default",
        task_id: TaskId | None = None,
        priority: int | None = None,
        delay: Duration | None = None,
        retry: Retry | None = None,
        lease: Duration | None = None,
        timeout: Duration | None = None,  # noqa: ASYNC109 -- of the task's attempts, not of this call
        deadline: Duration | None = None,
        wait_when_full: bool = False,
    ) -> Submitted:
        """Submit one task; returns when a quorum has it on disk.

        Args:
            name: The task function's name.
            payload: Opaque bytes, up to 10 MiB.
            queue: Its line.
            task_id: Submitting twice with the same id submits once; made if None.
            priority: 0..255, higher first; 100 if None.
            delay: Not before.
            retry: What happens after failures.
            lease: How long a worker may be silent.
            timeout: How long an attempt may run.
            deadline: Instead of the client's own.
            wait_when_full: Ask again, until the deadline, while the queue is full.

        Raises:
            UnknownOutcome: Accepted or not; submit again with its `task_id`.
            Unavailable: Not accepted: no leader.
            QueueFull: The queue holds as many tasks as it may.
            Conflict: The id belongs to a task with other content.
            BadRequest: A value is out of range; the text names it.
        """
        task_id = TaskId.new() if task_id is None else TaskId(task_id)
        task = NewTask(
            name=name,
            payload=payload,
            queue=queue,
            priority=priority,
            delay=delay,
            retry=retry,
            lease=lease,
            timeout=timeout,
        )
        fields = task.fields(task_id)
        remaining_s = self._clock(deadline)
        while True:
            try:
                answer = await self._call(Type.SUBMIT_TASK, fields, deadline=remaining_s(), size=2)
            except UnknownOutcome as error:
                error.task_id = task_id
                raise
            except QueueFull as error:
                pause_s = error.retry_after_s or _PAUSE_S
                if not wait_when_full or pause_s >= remaining_s():
                    raise
                await asyncio.sleep(pause_s)
            else:
                return Submitted(task_id, answer[1])

    async def submit_many(
        self,
        tasks: Sequence[NewTask],
        *,
        deadline: Duration | None = None,
        wait_when_full: bool = False,
    ) -> list[Submitted | TqError]:
        """Submit many tasks; each is accepted or refused for itself.

        They travel in batches of up to 1,000 tasks and 1 MiB, a few at a time.

        Args:
            tasks: In the order in which they should be accepted.
            deadline: For all together, instead of the client's own.
            wait_when_full: Ask again, until the deadline, for those that found a full queue.

        Returns:
            For each task, in order, what happened to it. An `UnknownOutcome` has the
            task's id, for trying again.

        Raises:
            ConfigError: A task makes no sense; nothing was sent.
            BadRequest: A payload is over the limit; nothing was sent.
        """
        ids = [TaskId.new() if t.task_id is None else TaskId(t.task_id) for t in tasks]
        fields = [sendable(task.fields(task_id)) for task, task_id in zip(tasks, ids, strict=True)]
        results: dict[int, Submitted | TqError] = {}
        remaining_s = self._clock(deadline)
        wanted = list(range(len(tasks)))
        while wanted:
            await self._submit_round(wanted, ids, fields, results, remaining_s)
            full = {i: e for i in wanted if isinstance(e := results[i], QueueFull)}
            pause_s = max((e.retry_after_s or _PAUSE_S for e in full.values()), default=0)
            if not wait_when_full or not full or pause_s >= remaining_s():
                break
            await asyncio.sleep(pause_s)
            wanted = list(full)
        outcomes = [results[i] for i in range(len(tasks))]
        # Of one that was closed in the middle, each task's outcome says how far it came.
        unsent = [outcome for outcome in outcomes if isinstance(outcome, ConfigError)]
        if unsent and len(unsent) == len(outcomes):
            raise unsent[0]
        return outcomes

    async def status(
        self,
        task_id: TaskId | str,
        *,
        consistency: Consistency = "linearizable",
        at_least: int = 0,
        deadline: Duration | None = None,
    ) -> TaskStatus:
        """Read a task's status.

        A stale read asks any node and waits for nobody: it works without a leader, spreads
        over the nodes, and may show an earlier state, named by the status's
        `applied_index`. States do not go back within one client, whichever node answers.

        Args:
            task_id: The task.
            consistency: `"linearizable"` shows everything acknowledged before the call.
            at_least: Of a stale read: the log index its state must include, such as the
                `log_index` of a submit.
            deadline: Instead of the client's own.

        Raises:
            NotFound: There is no such task in this namespace, for a stale read: not in the
                state that was read.
            Unavailable: No leader answered; for a stale read, no node that has applied as
                much as `at_least` and as earlier reads showed.
            ConfigError: There is no such consistency.
        """
        task_id = TaskId(task_id)
        if consistency == "stale":
            return await self._stale_status(task_id, at_least=at_least, deadline=deadline)
        if consistency != "linearizable" or at_least:
            raise ConfigError(
                "consistency is 'linearizable' or 'stale', and at_least goes with 'stale'"
            )
        answer = await self._call(Type.QUERY_STATUS, [task_id.raw], deadline=deadline, size=2)
        return TaskStatus.from_map(answer[1])

    async def _stale_status(
        self, task_id: TaskId, *, at_least: int, deadline: Duration | None
    ) -> TaskStatus:
        options = {"consistency": "stale", "at_least": max(at_least, self._seen_index)}
        answer = await self._call(
            Type.QUERY_STATUS,
            [task_id.raw, options],
            deadline=deadline,
            size=3,
            channel=self._readers,
        )
        applied_index = int(answer[2])
        self._seen_index = max(self._seen_index, applied_index)
        if answer[1] is None:
            error = NotFound(Code.NOT_FOUND, f"no such task as of entry {applied_index}")
            error.applied_index = applied_index
            raise error
        return TaskStatus.from_map(answer[1], applied_index=applied_index)

    async def wait(
        self,
        task_id: TaskId | str,
        *,
        timeout: Duration | None = None,  # noqa: ASYNC109 -- part of the wire: the server waits
    ) -> TaskStatus:
        """Wait until a task is over, across changes of leader.

        Args:
            task_id: The task.
            timeout: How long; for ever if None.

        Returns:
            Its final status, whichever it is.

        Raises:
            TaskTimeout: It is not over, as far as anybody said.
            NotFound: There is no such task in this namespace.
        """
        raw = TaskId(task_id).raw
        remaining_s = self._clock(timeout) if timeout is not None else lambda: WAIT_MAX_MS / 1000
        trouble = ""
        while True:
            wait_ms = min(milliseconds(remaining_s()), WAIT_MAX_MS)
            try:
                answer = await self._call(
                    Type.WAIT_RESULT,
                    [raw, wait_ms],
                    deadline=_ANSWER_S if timeout is not None else None,
                    extra_s=wait_ms / 1000,
                    size=2,
                )
            except Unavailable as error:
                trouble = f"; {error}"
            except RateLimited as error:
                trouble = f"; {error}"
                await asyncio.sleep(min(error.retry_after_s or _PAUSE_S, remaining_s()))
            else:
                status = TaskStatus.from_map(answer[1])
                if status.is_final:
                    return status
                trouble = f": it is {status.state}"
            if timeout is not None and remaining_s() <= 0:
                raise TaskTimeout(f"task {task_id} is not over after {timeout}{trouble}")

    async def cancel(
        self, task_id: TaskId | str, reason: str = "", *, deadline: Duration | None = None
    ) -> str:
        """Cancel a task that is not running.

        Args:
            task_id: The task.
            reason: For people, up to 1 KiB.
            deadline: Instead of the client's own.

        Returns:
            Its state after it.

        Raises:
            NotCancellable: It is running, or over.
            NotFound: There is no such task in this namespace.
        """
        fields = [TaskId(task_id).raw, reason]
        answer = await self._call(Type.CANCEL_TASK, fields, deadline=deadline, size=2)
        return str(answer[1])

    # ------------------------------------------------------------------------ inside

    async def _submit_round(
        self,
        wanted: Sequence[int],
        ids: Sequence[TaskId],
        fields: Sequence[list[object]],
        results: dict[int, Submitted | TqError],
        remaining_s: Callable[[], float],
    ) -> None:
        """Submit the tasks at the positions `wanted`, once, into `results`."""
        batches = cut([fields[i] for i in wanted], tasks_max=BATCH_TASKS_MAX)
        for start in range(0, len(batches), _BATCHES_IN_FLIGHT):
            window = [[wanted[i] for i in b] for b in batches[start : start + _BATCHES_IN_FLIGHT]]
            rounds = [
                self._submit_batch([ids[i] for i in b], [fields[i] for i in b], remaining_s())
                for b in window
            ]
            for batch, answers in zip(window, await asyncio.gather(*rounds), strict=True):
                results.update(zip(batch, answers, strict=True))

    async def _submit_batch(
        self, ids: Sequence[TaskId], tasks: Sequence[list[object]], deadline_s: float
    ) -> list[Submitted | TqError]:
        try:
            answer = await self._call(Type.SUBMIT_BATCH, [tasks], deadline=deadline_s, size=2)
            return _entries(ids, answer[1])
        except (UnknownOutcome, ProtocolError) as error:
            # An answer without sense: it was sent, and nobody knows what became of it.
            return [_of_task(UnknownOutcome(*error.args), task_id) for task_id in ids]
        except TqError as error:
            return [error] * len(ids)


def _entries(ids: Sequence[TaskId], entries: object) -> list[Submitted | TqError]:
    if not isinstance(entries, list) or len(entries) != len(ids):
        raise ProtocolError("a batch was not answered task by task")
    return [_entry(task_id, entry) for task_id, entry in zip(ids, entries, strict=True)]


def _entry(task_id: TaskId, entry: object) -> Submitted | TqError:
    match entry:
        case [0, int() as log_index]:
            return Submitted(task_id, log_index)
        case [str() as code, str() as text, (int() | None) as retry_after_ms]:
            return _of_task(from_refusal(code, text, retry_after_ms), task_id)
        case _:
            raise ProtocolError("the answer to a task of a batch makes no sense")


def _of_task(error: TqError, task_id: TaskId) -> TqError:
    if isinstance(error, UnknownOutcome):
        error.task_id = task_id
    return error
