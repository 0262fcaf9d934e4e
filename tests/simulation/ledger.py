"""The committed log, read once and told as a story of tasks.

The ledger sees each entry when the first node applies it. It keeps the state of every task
as the rules of `docs/lifecycle.md` lead to it, reckoned here a second time and without the
machine, and tells those who listen what each command did. It judges nothing itself.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from statemachine import (
    POSITION_BITS,
    Accepted,
    BatchAccepted,
    Cancel,
    ChangeSettings,
    Claim,
    DeregisterWorker,
    Done,
    Expire,
    ExpireSessions,
    Extend,
    Granted,
    Outcome,
    Recorded,
    Registered,
    RegisterWorker,
    Release,
    Reply,
    Retire,
    Settings,
    Submit,
    SubmitBatch,
    TaskResult,
    decode_entry,
)
from statemachine.kinds import Kind
from statemachine.retry import backoff_ms
from tests.simulation.decoded import Decoded
from tests.simulation.stories import (
    CANCELLED,
    COMPLETED,
    DEAD_LETTER,
    FAILED,
    GONE,
    IN_PROGRESS,
    PENDING,
    SCHEDULED,
    TERMINAL,
    Listener,
    TaskStory,
)


class Ledger:
    """Stories of all tasks.

    Attributes:
        index: Of the last entry read.
        tasks: Every task ever accepted.
        live: Those that have not ended.
        applied: Request id -> (index, reply) of each time it came through the log.
        listeners: Those who are told.
        decoded: Where the machines of this world take their decoded entries from.
        settings: Replicated settings.
        log_time_ms: Largest time stamp seen.
        now: True time of the entry being read.
        sequence: Counts the commands read.
    """

    def __init__(self) -> None:
        self.index = 0
        self.tasks: dict[bytes, TaskStory] = {}
        self.live: dict[bytes, TaskStory] = {}
        self.applied: dict[int, list[tuple[int, Reply]]] = {}
        self.listeners: list[Listener] = []
        self.decoded: Decoded | None = None
        self.settings = Settings()
        self.log_time_ms = 0
        self.now = 0.0
        self.sequence = 0
        self.sessions: dict[int, dict[int, TaskStory]] = {}
        """Session -> token -> task it holds."""
        self.session_heard: dict[int, float] = {}
        """Session -> true time of its last sign of life that was answered."""
        self.finished: list[bytes] = []
        """Tasks that ended in the last entry."""
        self.next_token = 0
        self._seeded = False
        self._workers: dict[tuple[str, bytes], int] = {}
        self._timers: list[tuple[int, int, TaskStory]] = []
        self._handlers: dict[type, Callable[[Any, Any], None]] = {
            Submit: self._submit,
            SubmitBatch: self._batch,
            Claim: self._claim,
            TaskResult: self._result,
            Extend: self._extend,
            Release: self._release,
            Cancel: self._cancel,
            RegisterWorker: self._register,
            DeregisterWorker: self._deregister,
            Expire: self._expire,
            ExpireSessions: self._expire_sessions,
            Retire: self._retire,
            ChangeSettings: self._change_settings,
        }

    def take(self, index: int, entry: bytes, outcome: Outcome, now: float) -> None:
        """Read the next entry.

        Args:
            index: Larger than that of the entry before.
            entry: As in the log.
            outcome: What the machine made of it.
            now: True time.
        """
        known = self.decoded
        now_ms, commands = decode_entry(entry) if known is None else known.entry(index, entry)
        self.index = index
        self.now = now
        self.next_token = index << POSITION_BITS
        self.log_time_ms = max(self.log_time_ms, now_ms)
        self.finished = []
        self._let_timers_act()
        handlers, applied = self._handlers, self.applied
        for command, reply in zip(commands, outcome.replies, strict=True):
            self.sequence += 1
            number = getattr(command, "request_id", 0)
            if number:
                applied.setdefault(number, []).append((index, reply))
            handler = handlers.get(type(command))
            if handler is not None:
                handler(command, reply)
            elif hasattr(command, "token"):
                self._tell_report(command, reply)

    def _let_timers_act(self) -> None:
        timers = self._timers
        while timers and timers[0][0] <= self.log_time_ms:
            due_ms, _, story = heapq.heappop(timers)
            if story.due_ms == due_ms and story.state in {SCHEDULED, FAILED}:
                story.due_ms = 0
                self._to_line(story)

    def _to_line(self, story: TaskStory) -> None:
        story.changed(self.index, PENDING)
        for listener in self.listeners:
            listener.pending(story)

    def _wait(self, story: TaskStory, due_ms: int) -> None:
        story.due_ms = due_ms
        heapq.heappush(self._timers, (due_ms, story.place, story))

    # ----------------------------------------------------------------------- submits

    def _submit(self, command: Submit, reply: Reply) -> None:
        self._submitted(command.task_id, command.kind, reply)

    def _batch(self, command: SubmitBatch, reply: Reply) -> None:
        if isinstance(reply, BatchAccepted):
            for task, answer in zip(command.tasks, reply.replies, strict=True):
                self._submitted(task.task_id, task.kind, answer)

    def _submitted(self, task_id: bytes, kind: Kind, reply: Reply) -> None:
        story = self.tasks.get(task_id)
        for listener in self.listeners:
            listener.submitted(story, task_id, reply)
        if story is None and isinstance(reply, Accepted):
            story = TaskStory(task_id, kind, self.next_token, self.now)
            self.next_token += 1
            self.tasks[task_id] = self.live[task_id] = story
            if kind.delay_ms:
                self._wait(story, self.log_time_ms + kind.delay_ms)
            else:
                self._to_line(story)

    # ------------------------------------------------------------------------ leases

    def _claim(self, command: Claim, reply: Reply) -> None:
        if not isinstance(reply, Granted):
            return
        for grant in reply.grants:
            story = self.tasks.get(grant.task_id)
            again = story is not None and story.token == grant.token
            for listener in self.listeners:
                listener.granted(story, command, grant, again=again)
            if story is None or again:
                continue
            self.next_token += 1
            story.token = grant.token
            story.session = command.session
            story.lease_ms = story.kind.lease_ms or self.settings.lease_ms
            story.leased_at = self.now
            story.renewed_at = 0.0
            story.settled = -1
            story.attempt += 1
            story.claimed = story.claimed or self.sequence
            story.changed(self.index, IN_PROGRESS)
            self.sessions.setdefault(command.session, {})[grant.token] = story

    def _let_go(self, story: TaskStory) -> None:
        self.sessions.get(story.session, {}).pop(story.token, None)
        story.session = 0

    def _tell_report(self, command: Any, reply: Reply) -> TaskStory | None:
        story = self.tasks.get(command.task_id)
        for listener in self.listeners:
            listener.reported(story, command, reply)
        return story

    def _extend(self, command: Extend, reply: Reply) -> None:
        story = self._tell_report(command, reply)
        if story is not None and isinstance(reply, Done):
            story.lease_ms = command.lease_ms
            story.leased_at = self.now
            story.renewed_at = 0.0

    def _release(self, command: Release, reply: Reply) -> None:
        story = self._tell_report(command, reply)
        if story is not None and isinstance(reply, Done):
            self._let_go(story)
            self._to_line(story)

    def _result(self, command: TaskResult, reply: Reply) -> None:
        story = self._tell_report(command, reply)
        if story is None or not isinstance(reply, Recorded):
            return
        if story.state != IN_PROGRESS or story.token != command.token:
            return  # repeated
        self._let_go(story)
        story.settled = int(command.outcome)
        if story.settled == 0:
            self._end(story, COMPLETED)
            return
        story.failures += 1
        policy = story.kind.policy
        if story.settled == 2 or story.failures > policy.retry_max:
            self._end(story, DEAD_LETTER)
            return
        wait_ms = backoff_ms(
            policy, failures=story.failures, task_id=story.task_id, attempt=story.attempt
        )
        self._wait(story, self.log_time_ms + wait_ms)
        story.changed(self.index, FAILED)

    def _lose(self, story: TaskStory, why: str) -> None:
        for listener in self.listeners:
            listener.lost(story, why)
        self._let_go(story)
        story.lost += 1
        if story.lost > story.kind.policy.lost_max:
            self._end(story, DEAD_LETTER)
        else:
            self._to_line(story)

    def _expire(self, command: Expire, _reply: Reply) -> None:
        for task_id, token in command.leases:
            story = self.live.get(task_id)
            if story is not None and story.state == IN_PROGRESS and story.token == token:
                self._lose(story, "expired")

    # ---------------------------------------------------------------------- sessions

    def _register(self, command: RegisterWorker, reply: Reply) -> None:
        if not isinstance(reply, Registered):
            return
        for listener in self.listeners:
            listener.registered(command, reply.session)
        worker = (command.namespace, command.worker_id)
        older = self._workers.get(worker, 0)
        for story in list(self.sessions.pop(older, {}).values()):
            self._lose(story, "registered again")
        self.session_heard.pop(older, None)
        self._workers[worker] = reply.session
        self.sessions[reply.session] = {}
        self.session_heard[reply.session] = self.now
        self.next_token += 1

    def _deregister(self, command: DeregisterWorker, reply: Reply) -> None:
        if isinstance(reply, Done):
            for story in list(self.sessions.pop(command.session, {}).values()):
                self._let_go(story)
                self._to_line(story)
            self.session_heard.pop(command.session, None)

    def _expire_sessions(self, command: ExpireSessions, _reply: Reply) -> None:
        for session in command.sessions:
            if session not in self.session_heard:
                continue
            for listener in self.listeners:
                listener.session_expired(session)
            for story in list(self.sessions.pop(session, {}).values()):
                self._lose(story, "silent")
            del self.session_heard[session]

    # -------------------------------------------------------------------------- ends

    def _cancel(self, command: Cancel, reply: Reply) -> None:
        story = self.tasks.get(command.task_id)
        for listener in self.listeners:
            listener.cancelled(story, reply)
        if story is not None and isinstance(reply, Recorded) and story.state not in TERMINAL:
            story.due_ms = 0
            self._end(story, CANCELLED)

    def _end(self, story: TaskStory, state: str) -> None:
        story.ends += 1
        story.finished_ms = self.log_time_ms
        self.finished.append(story.task_id)
        self.live.pop(story.task_id, None)
        story.changed(self.index, state)

    def _retire(self, command: Retire, _reply: Reply) -> None:
        for task_id in command.task_ids:
            story = self.tasks.get(task_id)
            if story is None or story.state not in TERMINAL:
                continue
            if story.finished_ms + self.settings.retention_ms <= self.log_time_ms:
                for listener in self.listeners:
                    listener.retired(story)
                story.changed(self.index, GONE)

    def _change_settings(self, command: ChangeSettings, _reply: Reply) -> None:
        if not (command.is_seed and self._seeded):
            self._seeded = True
            self.settings = self.settings._replace(**dict(command.changes))
