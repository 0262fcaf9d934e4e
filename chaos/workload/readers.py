"""Readers: the state of tasks while they live, linearizable and stale, and of all at the end."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from chaos.stories import FINAL
from chaos.workload.caller import Caller
from chaos.workload.recorder import Recorder
from chaos.workload.tasks import Known
from tq import Client, NotFound, TaskId, TaskPage, TaskStatus, TqError

_DEADLINE: Final = "4s"
_LISTS: Final = 0.05
_STALE: Final = 0.35
_TOLD: Final = 0.2
"""Shares of all reads."""
_PAGE: Final = 50
_FINAL_DEADLINE_S: Final = 20
_FINAL_TRIES: Final = 5
_FINAL_AT_ONCE: Final = 24


class Reader(Caller):
    """One client that reads."""

    async def run(self, *, reads_per_s: float, stop: asyncio.Event) -> None:
        """Read one task after the other until told to stop."""
        while not stop.is_set():
            await asyncio.sleep(self._rng.expovariate(reads_per_s))
            draw = self._rng.random()
            # The last shares are of those that are read as they are.
            is_told = draw >= 1 - _TOLD
            spec = self._known.told(self._rng) if is_told else self._known.any(self._rng)
            if spec is None:
                continue
            if draw < _LISTS:
                await self._list(spec.task_id)
            elif draw < _LISTS + _STALE:
                await self._stale(spec.task_id)
            else:
                await self._linearizable(spec.task_id)

    async def _linearizable(self, task_id: TaskId) -> None:
        await read(self._recorder, self._client, self._name, task_id, deadline=_DEADLINE)

    async def _stale(self, task_id: TaskId) -> None:
        await self._recorder.call(
            self._name,
            "get",
            lambda: self._client.status(task_id, consistency="stale", deadline=_DEADLINE),
            told=_told,
            task=task_id.raw.hex(),
            arguments={"consistency": "stale"},
            absent=_absent,
        )

    async def _list(self, after: TaskId) -> None:
        """Read a page of the list that begins behind a task, as any node has it."""
        await self._recorder.call(
            self._name,
            "list",
            lambda: self._client.list_tasks(
                after=after, limit=_PAGE, consistency="stale", deadline=_DEADLINE
            ),
            told=_listed,
            arguments={"after": after.raw.hex(), "limit": _PAGE},
        )


async def read(
    recorder: Recorder, client: Client, who: str, task_id: TaskId, *, deadline: str | float
) -> TaskStatus | TqError:
    """Read a task as it is, on record."""
    return await recorder.call(
        who,
        "get",
        lambda: client.status(task_id, deadline=deadline),
        told=_told,
        task=task_id.raw.hex(),
        arguments={"consistency": "linearizable"},
    )


async def read_all(recorder: Recorder, client: Client, known: Known) -> int:
    """Read every task when all work is done; return of how many there is no answer."""
    waiting = list(known.all.values())
    missing = 0

    async def in_turn() -> None:
        nonlocal missing
        while waiting:
            task_id = waiting.pop()
            for _ in range(_FINAL_TRIES):
                answer = await read(recorder, client, FINAL, task_id, deadline=_FINAL_DEADLINE_S)
                if isinstance(answer, TaskStatus | NotFound):
                    break
            else:
                missing += 1

    await asyncio.gather(*(in_turn() for _ in range(_FINAL_AT_ONCE)))
    return missing


def _told(status: TaskStatus) -> dict[str, Any]:
    value: dict[str, Any] = {
        "state": status.state,
        "attempt": status.attempt,
        "failures": status.failures,
        "lost": status.lost,
        "result": None if status.result is None else status.result.hex(),
        "progress": status.progress,
    }
    if status.applied_index is not None:
        value["applied"] = status.applied_index
    return value


def _listed(page: TaskPage) -> dict[str, Any]:
    tasks = [status.task_id.raw.hex() for status in page.tasks]
    return {"tasks": tasks, "until": page.after, "applied": page.applied_index}


def _absent(error: TqError) -> dict[str, Any] | None:
    """Return what a stale read says that finds nothing; None if it says nothing."""
    if isinstance(error, NotFound) and error.applied_index is not None:
        return {"state": None, "applied": error.applied_index}
    return None
