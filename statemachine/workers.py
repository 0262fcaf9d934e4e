"""Sessions of registered workers and the leases each of them holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, cast

from statemachine.codec import pack, unpack
from statemachine.commands import RegisterWorker
from statemachine.outcomes import Session
from statemachine.task import Task
from statemachine.types import SessionId, Token

RECORD_VERSION: Final = 1


class WorkerSession:
    """One registration of a worker.

    Attributes:
        claims: Live leases: request id of the claim -> token -> task, both in order of
            token. A claim whose leases all ended is not here.
        leases: Number of live leases.
    """

    __slots__ = (
        "capabilities",
        "claims",
        "leases",
        "name",
        "namespace",
        "principal",
        "queues",
        "registered_at_ms",
        "session",
        "worker_id",
    )

    def __init__(self, session: SessionId, command: RegisterWorker, registered_at_ms: int) -> None:
        self.session = session
        self.worker_id = command.worker_id
        self.name = command.name
        self.queues = command.queues
        self.capabilities = command.capabilities
        self.namespace = command.namespace
        self.principal = command.principal
        self.registered_at_ms = registered_at_ms
        self.claims: dict[int, dict[Token, Task]] = {}
        self.leases = 0

    def hold(self, task: Task) -> None:
        """Add a task that was leased to this session, in order of token."""
        self.claims.setdefault(task.claim_id, {})[task.token] = task
        self.leases += 1
        task.session = self

    def let_go(self, task: Task) -> None:
        """Remove a task whose lease ends."""
        held = self.claims[task.claim_id]
        del held[task.token]
        if not held:
            del self.claims[task.claim_id]
        self.leases -= 1
        task.session = None

    def tasks(self) -> list[Task]:
        """Return the leased tasks in order of token."""
        return [task for held in self.claims.values() for task in held.values()]

    def view(self) -> Session:
        """Return what is told about the session."""
        return Session(
            self.session,
            self.worker_id,
            self.name,
            self.queues,
            self.capabilities,
            self.namespace,
            self.principal,
            self.registered_at_ms,
            [task.token for task in self.tasks()],
        )


class Sessions:
    """All live sessions, at most one of each worker.

    Attributes:
        by_id: In order of registration; only to be read.
    """

    __slots__ = ("_by_worker", "by_id")

    def __init__(self) -> None:
        self.by_id: dict[SessionId, WorkerSession] = {}
        self._by_worker: dict[tuple[str, bytes], WorkerSession] = {}

    def __len__(self) -> int:
        return len(self.by_id)

    def __iter__(self) -> Iterator[WorkerSession]:
        """In order of registration."""
        return iter(self.by_id.values())

    def get(self, session: SessionId) -> WorkerSession | None:
        """Return a live session."""
        return self.by_id.get(session)

    def of_worker(self, namespace: str, worker_id: bytes) -> WorkerSession | None:
        """Return the live session of a worker."""
        return self._by_worker.get((namespace, worker_id))

    def add(self, session: WorkerSession) -> None:
        """Add a session of a worker that has none."""
        worker = (session.namespace, session.worker_id)
        assert worker not in self._by_worker
        self._by_worker[worker] = session
        self.by_id[session.session] = session

    def remove(self, session: WorkerSession) -> None:
        """Remove a session that holds no lease any more."""
        assert session.leases == 0
        del self._by_worker[session.namespace, session.worker_id]
        del self.by_id[session.session]


def encode_session(session: WorkerSession) -> bytes:
    """Return the session's canonical record; its leases are in the tasks' records."""
    return pack(
        (
            RECORD_VERSION,
            session.worker_id,
            session.name,
            session.queues,
            session.capabilities,
            session.namespace,
            session.principal,
            session.registered_at_ms,
        )
    )


def decode_session(session: SessionId, record: bytes) -> WorkerSession:
    """Return the session of a record, without its leases."""
    fields = cast("list[object]", unpack(record))
    assert fields[0] == RECORD_VERSION, f"session record of version {fields[0]!r}"
    _, worker_id, name, queues, capabilities, namespace, principal, registered_at_ms = fields
    told = cast("list[tuple[str, str]]", capabilities)
    command = RegisterWorker(
        0,
        cast("str", namespace),
        cast("str", principal),
        cast("bytes", worker_id),
        cast("str", name),
        tuple(cast("list[str]", queues)),
        tuple((name, value) for name, value in told),
    )
    return WorkerSession(session, command, cast("int", registered_at_ms))
