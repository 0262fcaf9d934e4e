"""Producers: submits one by one and in batches, repeated on purpose, and cancellations."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any, Final

from chaos.workload.caller import Caller, Seat
from chaos.workload.recorder import Recorder
from chaos.workload.tasks import Spec, draw
from tq import Client, Submitted, TqError, UnknownOutcome

IN_FLIGHT_MAX: Final = 60
_BATCH_SHARE: Final = 0.04
_BATCH: Final = (2, 12)
_DEADLINES: Final = ("1s", "5s", "5s", "5s", "8s")


class Producer(Caller):
    """One client that submits."""

    def __init__(self, seat: Seat) -> None:
        super().__init__(seat)
        self._under_way: set[asyncio.Task[None]] = set()
        self._failed: BaseException | None = None
        self._batches = 0
        self._stop = asyncio.Event()

    async def run(self, *, tasks_per_s: float, stop: asyncio.Event) -> None:
        """Submit at an even pace until told to stop; then wait for what is under way.

        Raises:
            TqError: A call got what no cluster may answer; no more are made.
        """
        loop = asyncio.get_running_loop()
        self._stop = stop
        due_s = loop.time()
        while not stop.is_set() and self._failed is None:
            tasks = self._next()
            due_s = max(due_s + tasks / tasks_per_s, loop.time() - 1.0)
            pause_s = due_s - loop.time()
            if pause_s > 0:
                await asyncio.sleep(pause_s)
            # What cannot be sent is not put off for ever: the pace is one of an open system.
            while len(self._under_way) >= IN_FLIGHT_MAX:
                await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
        await self.rest()

    async def rest(self) -> None:
        """Wait for what is under way, and raise what any of it has raised."""
        while self._under_way:
            await asyncio.wait(self._under_way)
        if self._failed is not None:
            raise self._failed

    def _next(self) -> int:
        """Begin something; return how many tasks it counts for."""
        rng = self._rng
        if rng.random() < _BATCH_SHARE:
            specs = [draw(rng) for _ in range(rng.randint(*_BATCH))]
            self._spawn(self._submit_many(specs))
            return len(specs)
        self._spawn(self._life(draw(rng)))
        return 1

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        """Keep what a piece of work has raised: nobody else waits for it."""
        self._under_way.discard(task)
        if not task.cancelled():
            self._failed = self._failed or task.exception()

    async def _life(self, spec: Spec) -> None:
        """Submit a task, and perhaps again, and perhaps cancel it."""
        rng = self._rng
        chance = rng.random()
        self._known.add(spec)
        if chance < 0.02:
            # Two at once, of which the second may be another content.
            other = replace(spec, payload=spec.payload + b"!") if chance < 0.005 else spec
            await asyncio.gather(self._submit(spec), self._submit(other, repeat=True))
            return
        answer = await self._submit(spec)
        tries = 0
        while isinstance(answer, UnknownOutcome) and rng.random() < 0.8 and tries < 3:
            tries += 1
            answer = await self._submit(spec, repeat=True)
        if chance < 0.04:
            # At once, or when there may be another leader and the task may be over.
            await self._pause(rng.choice((0.0, rng.uniform(0.5, 12.0))))
            await self._submit(spec, repeat=True)
        elif chance < 0.045:
            await self._submit(replace(spec, payload=spec.payload + b"?"), repeat=True)
        elif chance < (0.4 if spec.delay_ms else 0.06):
            await asyncio.sleep(rng.random() * 0.3)
            await self._cancel(spec)

    async def _pause(self, seconds: float) -> None:
        """Wait, but not beyond the end of the work."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def _submit(self, spec: Spec, *, repeat: bool = False) -> Submitted | TqError:
        deadline = self._rng.choice(_DEADLINES)
        return await submit(
            self._recorder, self._client, self._name, spec, deadline=deadline, repeat=repeat
        )

    async def _submit_many(self, specs: Sequence[Spec]) -> None:
        """Submit a batch; each of its tasks is an operation."""
        self._batches += 1
        batch = f"{self._name}/{self._batches}"
        for spec in specs:
            self._known.add(spec)
        operations = [
            self._recorder.begin(
                self._name,
                "submit",
                spec.hexadecimal,
                {**spec.arguments(repeat=False), "batch": batch},
            )
            for spec in specs
        ]
        try:
            answers: Sequence[Submitted | TqError] = await self._client.submit_many(
                [spec.new_task() for spec in specs], deadline="5s"
            )
        except TqError as error:
            answers = [error] * len(specs)
        for operation, answer in zip(operations, answers, strict=True):
            if isinstance(answer, Submitted):
                self._recorder.accept(operation, {"index": answer.log_index})
            else:
                self._recorder.end(operation, answer)

    async def _cancel(self, spec: Spec) -> None:
        await self._recorder.call(
            self._name,
            "cancel",
            lambda: self._client.cancel(spec.task_id, "chaos", deadline="4s"),
            told=lambda state: {"state": state},
            task=spec.hexadecimal,
        )


async def submit(
    recorder: Recorder,
    client: Client,
    who: str,
    spec: Spec,
    *,
    deadline: str,
    repeat: bool = False,
) -> Submitted | TqError:
    """Submit a task, on record.

    Args:
        recorder: Of the process.
        client: Which is asked.
        who: Its name.
        spec: The task.
        deadline: For the answer.
        repeat: It was submitted before.
    """
    task = spec.new_task()
    return await recorder.call(
        who,
        "submit",
        lambda: client.submit(
            task.name,
            task.payload,
            queue=task.queue,
            task_id=task.task_id,
            priority=task.priority,
            delay=task.delay,
            retry=task.retry,
            lease=task.lease,
            deadline=deadline,
        ),
        told=lambda submitted: {"index": submitted.log_index},
        task=spec.hexadecimal,
        arguments=spec.arguments(repeat=repeat),
    )
