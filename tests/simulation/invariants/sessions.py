"""A worker that is heard has a session (T1), and is told nothing else.

A worker that hears UNKNOWN_SESSION gives up all it holds and registers anew, which ends the
session it had. So a leader that has forgotten, or was deposed, must not say so. It may say so a
little early of a session whose time is over: that end is on its way through the log.

Nor does a copy of its own registration, that was answered over another connection, open another
session: that would end the one it works with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.history import Operation
from tests.simulation.invariants.rule import Invariant
from tests.simulation.stories import Listener
from tq.protocol import Code

if TYPE_CHECKING:
    from statemachine import RegisterWorker
    from tests.simulation.world import World

_ROUNDING_S = 0.001


class Sessions(Listener, Invariant):
    """Who is told that a session has ended, and by what it ends."""

    name = "who is heard has a session"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._ledger = world.history.ledger
        self._least = 1.0 - world.options.drift
        self._ledger.listeners.append(self)
        world.history.listeners.append(self._ended)
        self._registered: set[int] = set()
        """Numbers of the registrations that were answered."""

    def registered(self, command: RegisterWorker, session: int) -> None:
        if command.request_id in self._registered:
            self.fail(f"registration {command.request_id} was answered, and opens another session")

    def _ended(self, operation: Operation) -> None:
        if operation.kind == "register" and operation.outcome == "ok":
            self._registered.add(operation.number)
        if operation.code != Code.UNKNOWN_SESSION:
            return
        session, ledger = operation.what[0], self._ledger
        heard_at = ledger.session_heard.get(session)
        if heard_at is None:
            return
        silent_s = operation.returned - heard_at
        if silent_s < ledger.settings.lease_ms / 1000 * self._least - _ROUNDING_S:
            self.fail(
                f"session {session} is alive, and was heard {silent_s:.3f} s before: "
                f"{operation.describe()}"
            )
