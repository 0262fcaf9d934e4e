"""A bounded load of unique tasks: producers, workers, and the record of what was promised."""

from __future__ import annotations

import asyncio
import itertools
import os
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from tq import Client, LeaseLost, NewTask, Submitted, TqError, UnknownSession
from tq.client import Grant, WorkerSession

QUEUE = "load"


@dataclass
class Load:
    """Submit `total` tasks at an even pace while workers complete them.

    Producers are clients that take turns. `offered` counts what they have begun to submit:
    all of it, unless `enough` is set before. `accepted` holds the ids whose submit was
    acknowledged; `completed` counts the acknowledged completions per task id.
    """

    servers: str
    total: int
    seconds: float
    workers: int = 60
    batch: int = 10
    hold_s: float = 0.8
    producers: int = 1
    offered: int = 0
    enough: asyncio.Event = field(default_factory=asyncio.Event)
    accepted: set[str] = field(default_factory=set)
    completed: dict[str, int] = field(default_factory=dict)
    lease_lost: int = 0
    _marks: list[tuple[int, asyncio.Event]] = field(default_factory=list)

    def mark(self, fraction: float) -> asyncio.Event:
        """Return an event that is set when this part of the tasks has been acknowledged."""
        return self._at(int(self.total * fraction))

    async def more(self, count: int) -> None:
        """Wait until so many more tasks than now have been acknowledged."""
        await self._at(len(self.accepted) + count).wait()

    def _at(self, threshold: int) -> asyncio.Event:
        event = asyncio.Event()
        self._marks.append((threshold, event))
        return event

    async def produce(self) -> None:
        """Submit everything; returns when the last submit was acknowledged."""
        loop = asyncio.get_running_loop()
        started, size = loop.time(), 20
        async with AsyncExitStack() as stack:
            turns = itertools.cycle(
                [
                    await stack.enter_async_context(Client(self.servers, deadline="60s"))
                    for _ in range(self.producers)
                ]
            )
            group = await stack.enter_async_context(asyncio.TaskGroup())
            for first in range(0, self.total, size):
                due = started + self.seconds * first / self.total
                await asyncio.sleep(max(0.0, due - loop.time()))
                if self.enough.is_set():
                    break
                count = min(size, self.total - first)
                self.offered += count
                group.create_task(self._submit(next(turns), count))

    async def _submit(self, client: Client, count: int) -> None:
        tasks = [NewTask(name="load", payload=os.urandom(64), queue=QUEUE) for _ in range(count)]
        for outcome in await client.submit_many(tasks):
            if not isinstance(outcome, Submitted):
                raise outcome
            self.accepted.add(str(outcome.task_id))
        for threshold, event in self._marks:
            if len(self.accepted) >= threshold:
                event.set()

    async def work(self) -> None:
        """Run the workers until they are cancelled."""
        async with Client(self.servers, deadline="60s") as client, asyncio.TaskGroup() as group:
            for number in range(self.workers):
                group.create_task(self._worker(client, number))

    async def _worker(self, client: Client, number: int) -> None:
        session = await self._register(client, number)
        while True:
            try:
                grants = await client.claim(session.session, [QUEUE], self.batch, wait="5s")
            except UnknownSession:
                session = await self._register(client, number)
                continue
            if grants:
                await client.heartbeat(session.session, [grant.token for grant in grants])
                await asyncio.sleep(self.hold_s)
                await asyncio.gather(*(self._complete(client, grant) for grant in grants))

    async def _register(self, client: Client, number: int) -> WorkerSession:
        return await client.register_worker(
            os.urandom(16), name=f"worker-{number}", queues=[QUEUE], capabilities={}
        )

    async def _complete(self, client: Client, grant: Grant) -> None:
        task_id = str(grant.task_id)
        try:
            await client.complete(grant.task_id, grant.token, b"done")
        except LeaseLost:
            self.lease_lost += 1
            return
        self.completed[task_id] = self.completed.get(task_id, 0) + 1


async def wait_all_completed(servers: str, ids: set[str]) -> dict[str, str]:
    """Return the state of every id that does not end as completed; wait for each up to 60 s."""
    other: dict[str, str] = {}
    gate = asyncio.Semaphore(200)

    async with Client(servers, deadline="60s") as client:

        async def check(task_id: str) -> None:
            async with gate:
                try:
                    status = await client.wait(task_id, timeout="60s")
                except TqError as error:
                    other[task_id] = repr(error)
                    return
                if status.state != "completed":
                    other[task_id] = status.state

        await asyncio.gather(*(check(task_id) for task_id in ids))
    return other
