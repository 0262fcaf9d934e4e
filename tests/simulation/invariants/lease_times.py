"""No lease ends before its time (T1).

A lease that is kept by heartbeats is not taken away by a clock or a change of leader: it
lasts its full length, on a clock that is right within the drift of the world, from the
later of its grant, its last extension, and the sending of the last heartbeat that was told
it lives. The same holds of a worker's session. This is shown at the position of the log
where the lease is taken, which is when it matters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.history import Operation
from tests.simulation.invariants.rule import Invariant
from tests.simulation.stories import IN_PROGRESS, Listener, TaskStory

if TYPE_CHECKING:
    from tests.simulation.world import World

_ROUNDING_S = 0.001


class LeaseTimes(Listener, Invariant):
    """A lease lasts."""

    name = "leases last their time"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._ledger = world.history.ledger
        self._ledger.listeners.append(self)
        self._least = 1.0 - world.options.drift
        world.history.listeners.append(self._ended)

    def lost(self, story: TaskStory, why: str) -> None:
        if why != "expired":
            return
        since = max(story.leased_at, story.renewed_at)
        self._check(since, story.lease_ms, f"the lease of {story.describe()}")

    def session_expired(self, session: int) -> None:
        since = self._ledger.session_heard[session]
        self._check(since, self._ledger.settings.lease_ms, f"session {session}")

    def _check(self, since: float, length_ms: int, what: str) -> None:
        lasted_s = self._ledger.now - since
        if lasted_s < length_ms / 1000 * self._least - _ROUNDING_S:
            self.fail(
                f"{what} of {length_ms} ms, alive at {since - 1000:.3f} s, is taken after "
                f"{lasted_s:.3f} s"
            )

    def _ended(self, operation: Operation) -> None:
        """A heartbeat that was answered keeps what it listed, from when it was sent."""
        if operation.kind != "heartbeat" or operation.outcome != "ok":
            return
        session, tokens = operation.what
        sent_at = operation.sent_at
        heard = self._ledger.session_heard
        if session in heard:
            heard[session] = max(heard[session], sent_at)
        lost = operation.answer[0]
        held = self._ledger.sessions.get(session, {})
        for token in tokens:
            story = held.get(token)
            if token not in lost and story is not None and story.state == IN_PROGRESS:
                story.renewed_at = max(story.renewed_at, sent_at)
