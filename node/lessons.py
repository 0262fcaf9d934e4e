"""What the leader's memory learns from the replies to its own entries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from node.door import Door
from node.leases import LeaseKeeper
from node.registrations import Registrations
from node.workers import Workers
from statemachine import (
    Command,
    DeregisterWorker,
    Done,
    ExpireSessions,
    Extend,
    Recorded,
    Registered,
    RegisterWorker,
    Release,
    Reply,
    Submit,
    SubmitBatch,
    TaskResult,
)


class Lessons:
    """Carries replies to the parts of the leader's memory they concern.

    Args:
        door: Counts tasks on their way.
        leases: Counts leases and worker sessions.
        workers: Knows workers.
        registrations: Knows which request opened which session.
        is_registered: Whether the machine has a worker's session.
        observe_run: Gets the time of every finished attempt, milliseconds.
        now_s: The monotonic clock, seconds.
    """

    def __init__(
        self,
        *,
        door: Door,
        leases: LeaseKeeper,
        workers: Workers,
        registrations: Registrations,
        is_registered: Callable[[int], bool],
        observe_run: Callable[[int], None],
        now_s: Callable[[], float],
    ) -> None:
        self._door = door
        self._leases = leases
        self._workers = workers
        self._registrations = registrations
        self._is_registered = is_registered
        self._observe_run = observe_run
        self._now_s = now_s
        # Each takes the command it stands for.
        self._by_command: dict[type, Callable[[Any, Reply], None]] = {
            Submit: self._submitted,
            SubmitBatch: self._submitted,
            TaskResult: self._result,
            Release: self._released,
            Extend: self._extended,
            RegisterWorker: self._registered,
            DeregisterWorker: self._deregistered,
            ExpireSessions: self._sessions_expired,
        }

    def learn(self, command: Command, reply: Reply) -> None:
        """Take note of the reply to a command of ours."""
        lesson = self._by_command.get(type(command))
        if lesson is not None:
            lesson(command, reply)

    def _submitted(self, command: Submit | SubmitBatch, reply: Reply) -> None:
        del reply
        self._door.arrived(command)

    def _result(self, command: TaskResult, reply: Reply) -> None:
        if isinstance(reply, Recorded):
            self._leases.ended(command.token)
            if reply.run_ms is not None:
                self._observe_run(reply.run_ms)

    def _released(self, command: Release, reply: Reply) -> None:
        if isinstance(reply, Done):
            self._leases.ended(command.token)

    def _extended(self, command: Extend, reply: Reply) -> None:
        if isinstance(reply, Done):
            self._leases.extended(command.token, now_s=self._now_s())

    def _registered(self, command: RegisterWorker, reply: Reply) -> None:
        if isinstance(reply, Registered):
            self._registrations.registered(command, reply)
            now_s = self._now_s()
            worker = (command.namespace, command.worker_id)
            ended = self._workers.registered(worker, reply.session, now_s=now_s)
            if ended is not None and ended != reply.session:
                self._leases.deregistered(ended)
            self._leases.registered(reply.session, now_s=now_s)

    def _deregistered(self, command: DeregisterWorker, reply: Reply) -> None:
        if isinstance(reply, Done):
            self._end((command.session,))

    def _sessions_expired(self, command: ExpireSessions, reply: Reply) -> None:
        del reply
        # One command ends a bounded number of leases; the rest is proposed again.
        self._end(tuple(one for one in command.sessions if not self._is_registered(one)))

    def _end(self, sessions: tuple[int, ...]) -> None:
        for session in sessions:
            self._leases.deregistered(session)
        self._workers.forget(sessions)
