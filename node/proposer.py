"""Group commit: what arrives in one turn of the event loop becomes one log entry.

One append, one fsync and one round to the peers are paid per entry, not per
command. While `depth` own entries are under way, new commands wait and the next
entry grows: under load batches become larger by themselves, without a timer that
would delay a lonely command.

While the time is not known nothing is handed over. An entry without a time would leave log
time where it is: minutes ago, if the cluster was idle, and what is reckoned from it would be
too early. Without a quorum of clocks there is none to commit the entry either.

Source: group commit, as in etcd's and TigerBeetle's pipelines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from node.session import Session
from node.waiting import ParkedClaim
from statemachine import Command

ENTRY_MAX_BYTES: Final = 1024 * 1024
ENTRY_TASKS_MAX: Final = 2000
DEPTH: Final = 2
STUCK_S: Final = 5.0
"""An entry that has no outcome for so long has callers who have waited long enough."""
_ENTRY_HEAD_BYTES: Final = 32
"""Bound of what an entry adds to its commands: version, time stamp, array heads."""


class Request:
    """One command on its way through the log.

    Args:
        command: The decoded command.
        spliced: Its bytes in the entry.
        type_: Type of the message that brought it.
        session: Who is answered; None for claims and for the node itself.
        tasks: How many tasks it touches at most; bounds the work of one entry.
    """

    __slots__ = ("claim", "command", "done", "session", "spliced", "tasks", "told", "type")

    def __init__(
        self,
        command: Command,
        spliced: bytes,
        *,
        type_: int,
        session: Session | None = None,
        tasks: int = 1,
    ) -> None:
        self.command = command
        self.spliced = spliced
        self.type = type_
        self.session = session
        self.tasks = tasks
        self.claim: ParkedClaim | None = None
        """Set for a claim: it is answered with payloads, or parked again."""
        self.done: Callable[[], None] | None = None
        """Set by the node itself: called when the command was applied or dropped."""
        self.told = False
        """Its caller was told already that the outcome is not known."""


class Batch:
    """The commands of one entry of ours, in the order of their replies."""

    __slots__ = ("now_ms", "requests")

    def __init__(self, now_ms: int, requests: list[Request]) -> None:
        self.now_ms = now_ms
        self.requests = requests


class Propose(Protocol):
    """Hands an entry to consensus (`cluster.replica.Replica.propose`)."""

    def __call__(self, entry: bytes, decoded: object, context: object) -> object:
        """Append `entry`; `context` comes back when it was applied or dropped."""


class Proposer:
    """Cuts waiting commands into entries.

    Args:
        propose: Hands an entry to consensus.
        join: Builds an entry from a time stamp and spliced commands.
        failed: Told of a batch whose entry could not be handed over.
        schedule: Runs a callback soon in the event loop.
        wall_ms: The wall clock, milliseconds since the Unix epoch; 0 while it is not known.
        now_s: The monotonic clock, seconds.
        depth: Own entries that may be under way at once.
    """

    def __init__(
        self,
        *,
        propose: Propose,
        join: Callable[[int, Sequence[bytes]], bytes],
        failed: Callable[[Batch], None],
        schedule: Callable[[Callable[[], None]], object],
        wall_ms: Callable[[], int],
        now_s: Callable[[], float],
        depth: int = DEPTH,
    ) -> None:
        assert depth >= 1
        self._propose = propose
        self._join = join
        self._failed = failed
        self._schedule = schedule
        self._wall_ms = wall_ms
        self._now_s = now_s
        self._depth = depth
        self._waiting: list[Request] = []
        self._waiting_bytes = 0
        self._waiting_tasks = 0
        self._scheduled = False
        self._in_flight: set[Batch] = set()
        self._moved_at_s = 0.0
        """When the last entry had its outcome, or was handed over with none before it."""

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is under way."""
        return not self._waiting and not self._in_flight

    @property
    def in_flight(self) -> int:
        """Own entries under way."""
        return len(self._in_flight)

    def add(self, request: Request) -> None:
        """Put `request` into the next entry."""
        self._waiting.append(request)
        self._waiting_bytes += len(request.spliced)
        self._waiting_tasks += request.tasks
        if not self._scheduled and len(self._in_flight) < self._depth:
            self._scheduled = True
            self._schedule(self.cut)

    def cut(self) -> None:
        """Hand entries over until nothing waits, `depth` are under way, or the time is not known.

        Raises:
            Exception: Whatever building or handing over raised; every command of
                that batch was answered before.
        """
        self._scheduled = False
        while self._waiting and len(self._in_flight) < self._depth:
            now_ms = self._wall_ms()
            if not now_ms:
                return  # `poll` comes again
            batch = Batch(now_ms, self._take())
            if not self._in_flight:
                self._moved_at_s = self._now_s()
            self._in_flight.add(batch)
            try:
                entry = self._join(batch.now_ms, [one.spliced for one in batch.requests])
                decoded = (batch.now_ms, [one.command for one in batch.requests])
                self._propose(entry, decoded, batch)
            except BaseException:
                if self.settled(batch):
                    self._failed(batch)
                raise

    def poll(self) -> None:
        """Go on if the time was not known; call every few tens of milliseconds."""
        if len(self._in_flight) < self._depth:
            self._continue()

    def settled(self, batch: Batch) -> bool:
        """Note that the entry of `batch` was applied or dropped.

        Returns:
            False when its commands were answered before.
        """
        if batch not in self._in_flight:
            return False
        self._in_flight.discard(batch)
        self._moved_at_s = self._now_s()
        self._continue()
        return True

    @property
    def is_stuck(self) -> bool:
        """Entries are under way, and none has had an outcome for `STUCK_S`."""
        return bool(self._in_flight) and self._now_s() - self._moved_at_s > STUCK_S

    def under_way(self) -> list[Request]:
        """Return the commands of all entries that are under way."""
        return [request for batch in self._in_flight for request in batch.requests]

    def take_waiting(self) -> list[Request]:
        """Remove and return the commands that are in no entry yet."""
        waiting, self._waiting = self._waiting, []
        self._waiting_bytes = self._waiting_tasks = 0
        return waiting

    def _continue(self) -> None:
        if self._waiting and not self._scheduled:
            self._scheduled = True
            self._schedule(self.cut)

    def _take(self) -> list[Request]:
        """Take the commands of one entry: all, or the first that fit."""
        room_bytes = ENTRY_MAX_BYTES - _ENTRY_HEAD_BYTES
        if self._waiting_bytes <= room_bytes and self._waiting_tasks <= ENTRY_TASKS_MAX:
            return self.take_waiting()
        count = size_bytes = tasks = 0
        for request in self._waiting:
            size_bytes += len(request.spliced)
            tasks += request.tasks
            if count and (size_bytes > room_bytes or tasks > ENTRY_TASKS_MAX):
                break
            count += 1
        taken = self._waiting[:count]
        del self._waiting[:count]
        self._waiting_bytes -= sum(len(one.spliced) for one in taken)
        self._waiting_tasks -= sum(one.tasks for one in taken)
        return taken
