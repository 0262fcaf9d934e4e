"""Where a family is empty because everything there was deleted.

A deleted record stays in the database, as a mark that hides it, until a compaction has
passed; whoever reads in order walks over every mark, some 400,000 a second, with the
interpreter lock. A sweep that deletes the oldest records leaves hundreds of thousands in a
row. So the disk looks, after each batch that deleted something, where the next record is: a
short way, since only the marks of this batch are new. What it learns is remembered here, and
readers jump. It is memory of one process, about what is there and not part of it: forgetting
costs time and nothing else.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import Final

RUNS_MAX: Final = 8
"""Stretches of deleted records that one batch learns of; the rest are left to compaction."""
GAPS_MAX: Final = 64
"""Gaps that are remembered; those with the fewest deleted records are forgotten."""
WORTH_MIN: Final = 16
"""Deleted records in a gap that is worth a jump."""

First = Callable[[bytes, bytes | None], bytes | None]
"""(start, end) -> the first key with start <= key < end, None if there is none."""


class TooFarError(Exception):
    """The next record is behind so many deleted ones that it was not looked for."""


class Gaps:
    """Ranges of one family that hold no record: disjoint, in order.

    Attributes:
        deleted: Keys of records that went since the last `learn`.
        known: Where each gap starts, in order.
    """

    def __init__(self) -> None:
        self.known: list[bytes] = []
        self._ends: list[bytes] = []
        self._weights: list[int] = []
        """About how many deleted records are in each."""
        self.deleted: list[bytes] = []

    def __len__(self) -> int:
        return len(self.known)

    def put(self, key: bytes) -> None:
        """Note that a record is about to be there."""
        if not self.known:
            return
        at = bisect_right(self.known, key) - 1
        if at >= 0 and key < self._ends[at]:
            start, end, weight = self._pop(at)
            half = (weight + 1) // 2
            self._insert(key + b"\0", end, half)
            self._insert(start, key, half)

    def found(self, start: bytes, end: bytes) -> None:
        """Take a range as empty, and worth a jump."""
        self._insert(start, end, WORTH_MIN)

    def delete(self, key: bytes) -> None:
        """Note that a record is about to be gone; see `learn`."""
        self.deleted.append(key)

    def clear(self) -> None:
        """Forget all gaps; what was deleted and not learned of stays noted."""
        self.known.clear()
        self._ends.clear()
        self._weights.clear()

    def way(self, start: bytes) -> tuple[bytes, bytes | None]:
        """Tell where to begin who reads from `start` on, and where to stop at the next gap."""
        at = bisect_right(self.known, start)
        if at and start < self._ends[at - 1]:
            start = self._ends[at - 1]
        for later in range(at, len(self.known)):
            if self._weights[later] >= WORTH_MIN:
                return start, self.known[later]
        return start, None

    def learn(self, first: First) -> None:
        """Look what the deletions since the last call have left.

        Args:
            first: Reads the written records; may raise TooFarError.
        """
        if not self.deleted:
            return
        keys, self.deleted = sorted(self.deleted), []
        at = 0
        try:
            for _ in range(RUNS_MAX):
                if at < len(keys):
                    at = self._learn_run(keys, at, first)
        except TooFarError:
            return

    def _learn_run(self, keys: list[bytes], at: int, first: First) -> int:
        """Learn of the gap round `keys[at]`; return the index of the next key beyond it."""
        start, weight = keys[at], 0
        right = bisect_right(self.known, start)
        if right and start < self._ends[right - 1]:
            return bisect_left(keys, self._ends[right - 1], at)
        limit = self.known[right] if right < len(self.known) else None
        found = first(start, limit)
        if found is not None:
            end = found
        elif limit is not None:
            _, end, weight = self._pop(right)
        else:
            end = keys[-1] + b"\0"  # and not for ever: larger keys come all the time
        after = bisect_left(keys, end, at)
        if end <= start:  # it was put again
            return after + 1
        if first(self._ends[right - 1] if right else b"", start) is None:
            start, _, more = self._pop(right - 1) if right else (b"", b"", 0)
            weight += more
        self._insert(start, end, weight + after - at)
        return after

    def _pop(self, at: int) -> tuple[bytes, bytes, int]:
        return self.known.pop(at), self._ends.pop(at), self._weights.pop(at)

    def _insert(self, start: bytes, end: bytes, weight: int) -> None:
        if start >= end:
            return
        if len(self.known) == GAPS_MAX:
            self._pop(min(range(GAPS_MAX), key=self._weights.__getitem__))
        at = bisect_left(self.known, start)
        self.known.insert(at, start)
        self._ends.insert(at, end)
        self._weights.insert(at, weight)
