"""Stand-ins for the worker's two edges: a cluster in memory, and a runner without threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tq.context import Ctx, bind
from tq.durations import Duration, seconds
from tq.errors import LeaseLost, TqError, UnknownSession
from tq.ids import TaskId
from tq.node_info import NodeInfo
from tq.runner import Execution, Failure, Outcome, Success, failure_of
from tq.serialization import JsonSerializer
from tq.task import AnyTask
from tq.worker_calls import Grant, WorkerSession


@dataclass
class FakeCluster:
    """Hands out tasks and takes results, like a leader that is always there.

    Attributes:
        calls: Every call it saw, as (verb, facts), in order.
        troubles: Errors to raise: for each verb, one per call until they are used up.
        beats: How long each heartbeat is held back.
    """

    lease_ms: int = 30_000
    calls: list[tuple[str, Any]] = field(default_factory=list)
    ended: dict[int, tuple[str, Any]] = field(default_factory=dict)
    held: dict[int, Grant] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)
    waiting: list[Grant] = field(default_factory=list)
    troubles: dict[str, list[TqError]] = field(default_factory=dict)
    on_call: Callable[[str], None] = lambda verb: None
    claim_deadlines: list[Duration | None] = field(default_factory=list)
    session: int = 0
    closed: bool = False
    info: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._changed = asyncio.Event()
        self._tokens = 100

    # ------------------------------------------------------------------ for the test

    def offer(
        self,
        name: str,
        *args: object,
        lease_ms: int | None = None,
        timeout_ms: int = 0,
        attempt: int = 1,
        payload: bytes | None = None,
    ) -> int:
        """Put one task into the line; return the token it will be claimed with."""
        self._tokens += 1
        self.waiting.append(
            Grant(
                task_id=TaskId.new(),
                token=self._tokens,
                queue="default",
                name=name,
                payload=JsonSerializer().dump_call(args, {}) if payload is None else payload,
                attempt=attempt,
                lease_ms=lease_ms or self.lease_ms,
                timeout_ms=timeout_ms,
                place=self._tokens,
            )
        )
        self._turn()
        return self._tokens

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is true of this cluster; it is looked at after every call."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def end_of(self, token: int) -> tuple[str, Any]:
        """Wait until a task's end was reported; return (verb, result or error)."""
        await self.until(lambda: token in self.ended)
        return self.ended[token]

    def seen(self, verb: str) -> list[Any]:
        """Return the facts of every call of one kind."""
        return [facts for name, facts in self.calls if name == verb]

    def _turn(self) -> None:
        self._changed.set()

    async def _take(self, verb: str, facts: object = None) -> None:
        self.calls.append((verb, facts))
        self._turn()
        self.on_call(verb)
        await asyncio.sleep(0)
        if self.troubles.get(verb):
            raise self.troubles[verb].pop(0)

    def _end(self, verb: str, token: int, value: object) -> None:
        if token in self.lost or token not in self.held:
            raise LeaseLost("LEASE_LOST", f"token {token}")
        del self.held[token]
        self.ended[token] = (verb, value)
        self._turn()

    # ---------------------------------------------------------------- for the worker

    async def register_worker(
        self,
        worker_id: bytes,
        *,
        name: str,
        queues: Sequence[str],
        capabilities: Mapping[str, str] | None = None,
    ) -> WorkerSession:
        await self._take("register", {"worker_id": worker_id, "name": name, "queues": list(queues)})
        self.held.clear()
        self.session += 1
        return WorkerSession(self.session, self.lease_ms)

    async def node_info(self) -> NodeInfo:
        return NodeInfo.of(self.info)

    async def deregister_worker(self, session: int) -> None:
        await self._take("deregister", session)
        self.held.clear()

    async def claim(
        self,
        session: int,
        queues: Sequence[str],
        count: int,
        *,
        wait: Duration = 0,
        deadline: Duration | None = None,
    ) -> list[Grant]:
        self.claim_deadlines.append(deadline)
        await self._take("claim", count)
        self._check(session)
        try:
            async with asyncio.timeout(seconds(wait)):
                await self.until(lambda: bool(self.waiting))
        except TimeoutError:
            return []
        grants, self.waiting = self.waiting[:count], self.waiting[count:]
        self.held.update((grant.token, grant) for grant in grants)
        return grants

    async def heartbeat(
        self, session: int, tokens: Sequence[int] = (), stats: Mapping[str, object] | None = None
    ) -> list[int]:
        await self._take("heartbeat", list(tokens))
        self._check(session)
        return [token for token in tokens if token in self.lost or token not in self.held]

    async def complete(self, task_id: TaskId, token: int, result: bytes = b"") -> str:
        await self._take("complete", (token, result))
        self._end("complete", token, result)
        return "completed"

    async def fail(
        self, task_id: TaskId, token: int, error: str, *, retry: bool = True, detail: bytes = b""
    ) -> str:
        await self._take("fail", (token, error, retry, detail))
        self._end("fail", token, (error, retry))
        return "failed"

    async def progress(self, task_id: TaskId, token: int, permille: int, note: str = "") -> None:
        await self._take("progress", (token, permille, note))
        if token in self.lost:
            raise LeaseLost("LEASE_LOST", f"token {token}")

    async def release(self, task_id: TaskId, token: int) -> None:
        await self._take("release", token)
        self._end("release", token, None)

    async def close(self) -> None:
        self.closed = True

    def _check(self, session: int) -> None:
        if session != self.session:
            raise UnknownSession("UNKNOWN_SESSION", f"session {session}")


class InlineRunner:
    """Runs tasks in the worker's own loop, so that virtual time is enough for them."""

    def __init__(self) -> None:
        self.contexts: list[Ctx] = []

    def start(self, task: AnyTask, payload: bytes, ctx: Ctx) -> Execution:
        self.contexts.append(ctx)
        execution = Execution(asyncio.get_running_loop())
        running = asyncio.get_running_loop().create_task(
            self._run(task, payload), context=bind(ctx)
        )
        execution.on_cancel(running.cancel)
        running.add_done_callback(
            lambda done: execution.resolve(
                Failure("CancelledError") if done.cancelled() else done.result()
            )
        )
        return execution

    async def _run(self, task: AnyTask, payload: bytes) -> Outcome:
        try:
            value = task.invoke(payload)
            return Success(task.dump_result(await value if task.is_async else value))
        except Exception as error:  # noqa: BLE001 -- a task may raise anything
            return failure_of(error)

    def close(self) -> None:
        """Nothing to let go."""
