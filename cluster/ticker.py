"""Time for the engine: a steady tick, and an early one when it asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

TICK_S = 0.02
_EARLY_MIN_S = 0.001


class Ticker:
    """Calls back every 20 ms, and once in between when told to.

    Args:
        tick: Called every 20 ms; must not raise.
        wake: Called in between; must not raise.
    """

    def __init__(self, tick: Callable[[], None], wake: Callable[[], None]) -> None:
        self._tick = tick
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._steady: asyncio.TimerHandle | None = None
        self._early: asyncio.TimerHandle | None = None
        self._early_at = 0.0
        """When the early tick is due: not every event loop's handle tells."""

    def start(self) -> None:
        """Tick now, and from now on."""
        self._steady = self._loop.call_later(TICK_S, self.start)
        self._tick()

    def early(self, at: float) -> None:
        """Wake at a time of the loop's clock, unless it is to wake earlier anyway.

        A time that has passed already means a millisecond from now: whoever asks for it
        again and again must not keep the loop from its sockets.
        """
        at = max(at, self._loop.time() + _EARLY_MIN_S)
        if self._early is not None:
            if self._early_at <= at:
                return
            self._early.cancel()
        self._early, self._early_at = self._loop.call_at(at, self._fire), at

    def stop(self) -> None:
        """Never call back again."""
        for timer in (self._steady, self._early):
            if timer is not None:
                timer.cancel()

    def _fire(self) -> None:
        self._early = None
        self._wake()
