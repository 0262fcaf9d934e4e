"""A queue so plain that it can be checked by reading it.

One list of tasks, searched from end to end each time; no indexes, no archive, no
checkpoints, nothing incremental. It shares only the commands, the replies and the
formula of the backoff with the machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from statemachine import (
    LIMITS,
    POSITION_BITS,
    Accepted,
    Advance,
    BatchAccepted,
    Cancel,
    ChangeSettings,
    Claim,
    ClientCommand,
    Code,
    Command,
    DeregisterWorker,
    Done,
    Expire,
    ExpireSessions,
    Extend,
    Grant,
    Granted,
    InternalCommand,
    Malformed,
    Outcome,
    Progress,
    Recorded,
    Refused,
    Registered,
    RegisterWorker,
    Release,
    Reply,
    Retire,
    Settings,
    Submit,
    SubmitBatch,
    TaskResult,
    TaskState,
)
from statemachine.kinds import Kind
from statemachine.retry import backoff_ms

S = TaskState
WAITING = (S.SCHEDULED, S.FAILED)
TERMINAL = (S.COMPLETED, S.DEAD_LETTER, S.CANCELLED)
CLAIM_TO_RESULT = {0: S.COMPLETED, 2: S.DEAD_LETTER}


@dataclass
class NaiveTask:
    id: bytes
    kind: Kind
    payload: bytes
    place: int
    state: TaskState = S.PENDING
    due: int = 0
    token: int = 0
    session: int = 0
    claim: int = 0
    lease_ms: int = 0
    attempt: int = 0
    claimed_at: int = 0
    finished_at: int = 0
    failures: int = 0
    lost: int = 0
    permille: int | None = None
    result: bytes | None = None
    answers: dict[tuple[int, int], TaskState] = field(default_factory=dict)
    retired: bool = False

    @property
    def content(self) -> tuple[object, ...]:
        kind = self.kind
        return (kind.namespace, kind.queue, kind.name, kind.policy, self.payload)

    @property
    def live(self) -> bool:
        return self.state not in TERMINAL

    @property
    def born_ms(self) -> int:
        return int.from_bytes(self.id[:6], "big")


class NaiveQueue:
    def __init__(self) -> None:
        self.tasks: list[NaiveTask] = []
        self.sessions: dict[int, RegisterWorker] = {}
        self.settings = Settings()
        self.now = 0
        self.index = 0
        self.position = 0
        self.ready: list[tuple[str, str]] = []
        self.finished: list[bytes] = []

    def apply(self, index: int, now_ms: int, commands: list[Command | Malformed]) -> Outcome:
        self.index, self.position, self.ready, self.finished = index, 0, [], []
        self.now = max(self.now, now_ms)
        due = sorted(
            (task for task in self.tasks if task.state in WAITING and task.due <= self.now),
            key=lambda task: (task.due, task.place),
        )
        for task in due[: LIMITS.timers_per_entry_max]:
            self.put_in_line(task)
        replies = [self.handle(command) for command in commands]
        more = len(due) > LIMITS.timers_per_entry_max
        return Outcome(replies, self.ready, self.finished, more)

    def next_position(self) -> int:
        self.position += 1
        return (self.index << POSITION_BITS) + self.position - 1

    def put_in_line(self, task: NaiveTask) -> None:
        task.state = S.PENDING
        if task.kind.queue_key not in self.ready:
            self.ready.append(task.kind.queue_key)

    def finish(self, task: NaiveTask, state: TaskState) -> None:
        task.state = state
        task.finished_at = self.now
        self.finished.append(task.id)

    def find(self, id_: bytes, namespace: str) -> NaiveTask | None:
        for task in self.tasks:
            if task.id == id_ and not task.retired and task.kind.namespace == namespace:
                return task
        return None

    def handle(self, command: Command | Malformed) -> Reply:
        if isinstance(command, Malformed):
            return Refused(Code.MALFORMED, command.text)
        if isinstance(command, Expire | ExpireSessions | Retire | ChangeSettings | Advance):
            self.handle_internal(command)
            return Done()
        return self.handle_client(command)

    def handle_client(self, command: ClientCommand) -> Reply:
        match command:
            case Submit():
                return self.submit(command.task_id, command.kind, command.payload)
            case SubmitBatch():
                return BatchAccepted([self.submit(*task) for task in command.tasks])
            case Claim():
                return self.claim(command)
            case TaskResult():
                return self.result(command)
            case Cancel():
                return self.cancel(command)
            case RegisterWorker():
                return self.register(command)
            case DeregisterWorker():
                return self.deregister(command)
            case _:
                return self.of_holder(command)

    def handle_internal(self, command: InternalCommand) -> None:
        match command:
            case Expire():
                for id_, token in command.leases:
                    self.expire(id_, token)
            case ExpireSessions():
                for session in command.sessions:
                    self.end_session(session, charged=True)
            case Retire():
                for id_ in command.task_ids:
                    self.retire(id_)
            case ChangeSettings():
                self.settings = self.settings._replace(**dict(command.changes))

    def expire(self, id_: bytes, token: int) -> None:
        for task in self.tasks:
            if (task.state, task.id, task.token) == (S.IN_PROGRESS, id_, token):
                self.lose(task)

    def depth(self, queue: tuple[str, str]) -> int:
        return sum(
            task.kind.queue_key == queue and task.live and task.state is not S.IN_PROGRESS
            for task in self.tasks
        )

    def forgotten(self, born_ms: int) -> bool:
        return born_ms < self.now - self.settings.idempotency_window_ms

    def submit(self, id_: bytes, kind: Kind, payload: bytes) -> Accepted | Refused:
        new = NaiveTask(id_, kind, payload, 0)
        for task in self.tasks:
            if task.id == id_:
                if task.content == new.content:
                    return Accepted(task.place >> POSITION_BITS)
                return Refused(Code.CONFLICT, "")
        if self.forgotten(new.born_ms):
            return Refused(Code.TOO_OLD, "")
        if new.born_ms > self.now + LIMITS.future_ms_max:
            return Refused(Code.TOO_NEW, "")
        if self.depth(kind.queue_key) >= self.settings.queue_depth_threshold:
            return Refused(Code.QUEUE_FULL, "")
        new.place = self.next_position()
        self.tasks.append(new)
        if kind.policy.delay_ms:
            new.state, new.due = S.SCHEDULED, self.now + kind.policy.delay_ms
        else:
            self.put_in_line(new)
        return Accepted(self.index)

    def claim(self, command: Claim) -> Reply:
        session = self.sessions.get(command.session)
        if session is None or session.namespace != command.namespace:
            return Refused(Code.UNKNOWN_SESSION, "")
        if command.tasks_max > self.settings.claim_max:
            return Refused(Code.BAD_REQUEST, "")
        held = [
            task
            for task in self.tasks
            if task.state is S.IN_PROGRESS
            and (task.session, task.claim) == (command.session, command.request_id)
        ]
        if not held:
            held = [
                task
                for task in self.tasks
                if task.state is S.PENDING
                and task.kind.namespace == command.namespace
                and task.kind.queue in command.queues
            ]
            held.sort(key=lambda task: (-task.kind.policy.priority, task.place))
            held = held[: command.tasks_max]
            for task in held:
                task.state = S.IN_PROGRESS
                task.token = self.next_position()
                task.session, task.claim = command.session, command.request_id
                task.lease_ms = task.kind.policy.lease_ms or self.settings.lease_ms
                task.attempt += 1
                task.claimed_at = self.now
                task.permille = None
        held.sort(key=lambda task: task.token)
        return Granted(
            [
                Grant(
                    task.id,
                    task.token,
                    task.kind.queue,
                    task.kind.name,
                    task.attempt,
                    task.lease_ms,
                    task.kind.policy.timeout_ms,
                    task.place,
                )
                for task in held
            ]
        )

    def result(self, command: TaskResult) -> Reply:
        task = self.find(command.task_id, command.namespace)
        if task is None:
            return Refused(Code.NOT_FOUND, "")
        answer = task.answers.get((command.token, command.outcome))
        if answer is not None and task.token == command.token:
            return Recorded(answer)
        if task.state is not S.IN_PROGRESS or task.token != command.token:
            return Refused(Code.LEASE_LOST, "")
        task.failures += command.outcome != 0
        exhausted = task.failures > task.kind.policy.retry_max
        state = CLAIM_TO_RESULT.get(command.outcome, S.DEAD_LETTER if exhausted else S.FAILED)
        if state is S.FAILED:
            task.state = state
            task.due = self.now + backoff_ms(
                task.kind.policy, failures=task.failures, task_id=task.id, attempt=task.attempt
            )
        else:
            self.finish(task, state)
            task.result = command.result
        task.answers[command.token, command.outcome] = state
        return Recorded(state, self.now - task.claimed_at)

    def of_holder(self, command: Extend | Progress | Release) -> Reply:
        task = self.find(command.task_id, command.namespace)
        if task is None:
            return Refused(Code.NOT_FOUND, "")
        if task.state is not S.IN_PROGRESS or task.token != command.token:
            return Refused(Code.LEASE_LOST, "")
        if isinstance(command, Extend):
            task.lease_ms = command.lease_ms
        elif isinstance(command, Progress):
            task.permille = command.permille
        else:
            self.put_in_line(task)
        return Done()

    def lose(self, task: NaiveTask) -> None:
        task.lost += 1
        if task.lost > task.kind.policy.lost_max:
            self.finish(task, S.DEAD_LETTER)
        else:
            self.put_in_line(task)

    def cancel(self, command: Cancel) -> Reply:
        task = self.find(command.task_id, command.namespace)
        if task is None:
            return Refused(Code.NOT_FOUND, "")
        if task.state is not S.CANCELLED:
            if task.state in TERMINAL or task.state is S.IN_PROGRESS:
                return Refused(Code.NOT_CANCELLABLE, "")
            self.finish(task, S.CANCELLED)
        return Recorded(S.CANCELLED)

    def register(self, command: RegisterWorker) -> Reply:
        for number, other in list(self.sessions.items()):
            if (other.namespace, other.worker_id) == (command.namespace, command.worker_id):
                self.end_session(number, charged=True)
        session = self.next_position()
        self.sessions[session] = command
        return Registered(session, self.settings.lease_ms)

    def deregister(self, command: DeregisterWorker) -> Reply:
        session = self.sessions.get(command.session)
        if session is None or session.namespace != command.namespace:
            return Refused(Code.UNKNOWN_SESSION, "")
        self.end_session(command.session, charged=False)
        return Done()

    def end_session(self, session: int, *, charged: bool) -> None:
        held = [t for t in self.tasks if t.state is S.IN_PROGRESS and t.session == session]
        for task in sorted(held, key=lambda task: task.token):
            if charged:
                self.lose(task)
            else:
                self.put_in_line(task)
        self.sessions.pop(session, None)

    def retire(self, id_: bytes) -> None:
        for task in self.tasks:
            if task.id == id_ and not task.live:
                due = task.finished_at + self.settings.retention_ms <= self.now
                forgotten = self.forgotten(task.born_ms)
                if task.retired or due:
                    task.retired = True
                    if forgotten:
                        self.tasks.remove(task)
                return
