"""Times in which nothing is done to a cluster, and times in which nobody is answered."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from chaos.evidence import Evidence, Fault

SETTLE_MS: Final = 5_000
"""How long after a fault nothing is expected yet."""
SILENT_MAX_MS: Final = 5_000
"""How long at most nobody is answered, or nobody leads, while it is calm."""
RESTART_MS: Final = 15_000
"""How long it may take until nodes that were ended, or short of room, are at work again: to start
processes takes seconds where processors are busy."""
ENDING: Final = (
    *("kill", "power", "rolling restart", "replace member"),
    *("torn", "flip", "damaged", "disk full", "fsync"),
)
"""How the kinds of faults begin after which a node may be another process."""
FROZEN: Final = "worker frozen"
BESIDE: Final = (FROZEN, "vanishing clients")
"""Kinds of faults that touch no node."""
CLOCKS: Final = "clock"
"""How the kinds of faults begin that move wall clocks, which no answer may wait for."""
LATE_MS: Final = 30_000
"""How long after its client gave up a request may still arrive somewhere and take effect."""
MS: Final = 1_000_000


class Gap(NamedTuple):
    """A time in which something was called and nothing was acknowledged, nanoseconds."""

    begins: int
    ends: int

    @property
    def length_ms(self) -> int:
        """Length, milliseconds, rounded up."""
        return -((self.begins - self.ends) // MS)


def settled(evidence: Evidence, fault: Fault, *, restarts: bool = True) -> int:
    """Return when a fault is no excuse any more, nanoseconds.

    Args:
        evidence: Of the run; its settings may hold `settle_ms` and `restart_ms`.
        fault: Of the run.
        restarts: One that may end processes counts until they are at work again.
    """
    over_ms = int(evidence.settings.get("settle_ms", SETTLE_MS))
    if restarts and fault.kind.startswith(ENDING):
        over_ms = max(over_ms, int(evidence.settings.get("restart_ms", RESTART_MS)))
    return (fault.at if fault.to is None else fault.to) + over_ms * MS


class Quiet:
    """Tells when nothing is done to the cluster, and has not been for a while.

    Args:
        evidence: Of the run.
        restarts: As in `settled`.
        kinds: Only faults whose kinds begin so count; all, if it is "".
        besides: Faults whose kinds begin so do not count.
    """

    def __init__(
        self,
        evidence: Evidence,
        *,
        restarts: bool = False,
        kinds: str = "",
        besides: tuple[str, ...] = BESIDE,
    ) -> None:
        self._begins: list[int] = []
        self._ends: list[int] = []
        for fault in evidence.faults:
            if not fault.kind.startswith(kinds) or fault.kind.startswith(besides):
                continue
            end = settled(evidence, fault, restarts=restarts)
            self._begins.append(fault.at)
            self._ends.append(max(end, self._ends[-1]) if self._ends else end)

    def at(self, moment: int) -> bool:
        """Tell whether a moment is quiet."""
        number = bisect_right(self._begins, moment)
        return number == 0 or self._ends[number - 1] < moment

    def pieces(self, begins: int, ends: int) -> Iterator[Gap]:
        """Give the quiet pieces of a time, in order."""
        since = begins
        # Ends grow, so this is the first fault that is not over when it begins.
        for number in range(bisect_left(self._ends, begins), len(self._begins)):
            until = min(self._begins[number], ends)
            if until > since:
                yield Gap(since, until)
            since = max(since, self._ends[number])
            if since >= ends:
                return
        if ends > since:
            yield Gap(since, ends)

    def longest(self, begins: int, ends: int) -> Gap:
        """Return the longest quiet piece of a time."""
        pieces = self.pieces(begins, ends)
        return max(pieces, key=lambda one: one.ends - one.begins, default=Gap(begins, begins))

    def whole(self, begins: int, ends: int) -> bool:
        """Tell whether all of a time is quiet."""
        return self.longest(begins, ends) == Gap(begins, ends)


def last_moment(evidence: Evidence) -> int:
    """Return when the last thing that a client noted happened; 0 if there is none.

    A call that never ended, not even by giving up, wants its answer until then.
    """
    return max((max(one.at, one.to or 0) for one in evidence.history), default=0)


def silences(spans: Sequence[tuple[int, int]], answers: Sequence[int]) -> list[Gap]:
    """Return the times without an answer while somebody wanted one, in order.

    Args:
        spans: From when to when each call wanted an answer, in order of their beginning.
        answers: When a call was answered with success, in order; the last time may end
            without.
    """
    if not spans:
        return []
    calls = [begins for begins, _ in spans]
    # A call that was under way when another was answered is called at that moment, so to say.
    latest_end = [max(span) for span in spans]
    for number in range(1, len(latest_end)):
        latest_end[number] = max(latest_end[number], latest_end[number - 1])
    gaps: list[Gap] = []
    before = calls[0]
    for answer in [*answers, latest_end[-1]]:
        begun = bisect_right(calls, before)
        if begun and latest_end[begun - 1] > before:
            start = before
        else:
            start = calls[begun] if begun < len(calls) else answer
        if answer > start:
            gaps.append(Gap(start, answer))
        before = max(before, answer)
    return gaps
