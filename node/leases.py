"""Leases on the leader's monotonic clock.

Only the leader counts, in its memory: a heartbeat is no log entry. Nothing here
ends a lease; an expired one becomes a proposed command that names task and token,
and the log decides. A new leader gives every live lease a full period before it
may expire anything, so no failover and no clock jump shortens a healthy lease. A
deposed leader holds nothing and renews nothing.

What leases exist is the machine's knowledge alone. The keeper holds a deadline per
token and asks the machine before it acts, so a token whose lease ended in some
other way is dropped when its time comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from node.deadlines import Deadlines

EXPIRE_MAX: Final = 500
"""Leases expired by one command."""
SESSIONS_MAX: Final = 100
"""Worker sessions expired by one command."""
_RETRY_S: Final = 2.0
"""When to propose an expiry again that was not applied."""
_SLOT_S: Final = 0.1


class Lease(Protocol):
    """A live lease, as the machine tells it."""

    @property
    def task_id(self) -> bytes:
        """The leased task."""

    @property
    def token(self) -> int:
        """Its fencing token."""

    @property
    def session(self) -> int:
        """The worker session that holds it."""

    @property
    def lease_ms(self) -> int:
        """Length of the lease, milliseconds."""


class LeaseKeeper:
    """Deadlines of leases and worker sessions.

    Args:
        lease_of: The live lease of a token, or None.
        session_s: How long a silent worker session lives, seconds (two missed
            heartbeats); asked each time, since it is a replicated setting.
    """

    def __init__(
        self, *, lease_of: Callable[[int], Lease | None], session_s: Callable[[], float]
    ) -> None:
        self._lease_of = lease_of
        self._session_s = session_s
        self._leases: Deadlines[int] = Deadlines(slot_s=_SLOT_S)
        self._sessions: Deadlines[int] = Deadlines(slot_s=_SLOT_S)
        self._expiring: set[int] = set()
        """Tokens whose expiry was proposed. Telling their worker that they were renewed
        would promise time the entry under way takes away."""
        self._held: dict[int, int] = {}
        """Tokens with commands under way that make their leases longer -> how many."""
        self._ending: set[int] = set()
        """Sessions whose expiry was proposed: dead to this leader, for the same reason."""
        self._counting = False

    @property
    def counting(self) -> bool:
        """This node leads and has seen every live lease."""
        return self._counting

    @property
    def leases(self) -> int:
        """Deadlines of leases that are kept."""
        return len(self._leases)

    @property
    def sessions(self) -> int:
        """Worker sessions that are counted."""
        return len(self._sessions)

    def is_alive(self, session: int) -> bool:
        """Say whether a worker session is registered, as far as this leader was told.

        One whose expiry is under way is not: a worker told otherwise would lose, without
        notice, what it claims now.
        """
        return session in self._sessions and session not in self._ending

    def take_over(self, leases: Iterable[Lease], sessions: Iterable[int], *, now_s: float) -> None:
        """Start a full period for everything alive: this node leads, its no-op is applied."""
        self.stand_down()
        for lease in leases:
            self._leases.set(lease.token, now_s + lease.lease_ms / 1000)
        for session in sessions:
            self._sessions.set(session, now_s + self._session_s())
        self._counting = True

    def stand_down(self) -> None:
        """Forget everything: this node does not lead."""
        self._leases.clear()
        self._sessions.clear()
        self._expiring.clear()
        self._held.clear()
        self._ending.clear()
        self._counting = False

    def stood_still(self, for_s: float) -> None:
        """Give back the time in which this process did not run: nobody could be heard then.

        What was sent meanwhile waits in the sockets, and who keeps its lease by heartbeats at
        half its length has as much of it left as when the process stopped.
        """
        self._leases.postpone(for_s)
        self._sessions.postpone(for_s)

    def granted(self, token: int, *, lease_ms: int, now_s: float) -> None:
        """Start the lease of a grant that was applied."""
        if self._counting:
            self._leases.set(token, now_s + lease_ms / 1000)

    def extended(self, token: int, *, now_s: float) -> None:
        """Start the lease anew with its new length: an EXTEND was applied."""
        lease = self._lease_of(token)
        if self._counting and lease is not None and token not in self._expiring:
            # It may have become shorter, so it is not enough to move the deadline later.
            self._leases.set(token, now_s + lease.lease_ms / 1000)

    def hold(self, token: int) -> None:
        """Let no expiry of a lease be proposed: an EXTEND of it is under way.

        It would follow the EXTEND in the log, and end what its worker was just told it has.
        """
        self._held[token] = self._held.get(token, 0) + 1

    def let_go(self, token: int) -> None:
        """Note that a command that held a lease was applied or dropped."""
        left = self._held.pop(token, 0) - 1
        if left > 0:
            self._held[token] = left

    def ended(self, token: int) -> None:
        """Forget a lease that ended: completed, failed or released."""
        self._leases.discard(token)
        self._expiring.discard(token)

    def registered(self, session: int, *, now_s: float) -> None:
        """Count a worker session that was registered, or that was heard of."""
        if self._counting:
            self._sessions.set(session, now_s + self._session_s())

    def deregistered(self, session: int) -> None:
        """Forget a worker session."""
        self._sessions.discard(session)
        self._ending.discard(session)

    def renew(self, session: int, tokens: Iterable[int], *, now_s: float) -> list[int] | None:
        """Renew what `session` still holds of `tokens`.

        Call only after a read barrier that was asked for after the heartbeat came:
        a node that no longer leads must not promise time.

        Returns:
            The tokens that are lost; None when nothing is renewed because this node
            is not counting.
        """
        if not self._counting:
            return None
        lost: list[int] = []
        for token in tokens:
            lease = self._lease_of(token)
            if lease is None or lease.session != session or token in self._expiring:
                lost.append(token)
            else:
                self._leases.set(token, now_s + lease.lease_ms / 1000)
        self._sessions.set(session, now_s + self._session_s())
        return lost

    def expired(self, *, now_s: float) -> list[tuple[bytes, int]]:
        """Return the next (task id, token) pairs to expire, at most `EXPIRE_MAX`.

        A pair comes again after a while unless its lease ended.
        """
        pairs: list[tuple[bytes, int]] = []
        for token in self._leases.pop_due(now_s, limit=EXPIRE_MAX):
            lease = self._lease_of(token)
            if lease is None:
                self._expiring.discard(token)
                continue
            if token in self._held:
                self._leases.set(token, now_s + _SLOT_S)
                continue
            pairs.append((lease.task_id, token))
            self._expiring.add(token)
            self._leases.set(token, now_s + _RETRY_S)
        return pairs

    def expiry_settled(self, tokens: Iterable[int]) -> None:
        """Note that a proposed expiry was applied, or dropped: nothing under way ends these.

        One that was dropped must not stand between a lease and what makes it longer.
        """
        self._expiring.difference_update(tokens)

    def ending_settled(self, sessions: Iterable[int]) -> None:
        """Note that the proposed expiry of worker sessions was applied, or dropped."""
        self._ending.difference_update(sessions)

    def dead_sessions(self, is_registered: Callable[[int], bool], *, now_s: float) -> list[int]:
        """Return the next silent worker sessions to expire, at most `SESSIONS_MAX`.

        Args:
            is_registered: Whether the machine has a session.
            now_s: The monotonic clock, seconds.
        """
        silent = self._sessions.pop_due(now_s, limit=SESSIONS_MAX)
        if not silent:
            return []
        dead = [session for session in silent if is_registered(session)]
        self._ending.difference_update(silent)
        self._ending.update(dead)
        for session in dead:
            self._sessions.set(session, now_s + _RETRY_S)
        return dead
