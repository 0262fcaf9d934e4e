"""What the leader knows of workers that is in no log: when each spoke, and how it fares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from statemachine import Session as WorkerSession

WorkerKey: TypeAlias = tuple[str, bytes]
"""(namespace, worker id)"""

Facts: TypeAlias = Mapping[str, int | float | str]
"""A worker's own figures, such as load and free slots."""


class Workers:
    """Leader's memory of worker sessions; empty on every other node."""

    def __init__(self) -> None:
        self._session_of: dict[WorkerKey, int] = {}
        self._worker_of: dict[int, WorkerKey] = {}
        """The same, to be looked up by session."""
        self._heard_s: dict[int, float] = {}
        self._facts: dict[int, Facts] = {}

    def take_over(self, sessions: Iterable[WorkerSession]) -> None:
        """Begin a term of leadership with the sessions of the machine."""
        self.stand_down()
        for one in sessions:
            self._note(one.session, (one.namespace, one.worker_id))

    def stand_down(self) -> None:
        """Forget everything."""
        self._session_of.clear()
        self._worker_of.clear()
        self._heard_s.clear()
        self._facts.clear()

    def registered(self, worker: WorkerKey, session: int, *, now_s: float) -> int | None:
        """Note a new session; return the one of the same worker that it ended."""
        ended = self._session_of.get(worker)
        if ended is not None:
            self._forget(ended)
        self._note(session, worker)
        self._heard_s[session] = now_s
        return ended

    def heard(self, session: int, facts: Facts, *, now_s: float) -> None:
        """Note a heartbeat."""
        self._heard_s[session] = now_s
        if facts:
            self._facts[session] = facts

    def forget(self, ended: Iterable[int]) -> None:
        """Forget sessions that ended; costs nothing for those that live on."""
        for session in ended:
            self._forget(session)

    def describe(self, one: WorkerSession, *, now_s: float) -> dict[str, object]:
        """Return the map of LIST_WORKERS for a session of the machine."""
        heard_s = self._heard_s.get(one.session)
        return {
            "worker_id": one.worker_id,
            "session": one.session,
            "name": one.name,
            "queues": one.queues,
            "capabilities": dict(one.capabilities),
            "namespace": one.namespace,
            "registered_at_ms": one.registered_at_ms,
            "leases": len(one.tokens),
            "silent_ms": None if heard_s is None else round((now_s - heard_s) * 1000),
            "stats": dict(self._facts.get(one.session, {})),
        }

    def _note(self, session: int, worker: WorkerKey) -> None:
        self._session_of[worker] = session
        self._worker_of[session] = worker

    def _forget(self, session: int) -> None:
        worker = self._worker_of.pop(session, None)
        if worker is not None:
            del self._session_of[worker]
        self._heard_s.pop(session, None)
        self._facts.pop(session, None)
