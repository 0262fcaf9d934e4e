"""Leases and fences (S3, S4).

At each position of the log a task has at most one lease. Its token is the position of the
claim, larger than any earlier one's. Whatever a worker reports takes effect if its token is
that of the live lease when it is applied, and then always; any other report is refused and
changes nothing, but for the repetition of one that was taken, which gets the same answer.
Only what does not run can be cancelled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from statemachine import Claim, Code, Done, Grant, Recorded, Refused, TaskResult
from tests.simulation.invariants.rule import Invariant
from tests.simulation.stories import (
    CANCELLED,
    COMPLETED,
    DEAD_LETTER,
    FAILED,
    GONE,
    IN_PROGRESS,
    PENDING,
    SCHEDULED,
    Listener,
    TaskStory,
)

if TYPE_CHECKING:
    from tests.simulation.world import World

_CANCELLABLE = frozenset({SCHEDULED, PENDING, FAILED, CANCELLED})


class Fences(Listener, Invariant):
    """One lease, fenced."""

    name = "leases and fences"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._ledger = world.history.ledger
        self._ledger.listeners.append(self)

    def granted(
        self, story: TaskStory | None, command: Claim, grant: Grant, *, again: bool
    ) -> None:
        if story is None or story.state == GONE:
            self.fail(f"a task nobody submitted is leased: {grant}")
        if again:
            if story.state != IN_PROGRESS or story.session != command.session:
                self.fail(f"a lease that has ended is granted again: {story.describe()}")
            return
        if story.state != PENDING:
            self.fail(f"{story.describe()} is leased with token {grant.token}")
        if grant.token != self._ledger.next_token or grant.token <= story.token:
            self.fail(f"token {grant.token} of {story.describe()} is no new log position")
        if command.session not in self._ledger.session_heard:
            self.fail(f"session {command.session}, which has ended, leases {story.describe()}")
        if (grant.attempt, grant.place) != (story.attempt + 1, story.place):
            self.fail(f"attempt or place of {story.describe()} is wrong: {grant}")

    def reported(self, story: TaskStory | None, command: Any, reply: object) -> None:
        if story is None or story.state == GONE:
            if not isinstance(reply, Refused) or reply.code != Code.NOT_FOUND:
                self.fail(f"a report on a task that is not there gets {reply}")
            return
        expected = self._expected(story, command)
        if isinstance(reply, Refused):
            fits = expected is None and reply.code == Code.LEASE_LOST
        elif isinstance(reply, Recorded):
            fits = reply.state == expected
        else:
            fits = isinstance(reply, Done) and expected == ""
        if not fits:
            self.fail(
                f"{type(command).__name__} with token {command.token} of {story.describe()} "
                f"gets {reply}, and should get {expected or 'a refusal'}"
            )

    def _expected(self, story: TaskStory, command: Any) -> str | None:
        """State in the answer, "" for none; None if it must be refused."""
        lives = story.state == IN_PROGRESS and story.token == command.token
        if not isinstance(command, TaskResult):
            return "" if lives else None
        outcome = int(command.outcome)
        if lives:
            if outcome == 0:
                return COMPLETED
            used_up = story.failures + 1 > story.kind.policy.retry_max
            return DEAD_LETTER if outcome == 2 or used_up else FAILED
        if story.token != command.token or story.settled != outcome:
            return None
        if outcome == 0:
            return COMPLETED
        return DEAD_LETTER if story.state == DEAD_LETTER else FAILED

    def cancelled(self, story: TaskStory | None, reply: object) -> None:
        if story is None or story.state == GONE:
            fits = isinstance(reply, Refused) and reply.code == Code.NOT_FOUND
        elif story.state in _CANCELLABLE:
            fits = isinstance(reply, Recorded) and reply.state == CANCELLED
        else:
            fits = isinstance(reply, Refused) and reply.code == Code.NOT_CANCELLABLE
        if not fits:
            what = "an unknown task" if story is None else story.describe()
            self.fail(f"the cancellation of {what} gets {reply}")
