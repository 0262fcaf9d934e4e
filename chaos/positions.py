"""When log entries were written, as far as their callers can tell.

Who was answered with a log index knows that the entry was proposed after the call, and
applied before the answer. Entries are proposed and applied in order, so this bounds the
times of all others: an entry is no older than the call behind any earlier one, and was
applied before the answer to any later one.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Final

from chaos.stories import POSITION_BITS, Story

ALWAYS: Final = -math.inf
NEVER: Final = math.inf


class LogTimes:
    """Bounds of the time of each entry, nanoseconds.

    Args:
        stories: All tasks of a run.
    """

    def __init__(self, stories: Iterable[Story]) -> None:
        called: dict[int, float] = {}
        answered: dict[int, float] = {}
        for story in stories:
            for index, at, to in _known(story):
                called[index] = max(called.get(index, ALWAYS), at)
                answered[index] = min(answered.get(index, NEVER), to)
        self._indexes = sorted(called)
        self._called = list(accumulate((called[index] for index in self._indexes), max))
        latest_first = (answered[index] for index in reversed(self._indexes))
        self._answered = list(accumulate(latest_first, min))[::-1]

    def not_before(self, index: int) -> float:
        """Return a moment before which the entry was certainly not proposed."""
        at = bisect_right(self._indexes, index)
        return self._called[at - 1] if at else ALWAYS

    def not_after(self, index: int) -> float:
        """Return a moment after which the entry was certainly applied."""
        at = bisect_left(self._indexes, index)
        return self._answered[at] if at < len(self._indexes) else NEVER


def _known(story: Story) -> Iterator[tuple[int, int, int]]:
    """Give (index, call, answer) for each entry a caller of this task was told of.

    Repeated calls get the entry of the first, so the earliest call and answer count.
    """
    accepted = [submit for submit in story.submits if submit.outcome == "ok"]
    if accepted:
        index = min(int(submit.value["index"]) for submit in accepted)
        call = min(submit.at for submit in story.submits)
        yield index, call, min(submit.to for submit in accepted if submit.to is not None)
    spans: dict[int, tuple[int, int]] = {}
    for grant in story.grants:
        claim = grant.operation
        assert claim.to is not None
        at, to = spans.get(grant.token, (claim.at, claim.to))
        spans[grant.token] = (min(at, claim.at), min(to, claim.to))
    for token, (at, to) in spans.items():
        yield token >> POSITION_BITS, at, to
