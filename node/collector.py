"""When Python looks for cycles of garbage: often and little, never all at once by surprise.

A full collection visits every object, 100,000 tasks included, and stands in the way
of heartbeats for a tenth of a second. Nearly all garbage dies by reference count; what
lives is tasks. So automatic collection is off; every tick collects the young generation
and freezes what survived, which costs in proportion to what is new. A full collection
thaws everything, and waits for a quiet moment, but not for ever.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Final

FULL_INTERVAL_S: Final = 600.0
FULL_LATEST_S: Final = 3 * FULL_INTERVAL_S
"""A node that is never quiet is interrupted after so long."""
_YOUNG_MIN: Final = 2000
"""Fewer new objects than this are left for a later tick."""


class Collector:
    """Paces the garbage collector of this process.

    Args:
        is_quiet: Whether nobody waits for an answer right now.
        now_s: The monotonic clock, seconds.
    """

    def __init__(self, *, is_quiet: Callable[[], bool], now_s: Callable[[], float]) -> None:
        self._is_quiet = is_quiet
        self._now_s = now_s
        self._full_at_s = 0.0

    def start(self) -> None:
        """Turn automatic collection off; call when everything is loaded."""
        gc.collect()
        gc.freeze()
        gc.disable()
        self._full_at_s = self._now_s() + FULL_INTERVAL_S

    def tick(self) -> None:
        """Collect what is young; everything, when it is time and quiet, or high time."""
        now_s = self._now_s()
        late_s = now_s - self._full_at_s
        if late_s >= FULL_LATEST_S - FULL_INTERVAL_S or (late_s >= 0 and self._is_quiet()):
            gc.unfreeze()
            gc.collect()
            gc.freeze()
            self._full_at_s = now_s + FULL_INTERVAL_S
        elif gc.get_count()[0] >= _YOUNG_MIN:
            gc.collect(0)
            gc.freeze()

    def stop(self) -> None:
        """Give the process its ordinary collector back."""
        gc.unfreeze()
        gc.enable()
