"""What a worker decides: how many tasks to claim, how an attempt ends, when to leave.

Nothing here waits, sends or looks at a clock. Times are seconds of one monotonic
clock, always passed in; the worker asks again at the time it is told.
"""

from __future__ import annotations

import math
import threading
from enum import Enum
from typing import Final

from tq.context import Progress

PROGRESS_INTERVAL_S: Final = 1.0


class Ending(Enum):
    """How an attempt ended; the first ending that is seen stands."""

    FINISHED = "finished"
    """The task's function returned or raised."""
    TIMED_OUT = "timed out"
    LOST = "lease lost"
    ABANDONED = "given back"
    """The worker is leaving and could not wait any longer."""


class Attempt:
    """One claimed task while its function runs.

    Attributes:
        ending: None while it runs.
    """

    def __init__(self, *, started_at: float, timeout_s: float | None) -> None:
        self._times_out_at = math.inf if timeout_s is None else started_at + timeout_s
        self.ending: Ending | None = None

    def step(self, now: float, *, finished: bool, lost: bool, leaving: bool) -> Ending | None:
        """Decide whether the attempt has ended.

        A result that is there before anybody looked counts, even when the timeout
        passed a moment ago; a lost lease comes before everything, since its result
        would be refused.

        Args:
            now: The time.
            finished: The function is over.
            lost: The lease is gone.
            leaving: The worker waits for nobody any more.

        Returns:
            The ending, the same one for ever after; None while it goes on.
        """
        if self.ending is None:
            if lost:
                self.ending = Ending.LOST
            elif finished:
                self.ending = Ending.FINISHED
            elif now >= self._times_out_at:
                self.ending = Ending.TIMED_OUT
            elif leaving:
                self.ending = Ending.ABANDONED
        return self.ending

    def wake_at(self, *, lease_ends_at: float) -> float:
        """When to look again if nothing happens before."""
        return min(self._times_out_at, lease_ends_at)


class ProgressGate:
    """Lets one progress report through per second; the newest one wins.

    The task's thread offers, the worker's loop takes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: Progress | None = None
        self._open_at = -math.inf

    def offer(self, progress: Progress) -> bool:
        """Leave a report at the gate; True if none was waiting there."""
        with self._lock:
            first = self._waiting is None
            self._waiting = progress
        return first

    def take(self, now: float) -> Progress | None:
        """Return the report to send now, if there is one and its time has come."""
        with self._lock:
            if self._waiting is None or now < self._open_at:
                return None
            progress, self._waiting = self._waiting, None
        self._open_at = now + PROGRESS_INTERVAL_S
        return progress

    def wake_at(self) -> float:
        """When the waiting report may leave; infinity if there is none."""
        return math.inf if self._waiting is None else self._open_at


class Slots:
    """Room for tasks: never more claimed than can run at once.

    A function that is over makes room while its result is still on its way, so that the
    next claim need not wait for the answer; results under way are bounded all the same.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._running = 0
        self._reporting = 0

    @property
    def free(self) -> int:
        """How many more tasks can start now."""
        held = self._running + self._reporting
        return min(self._total - self._running, 2 * self._total - held)

    def to_claim(self, claim_max: int) -> int:
        """How many tasks to ask for: what can start at once, within the cluster's limit."""
        return min(self.free, claim_max)

    def take(self) -> bool:
        """Take a slot; False when none is free, and the task must be given back."""
        if not self.free:
            return False
        self._running += 1
        return True

    def report(self) -> None:
        """Note that a function is over, and its end on its way to the cluster."""
        assert self._running > 0
        self._running -= 1
        self._reporting += 1

    def give_back(self, *, reported: bool) -> None:
        """Return a slot, of a running function or of a report."""
        if reported:
            assert self._reporting > 0
            self._reporting -= 1
        else:
            assert self._running > 0
            self._running -= 1


class Phase(Enum):
    """What the worker is doing with its life."""

    SERVING = "serving"
    DRAINING = "draining"
    """Claims nothing, gives unstarted tasks back, lets running ones finish."""
    LEAVING = "leaving"
    """Waits for nobody: running tasks are cancelled and given back."""


class Shutdown:
    """The way out: the first signal drains, the second one leaves at once.

    Attributes:
        timeout_s: How long draining may take; counts from the first signal on.
    """

    def __init__(self, *, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._leave_at = math.inf
        self.phase = Phase.SERVING

    def signal(self, now: float) -> Phase:
        """Take a request to stop."""
        if self.phase is Phase.SERVING:
            self.phase = Phase.DRAINING
            self._leave_at = now + self.timeout_s
        else:
            self.phase = Phase.LEAVING
        return self.phase

    def step(self, now: float, *, running: int) -> Phase:
        """Decide whether draining is over: nothing runs any more, or it took too long."""
        if self.phase is Phase.DRAINING and (running == 0 or now >= self._leave_at):
            self.phase = Phase.LEAVING
        return self.phase

    def wake_at(self) -> float:
        """When draining ends at the latest; infinity while serving."""
        return self._leave_at
