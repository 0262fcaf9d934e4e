"""A queue that keeps every promise, in memory and without haste: what legal histories are of.

It follows docs/lifecycle.md, is called by one thread, and each call takes effect at once. Its
clock is a number that the caller sets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

from chaos.stories import POSITION_BITS

Answer = tuple[str, Any]
"""`ok` and a value, or `fail` and the code in a map, as an operation records them."""
OK: Answer = ("ok", {})
WAITING = ("pending", "scheduled", "failed")
TERMINAL = ("completed", "dead_letter", "cancelled")


@dataclass(slots=True, eq=False)
class Task:
    task: str
    asked: dict[str, Any]
    place: int
    state: str
    due_at: int = 0
    token: int = 0
    attempt: int = 0
    failures: int = 0
    lost: int = 0
    settled: int = -1
    result: str | None = None
    progress: int | None = None
    session: int = 0
    claim: int = 0
    lease_ms: int = 0
    deadline: int = 0
    past: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    def status(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "attempt": self.attempt,
            "failures": self.failures,
            "lost": self.lost,
            "result": self.result,
            "progress": self.progress,
        }

    @property
    def rank(self) -> tuple[int, int]:
        return -self.asked["priority"], self.place


def refused(code: str) -> Answer:
    return "fail", {"code": code}


class ReferenceQueue:
    def __init__(
        self, rng: Random, *, lease_ms: int = 400, retry_max: int = 2, lost_max: int = 3
    ) -> None:
        self.rng = rng
        self.lease_ms = lease_ms
        self.retry_max = retry_max
        self.lost_max = lost_max
        self.depth_max = 1_000
        self.now = 0
        self.index = 0
        self.tasks: dict[str, Task] = {}
        self.sessions: dict[int, int] = {}
        """Session -> when it dies of silence."""
        self.workers: dict[str, int] = {}

    # -- the log

    def begin(self) -> int:
        """Start an entry: time advances first, as far as this entry says."""
        self.index += self.rng.randint(1, 2)
        for task in self.tasks.values():
            if task.state in {"scheduled", "failed"} and task.due_at <= self.now:
                self._move(task, "pending")
        return self.index << POSITION_BITS

    def _move(self, task: Task, state: str) -> None:
        task.state = state
        self._note(task)

    def _note(self, task: Task) -> None:
        task.past.append((self.index, task.status()))

    # -- verbs

    def submit(self, task: str, asked: dict[str, Any], *, position: int = 0) -> Answer:
        place = position or self.begin()
        known = self.tasks.get(task)
        if known is not None:
            same = known.asked == asked
            return ("ok", {"index": known.place >> POSITION_BITS}) if same else refused("CONFLICT")
        line = [one for one in self.tasks.values() if one.asked["queue"] == asked["queue"]]
        if sum(one.state not in TERMINAL for one in line) >= self.depth_max:
            return refused("QUEUE_FULL")
        delay = asked["delay_ms"]
        state = "scheduled" if delay else "pending"
        self.tasks[task] = Task(task, asked, place, state, due_at=self.now + delay * 1_000_000)
        self._note(self.tasks[task])
        return "ok", {"index": self.index}

    def submit_many(self, many: list[tuple[str, dict[str, Any]]]) -> list[Answer]:
        first = self.begin()
        return [
            self.submit(task, asked, position=first + n) for n, (task, asked) in enumerate(many)
        ]

    def claim(self, session: int, claim: int, queues: list[str], count: int) -> Answer:
        if session not in self.sessions:
            return refused("UNKNOWN_SESSION")
        if self._has_nothing(queues):
            return "ok", {"grants": []}
        position = self.begin()
        held = [
            task
            for task in self.tasks.values()
            if task.state == "in_progress" and task.session == session and task.claim == claim
        ]
        taken = held
        if not held:
            there = [
                task
                for task in self.tasks.values()
                if task.state == "pending" and task.asked["queue"] in queues
            ]
            taken = sorted(there, key=lambda task: task.rank)[:count]
            for number, task in enumerate(taken):
                task.token = position + number
                task.attempt += 1
                task.session, task.claim = session, claim
                task.settled, task.progress = -1, None
                task.lease_ms = self.lease_ms
                task.deadline = self.now + self.lease_ms * 1_000_000
                self._move(task, "in_progress")
        return "ok", {
            "grants": [
                {
                    "task": task.task,
                    "token": task.token,
                    "queue": task.asked["queue"],
                    "attempt": task.attempt,
                    "lease_ms": task.lease_ms,
                    "place": task.place,
                }
                for task in taken
            ]
        }

    def _has_nothing(self, queues: list[str]) -> bool:
        """A claim that can get nothing is parked, and no entry of the log."""
        return not any(
            task.state == "in_progress" or (task.state in WAITING and task.due_at <= self.now)
            for task in self.tasks.values()
            if task.asked["queue"] in queues
        )

    def report(self, kind: str, task_id: str, asked: dict[str, Any]) -> Answer:
        self.begin()
        task = self.tasks.get(task_id)
        if task is None:
            return refused("NOT_FOUND")
        outcome = {"complete": 0, "fail": 1 if asked.get("retry") else 2}.get(kind, -2)
        if task.state != "in_progress" or task.token != asked["token"]:
            if task.token == asked["token"] and task.settled == outcome:
                dead = "dead_letter" if task.state == "dead_letter" else "failed"
                return "ok", {"state": "completed" if outcome == 0 else dead}
            return refused("LEASE_LOST")
        if kind == "extend":
            task.lease_ms = asked["lease_ms"]
            task.deadline = self.now + task.lease_ms * 1_000_000
        elif kind == "progress":
            task.progress = asked["permille"]
            self._note(task)
        elif kind == "release":
            self._move(task, "pending")
        else:
            task.settled = outcome
            return self._ended(task, outcome, asked)
        return OK

    def _ended(self, task: Task, outcome: int, asked: dict[str, Any]) -> Answer:
        if outcome == 0:
            task.result = asked["result"]
            self._move(task, "completed")
        else:
            task.failures += 1
            dead = outcome == 2 or task.failures > self.retry_max
            task.due_at = self.now + self.rng.randint(5, 50) * 1_000_000
            self._move(task, "dead_letter" if dead else "failed")
        return "ok", {"state": task.state}

    def cancel(self, task_id: str) -> Answer:
        self.begin()
        task = self.tasks.get(task_id)
        if task is None:
            return refused("NOT_FOUND")
        if task.state in {"in_progress", "completed", "dead_letter"}:
            return refused("NOT_CANCELLABLE")
        if task.state != "cancelled":
            self._move(task, "cancelled")
        return "ok", {"state": "cancelled"}

    def get(self, task_id: str) -> Answer:
        task = self.tasks.get(task_id)
        return refused("NOT_FOUND") if task is None else ("ok", task.status())

    def get_stale(self, task_id: str, applied: int) -> Answer:
        task = self.tasks.get(task_id)
        past = [] if task is None else [told for at, told in task.past if at <= applied]
        return "ok", {**(past[-1] if past else {"state": None}), "applied": applied}

    def list_tasks(self, applied: int, *, after: str = "", limit: int = 1_000) -> Answer:
        """Look at some tasks behind `after`; a page may be short, and go on all the same."""
        known = sorted(
            one.task
            for one in self.tasks.values()
            if one.place >> POSITION_BITS <= applied and one.task > after
        )
        page = known[: min(limit, self.rng.randint(1, 4))]
        until = page[-1] if page and len(page) < len(known) else None
        return "ok", {"tasks": page, "applied": applied, "until": until}

    # -- sessions and leases

    def register(self, worker: str) -> Answer:
        older = self.workers.get(worker)
        session = self.begin()
        if older in self.sessions:
            self._end_session(older, charged=True)
        self.workers[worker] = session
        self.sessions[session] = self.now + self.lease_ms * 1_000_000
        return "ok", {"session": session}

    def deregister(self, session: int) -> Answer:
        if session not in self.sessions:
            return refused("UNKNOWN_SESSION")
        self.begin()
        self._end_session(session, charged=False)
        return OK

    def heartbeat(self, session: int, tokens: list[int]) -> Answer:
        if session not in self.sessions:
            return refused("UNKNOWN_SESSION")
        self.sessions[session] = self.now + self.lease_ms * 1_000_000
        live = {task.token: task for task in self.tasks.values() if task.state == "in_progress"}
        lost: list[int] = []
        for token in tokens:
            task = live.get(token)
            if task is None or task.session != session:
                lost.append(token)
            else:
                task.deadline = self.now + task.lease_ms * 1_000_000
        return "ok", {"lost": lost}

    def expire(self) -> None:
        """Take away what is over; not all of it at once."""
        for session, deadline in list(self.sessions.items()):
            if deadline <= self.now and self.rng.random() < 0.8:
                self.begin()
                self._end_session(session, charged=True)
        for task in self.tasks.values():
            over = task.state == "in_progress" and task.deadline <= self.now
            if over and self.rng.random() < 0.8:
                self.begin()
                self._lose(task)

    def fail_over(self) -> None:
        """A new leader gives every lease and session a full period."""
        self.index += 1
        for task in self.tasks.values():
            task.deadline = self.now + task.lease_ms * 1_000_000
        for session in self.sessions:
            self.sessions[session] = self.now + self.lease_ms * 1_000_000

    def _end_session(self, session: int, *, charged: bool) -> None:
        del self.sessions[session]
        for task in self.tasks.values():
            if task.state == "in_progress" and task.session == session:
                if charged:
                    self._lose(task)
                else:
                    self._move(task, "pending")

    def _lose(self, task: Task) -> None:
        task.lost += 1
        self._move(task, "dead_letter" if task.lost > self.lost_max else "pending")

    def ready(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for task in self.tasks.values():
            if task.state == "pending":
                counts[task.asked["queue"]] = counts.get(task.asked["queue"], 0) + 1
        return counts

    def live(self) -> bool:
        return any(task.state not in TERMINAL for task in self.tasks.values())
