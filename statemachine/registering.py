"""Rules of workers' sessions."""

from __future__ import annotations

from typing import Final

from statemachine.claiming import give_back
from statemachine.commands import DeregisterWorker, ExpireSessions, RegisterWorker
from statemachine.outcomes import Done, Refused, Registered
from statemachine.state import State
from statemachine.types import LIMITS, QUEUE_FULL_RETRY_MS, Code
from statemachine.workers import WorkerSession

LOST_PER_COMMAND_MAX: Final = 1000


def register_worker(state: State, command: RegisterWorker) -> Registered | Refused:
    """Open a session; an older one of the same worker ends and its leases are lost.

    They count as lost, not as released: a worker that comes back without having
    deregistered most likely died of the task it held, and a task that kills its
    workers must use up its budget.
    """
    older = state.sessions.of_worker(command.namespace, command.worker_id)
    if older is not None:
        _end_lost(state, older, "the worker registered again")
    elif len(state.sessions) >= LIMITS.sessions_max:
        return Refused(
            Code.RATE_LIMITED, f"{LIMITS.sessions_max} workers are registered", QUEUE_FULL_RETRY_MS
        )
    if not state.positions_left():
        return Refused(
            Code.RATE_LIMITED, "the log entry holds too many commands", QUEUE_FULL_RETRY_MS
        )
    session = WorkerSession(state.next_token, command, state.log_time_ms)
    state.next_token += 1
    state.sessions.add(session)
    state.changes.sessions[session.session] = session
    return Registered(session.session, state.settings.lease_ms)


def deregister_worker(state: State, command: DeregisterWorker) -> Done | Refused:
    """Close a session; its leases are released without charge."""
    session = state.sessions.get(command.session)
    if session is None or session.namespace != command.namespace:
        return Refused(Code.UNKNOWN_SESSION, "the session ended or never was")
    for task in session.tasks():
        give_back(state, task)
    _forget(state, session)
    return Done()


def expire_sessions(state: State, command: ExpireSessions) -> Done:
    """End sessions of silent workers.

    Stops once `LOST_PER_COMMAND_MAX` leases were lost: the leader sees the other
    sessions again and asks again.
    """
    lost = 0
    for number in command.sessions:
        session = state.sessions.get(number)
        if session is None:
            continue
        if lost >= LOST_PER_COMMAND_MAX:
            break
        lost += session.leases
        _end_lost(state, session, "the worker went silent")
    return Done()


def _end_lost(state: State, session: WorkerSession, why: str) -> None:
    for task in session.tasks():
        state.lose(task, why)
    _forget(state, session)


def _forget(state: State, session: WorkerSession) -> None:
    state.sessions.remove(session)
    state.changes.sessions[session.session] = None
