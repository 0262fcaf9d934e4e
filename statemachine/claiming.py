"""Rules of leases: claim, extend, progress, release, expire."""

from __future__ import annotations

from collections.abc import Iterable

from statemachine.commands import Claim, Expire, Extend, Progress, Release
from statemachine.lifecycle import TRANSITIONS, Event
from statemachine.lines import Queue, take_best
from statemachine.outcomes import Done, Grant, Granted, Refused
from statemachine.state import NOT_FOUND, State
from statemachine.task import Task
from statemachine.types import LIMITS, QUEUE_FULL_RETRY_MS, Code, TaskId, TaskState, Token, named
from statemachine.workers import WorkerSession

_AFTER_CLAIM = TRANSITIONS[Event.CLAIM]
_LEASE_LOST = Refused(Code.LEASE_LOST, "the token is not that of the task's live lease")


def claim(state: State, command: Claim) -> Granted | Refused:
    """Lease tasks; the same request of the same session gets the same live leases."""
    request_id, namespace, _, number, names, tasks_max, _ = command
    session = state.sessions.by_id.get(number)
    if session is None or session.namespace != namespace:
        return Refused(Code.UNKNOWN_SESSION, "the session ended or never was; register again")
    if tasks_max > state.settings.claim_max:
        return Refused(Code.BAD_REQUEST, f"count must be at most {state.settings.claim_max}")
    held = session.claims.get(request_id)
    if held is not None:
        return Granted(_grants_of(held.values()))
    room = LIMITS.session_leases_max - session.leases
    if room <= 0:
        # Not "nothing found": a claim that waits for tasks would come again at once, for ever.
        return Refused(
            Code.RATE_LIMITED, f"the session holds {session.leases} leases", QUEUE_FULL_RETRY_MS
        )
    queues: list[Queue] = []
    for name in names:
        queue = state.queues.get((namespace, name))
        if queue is not None:
            queues.append(queue)
    if tasks_max > room or state.next_token + tasks_max > state.token_end:
        tasks_max = min(tasks_max, room, state.token_end - state.next_token)
    tasks = take_best(queues, tasks_max) if queues else None
    return named(Granted, (_lease(state, session, request_id, tasks) if tasks else [],))


def _lease(state: State, session: WorkerSession, request_id: int, tasks: list[Task]) -> list[Grant]:
    held: dict[Token, Task] = {}
    leased, changed, queues = state.leased, state.changes.tasks, state.queues
    token, now_ms, lease_ms = state.next_token, state.log_time_ms, state.settings.lease_ms
    kind, worker = tasks[0].kind, session.name
    queue = queues[kind.queue_key]
    for task in tasks:
        if task.kind is not kind:
            kind = task.kind
            queue = queues[kind.queue_key]
        task.state = _AFTER_CLAIM[task.state]
        task.token = token
        task.attempt += 1
        task.session = session
        task.worker = worker
        task.claim_id = request_id
        task.claimed_at_ms = now_ms
        task.lease_ms = kind.lease_ms or lease_ms
        if task.story is not None:
            task.story.begin_attempt()
        held[token] = leased[token] = changed[task.task_id] = task
        queue.depth -= 1
        queue.in_progress += 1
        token += 1
    state.next_token = token
    session.claims[request_id] = held
    session.leases += len(held)
    return _grants_of(tasks)


def _grants_of(tasks: Iterable[Task]) -> list[Grant]:
    return [
        named(
            Grant,
            (
                task.task_id,
                task.token,
                (kind := task.kind).queue,
                kind.name,
                task.attempt,
                task.lease_ms,
                kind.timeout_ms,
                task.place,
            ),
        )
        for task in tasks
    ]


def late(state: State, task: Task, *, what: str, token: Token) -> Refused:
    """Refuse a call whose token is not that of the live lease, and remember it."""
    if task.remember(state.log_time_ms, f"late_{what}", f"token {token}"):
        state.touch(task)
    return _LEASE_LOST


def _leased_task(
    state: State, namespace: str, task_id: TaskId, token: Token, what: str
) -> Task | Refused:
    """Return the task if `token` is that of its live lease: the fence."""
    task = state.find(namespace, task_id)
    if task is None:
        return NOT_FOUND
    if task.state is not TaskState.IN_PROGRESS or task.token != token:
        return late(state, task, what=what, token=token)
    return task


def extend(state: State, command: Extend) -> Done | Refused:
    """Change the length of a lease."""
    task = _leased_task(state, command.namespace, command.task_id, command.token, "extend")
    if isinstance(task, Refused):
        return task
    task.lease_ms = command.lease_ms
    state.touch(task)
    return Done()


def progress(state: State, command: Progress) -> Done | Refused:
    """Record how far the attempt is; what changes nothing writes nothing."""
    task = _leased_task(state, command.namespace, command.task_id, command.token, "progress")
    if isinstance(task, Refused):
        return task
    story = task.tell()
    if (story.permille, story.note) != (command.permille, command.note):
        story.permille, story.note = command.permille, command.note
        state.touch(task)
    return Done()


def release(state: State, command: Release) -> Done | Refused:
    """Give a task back to its original place, without charge."""
    task = _leased_task(state, command.namespace, command.task_id, command.token, "release")
    if isinstance(task, Refused):
        return task
    give_back(state, task)
    return Done()


def give_back(state: State, task: Task) -> None:
    """End a lease that its holder did not use."""
    state.end_lease(task)
    task.remember(state.log_time_ms, "released", f"attempt {task.attempt}")
    state.back_to_line(task, Event.RELEASE)


def expire(state: State, command: Expire) -> Done:
    """Take leases away; those that ended otherwise in the meantime are left alone."""
    for task_id, token in command.leases:
        task = state.leased.get(token)
        if task is not None and task.task_id == task_id:
            state.lose(task, "the lease expired")
    return Done()
