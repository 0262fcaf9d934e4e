"""The worker's own view of its leases, and when to send the next heartbeat.

The leader decides when a lease ends; a worker cut off from it must stop *before*
that moment, or two workers run the task at once. So it counts each lease from a
moment that is certainly earlier than the leader's (before the claim or the heartbeat
was sent), on its own monotonic clock, and takes a guard off the end.

Times are seconds of one monotonic clock, always passed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

GUARD_FRACTION: Final = 0.1
GUARD_MIN_S: Final = 0.5
RETRY_S: Final = 0.5
"""Pause after a heartbeat that got no answer."""


def guard_s(lease_s: float) -> float:
    """Return what is taken off the end of a lease: 10 %, at least half a second."""
    return max(lease_s * GUARD_FRACTION, GUARD_MIN_S)


@dataclass
class Lease:
    """One held lease.

    Attributes:
        token: Fencing token of the claim.
        lease_s: Its length.
        confirmed_at: A moment before the leader last started the lease anew.
    """

    token: int
    lease_s: float
    confirmed_at: float

    @property
    def ends_at(self) -> float:
        """From here on the worker treats the lease as lost."""
        return self.confirmed_at + self.lease_s - guard_s(self.lease_s)

    @property
    def renew_at(self) -> float:
        """From here on a heartbeat is due: half of the lease is gone.

        Of a very short lease the guard takes so much that half would be too late.
        """
        half = self.confirmed_at + self.lease_s / 2
        return min(half, self.ends_at - GUARD_MIN_S / 2)


class Heart:
    """Leases held by one session, and the time of the next heartbeat.

    A lease that was seen as lost, by the leader's word or by this clock, never comes
    back: its task has been told to stop.
    """

    def __init__(self, *, interval_s: float, now: float) -> None:
        self._interval_s = interval_s
        self._sent_at = now
        self._retry_at = now
        self._leases: dict[int, Lease] = {}
        self._lost: set[int] = set()

    @property
    def tokens(self) -> list[int]:
        """Tokens to list in a heartbeat: everything held and not known as lost."""
        return [token for token in self._leases if token not in self._lost]

    def hold(self, token: int, *, lease_s: float, sent_at: float) -> None:
        """Count a lease from before its claim was sent."""
        self._leases[token] = Lease(token, lease_s, sent_at)

    def drop(self, token: int) -> None:
        """Forget a lease: the task's end was recorded, or nobody works on it any more."""
        self._leases.pop(token, None)
        self._lost.discard(token)

    def lose(self, token: int) -> None:
        """Note that the leader called this token stale."""
        if token in self._leases:
            self._lost.add(token)

    def lose_all(self) -> None:
        """The session is over, and every lease with it."""
        self._lost.update(self._leases)

    def is_lost(self, token: int, now: float) -> bool:
        """True when the lease is gone, by anyone's word; a token never held is lost."""
        lease = self._leases.get(token)
        if lease is None:
            return True
        if now >= lease.ends_at:
            self._lost.add(token)
        return token in self._lost

    def was_lost(self, token: int) -> bool:
        """True when the lease is known to be gone, whatever the clock says now."""
        return token not in self._leases or token in self._lost

    def ends_at(self, token: int) -> float:
        """When this lease ends by the local clock, unless it is renewed before."""
        return self._leases[token].ends_at

    def is_stale(self, token: int, now: float) -> bool:
        """True when so much of the lease may be gone that it must be renewed before use.

        A long poll may have waited longer than a short lease lasts, and a repeated
        claim may return a grant that is seconds old.
        """
        return now >= self._leases[token].renew_at

    def next_beat_at(self) -> float:
        """When the next heartbeat is due: each interval, and at half of the shortest lease."""
        due = self._sent_at + self._interval_s
        for token in self.tokens:
            due = min(due, self._leases[token].renew_at)
        return max(due, self._retry_at)

    def sent(self, now: float) -> None:
        """Note that a heartbeat is about to leave."""
        self._sent_at = now

    def confirmed(self, tokens: list[int], lost: list[int], *, sent_at: float) -> None:
        """Take in the answer to the heartbeat that listed `tokens` and left at `sent_at`."""
        for token in tokens:
            lease = self._leases.get(token)
            if lease is not None and token not in self._lost:
                lease.confirmed_at = max(lease.confirmed_at, sent_at)
        for token in lost:
            self.lose(token)

    def unanswered(self, now: float) -> None:
        """Note that a heartbeat failed; the next one is due after a short pause."""
        self._sent_at = now - self._interval_s
        self._retry_at = now + RETRY_S
