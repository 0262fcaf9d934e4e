"""What is synced when, and what may be said then: the decisions of the one writer to a disk.

One sync at a time, begun one callback after it was asked for, and the newest covers all before
it. What speaks of a written batch is held until the sync that covers it has returned and is
noted. The high-water mark (`cluster.watermark`) becomes durable besides: with a sync once it is
due, or by `poll` when nothing more is written.

`SyncQueue` has no thread, no file and no clock: it asks `SyncWork`, which tells it the end of
each thing asked for. `cluster.syncer` drives it with threads, a simulation with events.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from cluster.messages import Message
from cluster.watermark import HighWater

MARK_INTERVAL_S = 1.0
"""How late the durable high-water mark may be."""


class SyncUser(Protocol):
    """Who is told; all calls come from the event loop."""

    def capture_mark(self) -> HighWater:
        """Return the mark of everything written by now."""

    def release(self, peer: int, epoch: int, message: Message) -> None:
        """Send a message that was held."""

    def durable(self, sequence: int) -> None:
        """Hear that everything up to a sequence is durable; its messages were released."""

    def disk_failed(self, text: str) -> None:
        """Hear that the disk failed. Nothing more is released."""


class SyncWork(Protocol):
    """Who does what was decided; what it cannot begin, and raises, counts as failed."""

    def time(self) -> float:
        """A monotonic clock, seconds."""

    def begin_soon(self) -> None:
        """Call `SyncQueue.begin` one callback later."""

    def sync(self, mark: HighWater) -> None:
        """Sync what is written, note it, then call `synced`; `failed` if that is refused.

        Args:
            mark: Of what is written now; the note speaks of what the sync has covered.
        """

    def store(self, mark: HighWater) -> None:
        """Make the mark durable beside a sync, then call `stored`; `failed` if it is refused."""


class SyncQueue:
    """Decides; at most one sync and one mark are under way.

    Args:
        user: Who is told.
        work: Who does it.
        sequence: The last batch that is known to be durable.

    Attributes:
        failure: Why nothing is begun any more, None unless the disk has refused.
    """

    __slots__ = (
        "_durable",
        "_ended",
        "_held",
        "_mark",
        "_mark_due_at",
        "_marked",
        "_marking",
        "_scheduled",
        "_syncing",
        "_user",
        "_wanted",
        "_work",
        "failure",
    )

    def __init__(self, user: SyncUser, work: SyncWork, sequence: int) -> None:
        self._user = user
        self._work = work
        self._held: deque[tuple[int, int, int, Message]] = deque()
        self._scheduled = False
        self._syncing = False
        self._marking = False
        self._mark: HighWater | None = None
        self._mark_due_at = work.time() + MARK_INTERVAL_S
        self._ended = False
        self.failure: str | None = None
        self.reset(sequence)

    def reset(self, sequence: int) -> None:
        """Take everything up to a batch as durable: storage has seen to it."""
        self._wanted = self._durable = self._marked = sequence

    def hold(self, sequence: int, peer: int, epoch: int, message: Message) -> None:
        """Keep a message until `sequence` is durable; sequences only grow."""
        self._held.append((sequence, peer, epoch, message))

    def want(self, sequence: int) -> None:
        """Ask for a batch to become durable."""
        self._wanted = max(self._wanted, sequence)
        self._schedule()

    def poll(self) -> None:
        """Store the high-water mark when it is due; called every few tens of milliseconds."""
        idle = not self._syncing and self._wanted == self._durable
        if idle and self._durable > self._marked and self._mark_is_due():
            self._store(self._user.capture_mark)

    def end(self) -> bool:
        """Begin nothing more and release nothing more; True unless that was so before."""
        was, self._ended = self._ended, True
        self._held.clear()
        return not was

    # What the one who works tells.

    def begin(self) -> None:
        """The callback after `begin_soon`."""
        self._scheduled = False
        if self._ended or self._syncing or self._wanted <= self._durable:
            return
        self._syncing = True
        try:
            mark = self._user.capture_mark()
            self._mark = mark if self._mark_is_due() else None
            self._work.sync(mark)
        except Exception as error:  # noqa: BLE001 - it would be waited for without end
            self.failed(f"a sync could not begin: {error!r}")

    def synced(self, sequence: int) -> None:
        """The sync has returned and is noted: it covers everything up to `sequence`."""
        self._syncing = False
        if self._ended:
            return
        self._durable = sequence
        held, release = self._held, self._user.release
        while held and held[0][0] <= sequence:
            _, peer, epoch, message = held.popleft()
            release(peer, epoch, message)
        self._user.durable(sequence)
        if self._wanted > self._durable:
            self._schedule()
        if (mark := self._mark) is not None:
            self._store(lambda: mark)

    def stored(self, mark: HighWater) -> None:
        """The mark is durable."""
        self._marking = False
        self._marked = mark.sequence
        self._mark_due_at = self._work.time() + MARK_INTERVAL_S

    def failed(self, text: str) -> None:
        """The disk has refused: nothing is begun or released after it."""
        self.end()
        self.failure = self.failure or text
        self._user.disk_failed(text)

    def _schedule(self) -> None:
        if not (self._scheduled or self._syncing or self._ended):
            self._scheduled = True
            self._work.begin_soon()

    def _mark_is_due(self) -> bool:
        return not self._marking and self._work.time() >= self._mark_due_at

    def _store(self, take: Callable[[], HighWater]) -> None:
        if self._ended:
            return
        self._marking = True
        try:
            self._work.store(take())
        except Exception as error:  # noqa: BLE001 - no other mark would be stored after it
            self.failed(f"the high-water mark could not be stored: {error!r}")
