"""Visitors: clients that come, submit, and go, each by way of a node of its own choice.

A client that stays with its leader hears of a new one only when the old one gives up. Visitors
work with the new one before that. What they were told, readers at the old one must be told too.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Final

from chaos.workload.producers import submit
from chaos.workload.recorder import Recorder
from chaos.workload.tasks import Known, draw
from tq import Client, Submitted

_UNDER_WAY_MAX: Final = 20
_TASKS: Final = 2
_DEADLINE: Final = "3s"


class Visitor:
    """Opens one client after the other.

    Args:
        name: Theirs begin with it.
        servers: Client addresses of the cluster.
        connect: Makes a client that asks these servers in this order.
        recorder: Of the process.
        known: Tasks of the process.
        rng: Draws what they do.
    """

    def __init__(
        self,
        name: str,
        *,
        servers: Sequence[str],
        connect: Callable[[Sequence[str], str], Client],
        recorder: Recorder,
        known: Known,
        rng: random.Random,
    ) -> None:
        self._name = name
        self._servers = list(servers)
        self._connect = connect
        self._recorder = recorder
        self._known = known
        self._rng = rng

    async def run(self, *, visits_per_s: float, stop: asyncio.Event) -> None:
        """Visit until told to stop; then wait for visits under way."""
        number = 0
        room = asyncio.Semaphore(_UNDER_WAY_MAX)
        async with asyncio.TaskGroup() as visits:
            while not stop.is_set():
                await asyncio.sleep(self._rng.expovariate(visits_per_s))
                number += 1
                await room.acquire()
                visit = visits.create_task(self.visit(f"{self._name}-{number}"))
                visit.add_done_callback(lambda _: room.release())

    async def visit(self, who: str) -> None:
        """Come, submit, and go."""
        servers = self._rng.sample(self._servers, len(self._servers))
        client = self._connect(servers, who)
        try:
            for _ in range(_TASKS):
                spec = draw(self._rng)
                self._known.add(spec)
                answer = await submit(self._recorder, client, who, spec, deadline=_DEADLINE)
                if isinstance(answer, Submitted):
                    self._known.tell(spec)
        finally:
            await client.close()
