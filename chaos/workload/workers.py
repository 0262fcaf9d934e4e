"""Workers: sessions, claims, heartbeats, and every way an attempt can end.

A worker here is less careful than one of the SDK: it does not count its leases, and now and
then reports with a token it knows to be lost. The cluster has to see to it that no harm
comes of that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from chaos.workload.caller import Caller, Seat
from chaos.workload.plan import QUEUES
from tq import Client, TqError, UnknownSession
from tq.client import Grant, WorkerSession

SLOTS: Final = 20
BEAT_S: Final = 0.6
_DEADLINE: Final = "4s"
_PAUSE_S: Final = 0.1
_BRIEF_MS: Final = 1_000
"""Shortest lease there is."""


class Worker(Caller):
    """One worker.

    Attributes:
        lease_ms: The cluster's; 0 before it had a session.
    """

    def __init__(self, seat: Seat) -> None:
        super().__init__(seat)
        self._id = seat.rng.randbytes(16)
        self._session: WorkerSession | None = None
        self._registering = asyncio.Lock()
        self._held: dict[int, Grant] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._group: asyncio.TaskGroup | None = None
        self.lease_ms = 0

    async def run(self, *, stop: asyncio.Event) -> None:
        """Claim until told to stop; then finish what was claimed, and sign off."""
        await self._register(None)
        async with asyncio.TaskGroup() as group:
            self._group = group
            beating = group.create_task(self._beat_forever())
            await self._claim_until(stop)
            while self._running:
                await asyncio.wait(self._running)
            beating.cancel()
        await self._deregister()

    # ---------------------------------------------------------------------- session

    async def _register(self, ended: WorkerSession | None) -> None:
        """Open a session, in place of one that has ended."""
        async with self._registering:
            while self._session is ended:
                answer = await self._recorder.call(
                    self._name,
                    "register",
                    lambda: self._client.register_worker(
                        self._id, name=self._name, queues=QUEUES, deadline=_DEADLINE
                    ),
                    told=lambda session: {"session": session.session},
                )
                if isinstance(answer, TqError):
                    await asyncio.sleep(_PAUSE_S)
                else:
                    self._held.clear()
                    self._session = answer
                    self.lease_ms = answer.lease_ms

    async def _deregister(self) -> None:
        session = self._session
        if session is not None:
            await self._recorder.call(
                self._name,
                "deregister",
                lambda: self._client.deregister_worker(session.session, deadline=_DEADLINE),
                told=lambda _: {},
                arguments={"session": session.session},
            )

    async def _beat_forever(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            session, tokens = self._session, sorted(self._held)
            assert session is not None
            answer = await self._recorder.call(
                self._name,
                "heartbeat",
                _beat(self._client, session.session, tokens),
                told=lambda lost: {"lost": lost},
                arguments={"session": session.session, "tokens": tokens},
            )
            if isinstance(answer, UnknownSession):
                await self._register(session)
            elif not isinstance(answer, TqError):
                for token in answer:
                    self._held.pop(token, None)

    # ----------------------------------------------------------------------- claims

    async def _claim_until(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            free = SLOTS - len(self._running)
            if free <= 0:
                await asyncio.sleep(0.02)
                continue
            # Most wait for any queue: only of them can be said that work must meet them.
            queues = [self._rng.choice(QUEUES)] if self._rng.random() < 0.1 else list(QUEUES)
            await self._claim(queues, min(free, self._rng.choice((1, 2, 5, 10))))

    async def _claim(self, queues: list[str], count: int) -> None:
        session = self._session
        assert session is not None
        wait_ms = self._rng.choice((0, 300, 1_000, 1_000))
        answer = await self._recorder.call(
            self._name,
            "claim",
            lambda: self._client.claim(
                session.session, queues, count, wait=wait_ms / 1000, deadline=_DEADLINE
            ),
            told=lambda grants: {"grants": [_told(grant) for grant in grants]},
            arguments={
                "session": session.session,
                "queues": queues,
                "count": count,
                "wait_ms": wait_ms,
            },
        )
        if isinstance(answer, UnknownSession):
            await self._register(session)
        elif isinstance(answer, TqError):
            await asyncio.sleep(_PAUSE_S)
        else:
            for grant in answer:
                self._held[grant.token] = grant
                self._spawn(self._attempt(grant))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._group is not None
        task = self._group.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    # --------------------------------------------------------------------- attempts

    async def _attempt(self, grant: Grant) -> None:
        """Work on a task, and end it in one of the ways there are."""
        rng = self._rng
        # A second attempt is long, so that whoever had the first comes back while it lasts.
        long = rng.random() < (0.03 if grant.attempt == 1 else 0.6)
        await asyncio.sleep(rng.uniform(0.5, 3.5) if long else rng.uniform(0.0, 0.06))
        chance = rng.random()
        if chance < 0.08:
            await self._progress(grant, rng.randint(0, 1000))
        elif chance < 0.11:
            await self._extend(grant, rng.choice((1_500, 4_000, 6_000)))
        if grant.token not in self._held and rng.random() < 0.5:
            return  # told that it is lost; the others do not listen
        chance = rng.random()
        if chance < 0.015:
            # Silent from now on, and back with a result when the lease is long over.
            self._held.pop(grant.token, None)
            await asyncio.sleep(grant.lease_ms / 1000 * rng.uniform(0.9, 1.5))
            chance = rng.uniform(0.03, 1.0)
        if chance < 0.03:
            await self._report(grant, "release", self._client.release)
        elif chance < 0.045:
            await self._release_in_the_end(grant)
        elif chance < 0.115:
            await self._fail(grant, retry=chance < 0.105)
        else:
            await self._complete(grant)
        self._held.pop(grant.token, None)

    async def _release_in_the_end(self, grant: Grant) -> None:
        """Give a task back in the moment in which its lease runs out.

        By the time the cluster has agreed that it did, another may have it.
        """
        self._held.pop(grant.token, None)
        await self._extend(grant, _BRIEF_MS)
        await asyncio.sleep(_BRIEF_MS / 1000 + self._rng.uniform(-0.15, 0.05))
        await self._report(grant, "release", self._client.release)

    async def _complete(self, grant: Grant) -> None:
        result = f"{self._name} {grant.token}".encode()
        again = 2 if self._rng.random() < 0.01 else 1
        for _ in range(again):
            await self._recorder.call(
                self._name,
                "complete",
                lambda: self._client.complete(
                    grant.task_id, grant.token, result, deadline=_DEADLINE
                ),
                told=lambda state: {"state": state},
                task=grant.task_id.raw.hex(),
                arguments={"token": grant.token, "result": result.hex()},
            )

    async def _fail(self, grant: Grant, *, retry: bool) -> None:
        await self._recorder.call(
            self._name,
            "fail",
            lambda: self._client.fail(
                grant.task_id, grant.token, "chaos", retry=retry, deadline=_DEADLINE
            ),
            told=lambda state: {"state": state},
            task=grant.task_id.raw.hex(),
            arguments={"token": grant.token, "retry": retry},
        )

    async def _progress(self, grant: Grant, permille: int) -> None:
        await self._report(
            grant,
            "progress",
            lambda task_id, token, *, deadline: self._client.progress(
                task_id, token, permille, deadline=deadline
            ),
            permille=permille,
        )

    async def _extend(self, grant: Grant, lease_ms: int) -> None:
        await self._report(
            grant,
            "extend",
            lambda task_id, token, *, deadline: self._client.extend(
                task_id, token, lease_ms / 1000, deadline=deadline
            ),
            lease_ms=lease_ms,
        )

    async def _report(
        self, grant: Grant, kind: str, calling: Callable[..., Awaitable[None]], **more: int
    ) -> None:
        await self._recorder.call(
            self._name,
            kind,
            lambda: calling(grant.task_id, grant.token, deadline=_DEADLINE),
            told=lambda _: {},
            task=grant.task_id.raw.hex(),
            arguments={"token": grant.token, **more},
        )


def _beat(client: Client, session: int, tokens: list[int]) -> Callable[[], Awaitable[list[int]]]:
    return lambda: client.heartbeat(session, tokens, deadline="2s")


def _told(grant: Grant) -> dict[str, object]:
    return {
        "task": grant.task_id.raw.hex(),
        "token": grant.token,
        "queue": grant.queue,
        "attempt": grant.attempt,
        "lease_ms": grant.lease_ms,
        "place": grant.place,
    }
