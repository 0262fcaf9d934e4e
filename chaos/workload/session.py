"""One process of clients, from its plan to its end."""

from __future__ import annotations

import asyncio
import json
import random
import time
from contextlib import AsyncExitStack
from typing import Final

from chaos.workload.caller import Seat
from chaos.workload.plan import Plan
from chaos.workload.producers import Producer
from chaos.workload.readers import Reader, read_all
from chaos.workload.recorder import Recorder
from chaos.workload.tasks import Known
from chaos.workload.visitors import Visitor
from chaos.workload.workers import Worker
from tq import Client, TqError

READS_PER_S: Final = 35.0
_LIVE: Final = ("scheduled", "pending", "in_progress", "failed")


class Session:
    """The clients of one process.

    Args:
        plan: What they are to do.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        path, first = plan.next_journal()
        self._recorder = Recorder(path, first=first)
        self._known = Known()
        self._stack = AsyncExitStack()
        self._workers: list[Worker] = []
        self._producing = asyncio.Event()
        """Set when nothing is submitted any more."""
        self._claiming = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop; then end what there is, and say how that went."""
        plan = self._plan
        began_s = time.monotonic()
        try:
            async with self._stack, asyncio.TaskGroup() as group:
                self._start(group)
                await stop.wait()
                self._producing.set()
                live = await self._drain() if plan.producers else 0
                self._claiming.set()
            missing = 0
            if plan.producers:
                final = plan.access.client(plan.servers, name="final", deadline="60s")
                async with final as client:
                    missing = await read_all(self._recorder, client, self._known)
        finally:
            self._recorder.close()
        told = {
            "live": live,
            "missing": missing,
            "tasks": len(self._known.all),
            "lease_ms": max((worker.lease_ms for worker in self._workers), default=0),
            "refused": self._recorder.refused,
            "seconds": round(time.monotonic() - began_s, 3),
        }
        plan.told.write_text(json.dumps(told) + "\n", encoding="utf-8")

    def _start(self, group: asyncio.TaskGroup) -> None:
        plan = self._plan
        for number in range(plan.producers):
            producer = Producer(self._seat(f"producer-{number}"))
            pace = plan.tasks_per_s / plan.producers
            group.create_task(producer.run(tasks_per_s=pace, stop=self._producing))
        for number in range(plan.workers):
            worker = Worker(self._seat(f"worker-{number}"))
            self._workers.append(worker)
            group.create_task(worker.run(stop=self._claiming))
        for number in range(plan.readers):
            reader = Reader(self._seat(f"reader-{number}"))
            pace = READS_PER_S / plan.readers
            group.create_task(reader.run(reads_per_s=pace, stop=self._producing))
        if plan.visits_per_s:
            name = f"{plan.name}-visitor"
            visitor = Visitor(
                name,
                servers=plan.servers.split(","),
                connect=lambda servers, who: plan.access.client(",".join(servers), name=who),
                recorder=self._recorder,
                known=self._known,
                rng=self._rng(name),
            )
            group.create_task(visitor.run(visits_per_s=plan.visits_per_s, stop=self._producing))

    def _seat(self, role: str) -> Seat:
        name = f"{self._plan.name}-{role}"
        return Seat(
            name=name,
            client=self._client(name),
            recorder=self._recorder,
            known=self._known,
            rng=self._rng(name),
        )

    def _client(self, name: str) -> Client:
        rng = self._rng(f"{name} client")
        client = self._plan.access.client(self._plan.servers, name=name, rng=rng)
        self._stack.push_async_callback(client.close)
        return client

    def _rng(self, name: str) -> random.Random:
        return random.Random(f"{self._plan.seed} {name}")

    async def _drain(self) -> int:
        """Wait until no task is left to do; return how many are, when the time is over."""
        deadline_s = time.monotonic() + self._plan.drain_s
        client = self._client(f"{self._plan.name}-drain")
        live = -1
        while live and time.monotonic() < deadline_s:
            await asyncio.sleep(0.2)
            try:
                states = (await client.stats(deadline="5s"))["states"]
            except TqError:
                continue
            live = sum(states.get(state, 0) for state in _LIVE)
        return live
