"""Work of some milliseconds, one piece in a turn of the event loop.

A client may have thousands of requests under way. Where each takes a while, all that came
in one read must not be answered in one go: others would wait for seconds. Nor may one client
stand before the others with all it has: clients with work waiting take turns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from node.session import Session


class Turns:
    """Does pieces of work: of each client in the order in which they came, one in a round.

    Args:
        schedule: Runs a callback soon in the event loop.
    """

    def __init__(self, schedule: Callable[[Callable[[], None]], object]) -> None:
        self._schedule = schedule
        self._waiting: dict[Session, deque[Callable[[], None]]] = {}
        """Work of the clients that have some; whose turn it is comes first."""

    def add(self, session: Session, answer: Callable[[], None]) -> None:
        """Make an answer in a turn of its own, when the client has read the ones before."""
        session.begin(0)

        def made() -> None:
            if session.has_room:
                session.settle(0)
                if not session.closed:
                    answer()
            else:
                session.when_room(lambda: self._queue(session, made))

        session.when_room(lambda: self._queue(session, made))

    def _queue(self, session: Session, work: Callable[[], None]) -> None:
        if not self._waiting:
            self._schedule(self._next)
        self._waiting.setdefault(session, deque()).append(work)

    def _next(self) -> None:
        session = next(iter(self._waiting))
        line = self._waiting.pop(session)
        work = line.popleft()
        if line:
            self._waiting[session] = line
        if self._waiting:
            self._schedule(self._next)
        work()
