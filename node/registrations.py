"""Registrations of workers that are repeated: copies of one request open one session.

The machine ends the older session of a worker that registers: it has come back, and holds
nothing any more. A copy of a registration says no such thing. It may arrive when its worker
has long been answered over another connection and is at work, so it must end nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from node.answers import Answers
from node.leases import LeaseKeeper
from node.recent import Recent
from node.session import Session
from node.workers import WorkerKey
from statemachine import Registered, RegisterWorker
from tq.protocol import Type

_KEPT_OF_ONE_MAX: Final = 100
_KEPT_MAX: Final = 50_000
"""Bounds of what is remembered, for one worker and at all."""

Registration: TypeAlias = tuple[WorkerKey, int]
"""A worker and the id of its request: what copies have in common, and nothing else has."""


class _Copy(NamedTuple):
    """One that came while the first was under way."""

    session: Session
    request_id: int
    size_bytes: int
    take: Callable[[], None]


class Registrations:
    """What this node knows of registrations it has proposed.

    It is kept from one term to the next: a session that a request has opened in the log stays
    the one it has opened.

    Args:
        leases: Counts worker sessions.
        answers: Sends the answers.
        now_s: The monotonic clock, seconds.
    """

    def __init__(
        self, *, leases: LeaseKeeper, answers: Answers, now_s: Callable[[], float]
    ) -> None:
        self._leases = leases
        self._answers = answers
        self._now_s = now_s
        self._opened: Recent[WorkerKey, Registered] = Recent(
            most_of_one=_KEPT_OF_ONE_MAX, most=_KEPT_MAX
        )
        self._under_way: dict[Registration, list[_Copy]] = {}
        """On their way through the log -> the copies that came meanwhile."""

    def begin(self, command: RegisterWorker) -> Callable[[], None]:
        """Note that a registration is under way; return what is called when it has an end."""
        registration = _registration(command)
        self._under_way[registration] = []

        def settled() -> None:
            for copy in self._under_way.pop(registration):
                copy.take()

        return settled

    def wait(
        self, session: Session, command: RegisterWorker, size_bytes: int, take: Callable[[], None]
    ) -> bool:
        """Let a copy wait for the end of the one that is under way; False if none is."""
        copies = self._under_way.get(_registration(command))
        if copies is None:
            return False
        session.begin(size_bytes)
        copies.append(_Copy(session, command.request_id, size_bytes, take))
        return True

    def tell_unknown(self) -> None:
        """Say to all copies that nobody knows yet what became of the first."""
        for copies in self._under_way.values():
            told = copies.copy()
            copies.clear()
            for copy in told:
                copy.session.settle(copy.size_bytes)
                if not copy.session.closed:
                    type_ = Type.REGISTER_WORKER
                    self._answers.unknown_outcome(copy.session, type_, copy.request_id)

    def registered(self, command: RegisterWorker, reply: Registered) -> None:
        """Remember which session a registration has opened."""
        worker, request_id = _registration(command)
        self._opened.note(worker, request_id, reply, now_s=self._now_s())

    def opened(self, command: RegisterWorker) -> Registered | None:
        """Return what a registration was answered before, if it is known."""
        return self._opened.get(*_registration(command), now_s=self._now_s())

    def tell_again(self, session: Session, command: RegisterWorker, opened: Registered) -> None:
        """Answer as at first, though the session may have ended; call behind a barrier."""
        if self._leases.is_alive(opened.session):
            # Its worker may hear of it only now, and has a full period until its first heartbeat.
            self._leases.registered(opened.session, now_s=self._now_s())
        self._answers.reply(session, Type.REGISTER_WORKER, command.request_id, opened)


def _registration(command: RegisterWorker) -> Registration:
    return (command.namespace, command.worker_id), command.request_id
