"""The worker's half of the client: sessions, claims, heartbeats and results."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tq.caller import Caller
from tq.durations import Duration, milliseconds
from tq.errors import ProtocolError, UnknownSession
from tq.ids import TaskId
from tq.new_task import too_large
from tq.protocol import (
    ERROR_MAX_BYTES,
    NOTE_MAX_BYTES,
    PAYLOAD_MAX_BYTES,
    WAIT_MAX_MS,
    ResultOutcome,
    Type,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class WorkerSession(NamedTuple):
    """A worker as the cluster knows it.

    Attributes:
        session: Number that the worker's other calls carry.
        lease_ms: How long the cluster waits for a heartbeat, milliseconds.
    """

    session: int
    lease_ms: int


class Grant(NamedTuple):
    """A task, claimed.

    Attributes:
        task_id: The task.
        token: Fencing token: later claims of the task have larger ones.
        queue: Where it came from.
        name: The task function's name.
        payload: As it was submitted.
        attempt: This claim's number, from 1.
        lease_ms: How long the lease lasts without a heartbeat, milliseconds.
        timeout_ms: How long the attempt may run, milliseconds; 0 for no limit.
        place: The task's place in its line.
    """

    task_id: TaskId
    token: int
    queue: str
    name: str
    payload: bytes
    attempt: int
    lease_ms: int
    timeout_ms: int
    place: int


class WorkerCalls(Caller):
    """What workers say. `tq.Client` has these methods."""

    async def register_worker(
        self,
        worker_id: bytes,
        *,
        name: str,
        queues: Sequence[str],
        capabilities: Mapping[str, str] | None = None,
        deadline: Duration | None = None,
    ) -> WorkerSession:
        """Open a session.

        Registering a known worker id again ends its older session and gives back what
        that one had claimed.

        Args:
            worker_id: 16 bytes of the worker's own choice.
            name: For people.
            queues: The queues it serves.
            capabilities: Facts about it, for people.
            deadline: Instead of the client's own.
        """
        answer = await self._call(
            Type.REGISTER_WORKER,
            [worker_id, name, list(queues), dict(capabilities or {})],
            deadline=deadline,
            size=3,
        )
        return WorkerSession(answer[1], answer[2])

    async def deregister_worker(self, session: int, *, deadline: Duration | None = None) -> None:
        """End a session; what it had claimed goes back. Ending it twice is no error."""
        try:
            await self._call(Type.DEREGISTER_WORKER, [session], deadline=deadline)
        except UnknownSession:
            return

    async def heartbeat(
        self,
        session: int,
        tokens: Sequence[int] = (),
        stats: Mapping[str, object] | None = None,
        *,
        deadline: Duration | None = None,
    ) -> list[int]:
        """Keep a session and its leases alive.

        Args:
            session: From `register_worker`.
            tokens: The leases to renew: only those are.
            stats: Facts about the worker, for people.
            deadline: Instead of the client's own.

        Returns:
            The tokens among them whose lease is lost.

        Raises:
            UnknownSession: It has ended; all its leases are lost.
        """
        fields: list[object] = [session, list(tokens)]
        if stats is not None:
            fields.append(dict(stats))
        answer = await self._call(Type.HEARTBEAT, fields, deadline=deadline, size=2)
        return list(answer[1])

    async def claim(
        self,
        session: int,
        queues: Sequence[str],
        count: int,
        *,
        wait: Duration = 0,
        deadline: Duration | None = None,
    ) -> list[Grant]:
        """Claim up to `count` tasks, highest priority first.

        Args:
            session: From `register_worker`.
            queues: 1..64 of them.
            count: 1 up to the cluster's claim size.
            wait: How long to wait for the first task, up to a minute.
            deadline: For the answer, from the end of the wait.

        Returns:
            The tasks; empty if there was none until the wait was over.

        Raises:
            UnknownOutcome: Tasks may have been claimed; their leases will run out.
            UnknownSession: The session has ended.
        """
        wait_ms = min(milliseconds(wait), WAIT_MAX_MS)
        answer = await self._call(
            Type.CLAIM_TASK,
            [session, list(queues), count, wait_ms],
            deadline=deadline,
            extra_s=wait_ms / 1000,
            size=2,
        )
        try:
            return [Grant(TaskId.from_bytes(grant[0]), *grant[1:]) for grant in answer[1]]
        except (TypeError, ValueError, IndexError) as error:
            raise ProtocolError(f"the grants make no sense: {error}") from None

    async def complete(
        self,
        task_id: TaskId | str,
        token: int,
        result: bytes = b"",
        *,
        deadline: Duration | None = None,
    ) -> str:
        """Say that an attempt succeeded.

        Args:
            task_id: The task.
            token: From its grant.
            result: Opaque bytes, up to 10 MiB.
            deadline: Instead of the client's own.

        Returns:
            The task's state after it.

        Raises:
            LeaseLost: The task is someone else's now; the result was not taken.
            BadRequest: The result is over the limit.
        """
        fields = [TaskId(task_id).raw, token, int(ResultOutcome.SUCCESS), result, ""]
        return await self._result(fields, result, deadline)

    async def fail(
        self,
        task_id: TaskId | str,
        token: int,
        error: str,
        *,
        retry: bool = True,
        detail: bytes = b"",
        deadline: Duration | None = None,
    ) -> str:
        """Say that an attempt failed.

        Args:
            task_id: The task.
            token: From its grant.
            error: What went wrong; cut to 8 KiB.
            retry: Whether the retry policy applies; else it is a dead letter at once.
            detail: Opaque bytes, kept as the result.
            deadline: Instead of the client's own.

        Returns:
            The task's state after it: `failed` or `dead_letter`.

        Raises:
            LeaseLost: The task is someone else's now; the failure was not counted. After a lost
                connection an earlier copy of this request may have been.
        """
        outcome = ResultOutcome.FAILURE if retry else ResultOutcome.FAILURE_WITHOUT_RETRY
        text = _shortened(error, ERROR_MAX_BYTES)
        fields = [TaskId(task_id).raw, token, int(outcome), detail, text]
        return await self._result(fields, detail, deadline)

    async def extend(
        self,
        task_id: TaskId | str,
        token: int,
        lease: Duration,
        *,
        deadline: Duration | None = None,
    ) -> None:
        """Change the length of one lease, from now on.

        Raises:
            LeaseLost: The task is someone else's now.
        """
        fields = [TaskId(task_id).raw, token, milliseconds(lease)]
        await self._call(Type.EXTEND, fields, deadline=deadline)

    async def progress(
        self,
        task_id: TaskId | str,
        token: int,
        permille: int,
        note: str = "",
        *,
        deadline: Duration | None = None,
    ) -> None:
        """Say how far an attempt is.

        Args:
            task_id: The task.
            token: From its grant.
            permille: 0..1000.
            note: For people; cut to 1 KiB.
            deadline: Instead of the client's own.

        Raises:
            LeaseLost: The task is someone else's now.
        """
        fields = [TaskId(task_id).raw, token, permille, _shortened(note, NOTE_MAX_BYTES)]
        await self._call(Type.PROGRESS, fields, deadline=deadline)

    async def release(
        self, task_id: TaskId | str, token: int, *, deadline: Duration | None = None
    ) -> None:
        """Give a claimed task back; it keeps its place in the line.

        Raises:
            LeaseLost: The task is no longer held with this token. After a lost
                connection that may be because an earlier copy of this request did it.
        """
        await self._call(Type.RELEASE, [TaskId(task_id).raw, token], deadline=deadline)

    async def _result(
        self, fields: Sequence[object], result: bytes, deadline: Duration | None
    ) -> str:
        if len(result) > PAYLOAD_MAX_BYTES:
            raise too_large("result", len(result))
        answer = await self._call(Type.TASK_RESULT, fields, deadline=deadline, size=2)
        return str(answer[1])


def _shortened(text: str, size_max_bytes: int) -> str:
    raw = text.encode(errors="replace")
    return text if len(raw) <= size_max_bytes else raw[:size_max_bytes].decode(errors="ignore")
