"""The waiting room: claims that found nothing, and waits for a task's end.

Both live in the leader's memory only; the log never contains a wait. What wakes
them are hints, which may be lost or repeated: a woken claim is proposed like any
other and may find nothing again.

Claims are woken first come, first served per queue, and only as many as there
are tasks to grant: `reserved` counts what claims on their way through the log may
still take.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from node.deadlines import Deadlines
from node.session import Session
from statemachine import Claim

QueueKey: TypeAlias = tuple[str, str]
"""(namespace, queue)"""
ClaimRequest: TypeAlias = tuple[str, int, int]
"""(worker session, request id)"""

LOOKS_MAX: Final = 1000
"""Queues that one call of `ClaimRoom.wake_any` looks at."""


class ParkedClaim:
    """A claim that waits for tasks.

    Args:
        command: The decoded command.
        spliced: Its bytes in an entry.
        session: Its connection.
        queues: Where it may take from, each once.
        until_s: When it is answered with nothing, monotonic seconds.
    """

    __slots__ = (
        "before",
        "command",
        "heir",
        "held",
        "known",
        "queues",
        "reserved",
        "session",
        "spliced",
        "told",
        "until_s",
    )

    def __init__(
        self,
        command: Claim,
        spliced: bytes,
        *,
        session: Session,
        queues: list[QueueKey],
        until_s: float,
    ) -> None:
        self.command = command
        self.spliced = spliced
        self.session = session
        self.queues = queues
        self.until_s = until_s
        self.reserved: list[tuple[QueueKey, int]] = []
        """Tasks set aside for it while it is on its way."""
        self.told = False
        """Its latest connection was told that the outcome is not known, and waits no more."""
        self.before: list[Session] = []
        """Connections that the same request came over before: they are answered as this one."""
        self.heir: ParkedClaim | None = None
        """Its repetition, that came while it was on its way and goes on in its place."""
        self.known: tuple[int, ...] = ()
        """Tokens it was granted before, if it is the repetition of one that was answered."""
        self.held: tuple[int, ...] = ()
        """Tokens whose leases do not expire while it is on its way to be told of them again."""

    @property
    def request(self) -> ClaimRequest:
        """What it shares with its repetitions, and with no other claim."""
        command = self.command
        return (command.namespace, command.session, command.request_id)

    @property
    def connections(self) -> list[Session]:
        """Where its answer goes."""
        return self.before if self.told else [*self.before, self.session]

    def repeat(self, older: ParkedClaim) -> None:
        """Take the place of the same request as it came before."""
        self.known = older.known
        self.before = [
            one for one in older.connections if not one.closed and one is not self.session
        ]

    def tell_nobody(self) -> list[Session]:
        """Return where its answer would have gone, and from now on does not."""
        connections = [one for one in self.connections if not one.closed]
        self.before, self.told = [], True
        return connections

    def is_heard(self) -> bool:
        """Go on at the latest connection that is still open; False if none is."""
        while self.session.closed and self.before:
            self.session = self.before.pop()
        return not self.session.closed and not self.told


class ClaimRoom:
    """Claims that wait for tasks, and the ones that are on their way.

    Args:
        ready: How many tasks of a queue can be claimed now.
    """

    def __init__(self, ready: Callable[[str, str], int]) -> None:
        self._ready = ready
        self._queues: dict[QueueKey, OrderedDict[ParkedClaim, None]] = {}
        self._deadlines: Deadlines[ParkedClaim] = Deadlines()
        self._requests: dict[ClaimRequest, ParkedClaim] = {}
        self._reserved: dict[QueueKey, int] = {}
        self._to_look_at: list[QueueKey] = []

    def __len__(self) -> int:
        return len(self._deadlines)

    def reserve(self, claim: ParkedClaim) -> bool:
        """Set tasks aside for a claim that is about to be proposed; False if none is left."""
        wanted = claim.command.tasks_max
        for key in claim.queues:
            share = min(wanted, self._free(key))
            if share > 0:
                claim.reserved.append((key, share))
                self._reserved[key] = self._reserved.get(key, 0) + share
                wanted -= share
            if wanted == 0:
                break
        return bool(claim.reserved)

    def give_back(self, claim: ParkedClaim) -> None:
        """End the reservation of a claim that was applied or dropped."""
        for key, share in claim.reserved:
            left = self._reserved[key] - share
            if left:
                self._reserved[key] = left
            else:
                del self._reserved[key]
        claim.reserved.clear()

    def park(self, claim: ParkedClaim, *, first: bool = False) -> None:
        """Let `claim` wait; `first` for one that was woken and found nothing."""
        for key in claim.queues:
            line = self._queues.setdefault(key, OrderedDict())
            line[claim] = None
            if first:
                line.move_to_end(claim, last=False)
        self._deadlines.set(claim, claim.until_s)
        self._requests[claim.request] = claim
        claim.session.parked.add(claim)

    def replace(self, claim: ParkedClaim) -> None:
        """Take out what `claim` repeats, if that waits."""
        older = self._requests.get(claim.request)
        if older is not None:
            self.remove(older)
            claim.repeat(older)

    def remove(self, claim: ParkedClaim) -> None:
        """Take `claim` out; it may be gone already."""
        if claim not in self._deadlines:
            return
        self._deadlines.discard(claim)
        self._unlink(claim)

    def wake(self, keys: Iterable[QueueKey]) -> list[ParkedClaim]:
        """Remove and return the claims that can be proposed now, with tasks set aside."""
        woken: list[ParkedClaim] = []
        for key in keys:
            while (line := self._queues.get(key)) and self._free(key) > 0:
                claim = next(iter(line))
                self.remove(claim)
                self.reserve(claim)
                woken.append(claim)
        return woken

    def wake_any(self) -> list[ParkedClaim]:
        """Look at the next of the queues somebody waits for: hints can be lost.

        A bounded number at a time: one connection can wait for hundreds of thousands.
        """
        if not self._queues:
            self._to_look_at.clear()
            return []
        if not self._to_look_at:
            self._to_look_at = list(self._queues)
        next_ones = self._to_look_at[-LOOKS_MAX:]
        del self._to_look_at[-LOOKS_MAX:]
        return self.wake(next_ones)

    def pop_due(self, now_s: float) -> list[ParkedClaim]:
        """Remove and return the claims whose wait is over."""
        due = self._deadlines.pop_due(now_s)
        for claim in due:
            self._unlink(claim)
        return due

    def clear(self) -> list[ParkedClaim]:
        """Remove and return every parked claim."""
        return self.pop_due(float("inf"))

    def _free(self, key: QueueKey) -> int:
        return self._ready(*key) - self._reserved.get(key, 0)

    def _unlink(self, claim: ParkedClaim) -> None:
        del self._requests[claim.request]
        claim.session.parked.discard(claim)
        for key in claim.queues:
            line = self._queues[key]
            line.pop(claim, None)
            if not line:
                del self._queues[key]


class ParkedWait:
    """A WAIT_RESULT whose task has not ended.

    Args:
        session: Its connection.
        request_id: The client's number for it.
        task_id: What it waits for.
        until_s: When it is answered whatever the state, monotonic seconds.
    """

    __slots__ = ("request_id", "session", "task_id", "until_s")

    def __init__(
        self, session: Session, *, request_id: int, task_id: bytes, until_s: float
    ) -> None:
        self.session = session
        self.request_id = request_id
        self.task_id = task_id
        self.until_s = until_s


class WaitRoom:
    """Waits by task id."""

    def __init__(self) -> None:
        self._tasks: dict[bytes, dict[ParkedWait, None]] = {}
        self._deadlines: Deadlines[ParkedWait] = Deadlines()

    def __len__(self) -> int:
        return len(self._deadlines)

    def park(self, wait: ParkedWait) -> None:
        """Let `wait` wait."""
        self._tasks.setdefault(wait.task_id, {})[wait] = None
        self._deadlines.set(wait, wait.until_s)
        wait.session.parked.add(wait)

    def remove(self, wait: ParkedWait) -> None:
        """Take `wait` out; it may be gone already."""
        if wait not in self._deadlines:
            return
        self._deadlines.discard(wait)
        self._unlink(wait)

    def finished(self, task_ids: Iterable[bytes]) -> list[ParkedWait]:
        """Remove and return the waits for these tasks."""
        if not self._tasks:
            return []
        found: list[ParkedWait] = []
        for task_id in task_ids:
            found.extend(self._tasks.get(task_id, ()))
        for wait in found:
            self.remove(wait)
        return found

    def pop_due(self, now_s: float) -> list[ParkedWait]:
        """Remove and return the waits that are over."""
        due = self._deadlines.pop_due(now_s)
        for wait in due:
            self._unlink(wait)
        return due

    def clear(self) -> list[ParkedWait]:
        """Remove and return every wait."""
        return self.pop_due(float("inf"))

    def _unlink(self, wait: ParkedWait) -> None:
        wait.session.parked.discard(wait)
        waits = self._tasks[wait.task_id]
        del waits[wait]
        if not waits:
            del self._tasks[wait.task_id]
