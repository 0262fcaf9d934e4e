"""The story of one task as the log tells it, and who is told of each turn."""

from __future__ import annotations

from typing import Any, Final

from statemachine import POSITION_BITS, Claim, Grant, RegisterWorker
from statemachine.kinds import Kind

SCHEDULED: Final = "scheduled"
PENDING: Final = "pending"
IN_PROGRESS: Final = "in_progress"
FAILED: Final = "failed"
COMPLETED: Final = "completed"
DEAD_LETTER: Final = "dead_letter"
CANCELLED: Final = "cancelled"
GONE: Final = "gone"
"""Retired: nobody is told of it any more."""

TERMINAL: Final = frozenset({COMPLETED, DEAD_LETTER, CANCELLED})

Version = tuple[int, str, int, int, int]
"""From this index on: state, attempts, failures, leases lost."""


class TaskStory:
    """One task, as the log has made it.

    Attributes:
        place: Position of its submit.
        token: Of its latest lease, 0 before the first.
        session: Which holds the live lease, 0 if none.
        submitted_at: True time of its submit.
        due_ms: Log time at which it becomes pending, while it is scheduled or failed.
        settled: Outcome that the latest lease reported, -1 if none.
        leased_at: True time at which its lease began to count last.
        versions: Each change of what a reader sees.
        claimed: Sequence number of its first claim, 0 before.
        renewed_at: True time of the sending of the last heartbeat that was told it lives.
        ends: How often it became terminal.
    """

    __slots__ = (
        "attempt", "claimed", "due_ms", "ends", "failures", "finished_ms", "kind", "lease_ms",
        "leased_at", "lost", "place", "renewed_at", "session", "settled", "state", "submitted_at",
        "task_id", "token", "versions",
    )  # fmt: skip

    def __init__(self, task_id: bytes, kind: Kind, place: int, now: float) -> None:
        self.task_id = task_id
        self.kind = kind
        self.place = place
        self.state = SCHEDULED if kind.delay_ms else PENDING
        self.token = self.session = self.due_ms = self.lease_ms = 0
        self.attempt = self.failures = self.lost = 0
        self.settled = -1
        self.submitted_at = now
        self.leased_at = self.renewed_at = 0.0
        self.finished_ms = self.claimed = self.ends = 0
        self.versions: list[Version] = [(place >> POSITION_BITS, self.state, 0, 0, 0)]

    def changed(self, index: int, state: str) -> None:
        """Note a new state; of the changes in one entry only the last is ever seen."""
        self.state = state
        version = (index, state, self.attempt, self.failures, self.lost)
        if self.versions[-1][0] == index:
            self.versions[-1] = version
        else:
            self.versions.append(version)

    def describe(self) -> str:
        """Say it in one line."""
        return f"task {self.task_id.hex()[:12]} ({self.state}, token {self.token})"


class Listener:
    """What a ledger tells, each before it changes the story. Any may be left as it is."""

    def submitted(self, story: TaskStory | None, task_id: bytes, reply: object) -> None:
        """A submit was answered; the story is None if the task was not known."""

    def granted(
        self, story: TaskStory | None, command: Claim, grant: Grant, *, again: bool
    ) -> None:
        """A task was leased, or a claim that was repeated was told of the lease it has."""

    def pending(self, story: TaskStory) -> None:
        """A task may be claimed from now on; said after the change."""

    def reported(self, story: TaskStory | None, command: Any, reply: object) -> None:
        """A result, extension, progress or release was answered."""

    def cancelled(self, story: TaskStory | None, reply: object) -> None:
        """A cancellation was answered."""

    def lost(self, story: TaskStory, why: str) -> None:
        """A lease ends without its holder's doing."""

    def registered(self, command: RegisterWorker, session: int) -> None:
        """A worker was given a session."""

    def session_expired(self, session: int) -> None:
        """A worker was found silent."""

    def retired(self, story: TaskStory) -> None:
        """A task that ended is forgotten."""
