"""Waiting for "something changed, look again" or for a moment, whichever comes first."""

from __future__ import annotations

import asyncio
import math


class Bell:
    """Wakes the one coroutine that waits on it.

    A ring while nobody waits is kept for the next wait, so nothing is missed between
    looking and waiting. Rings do not add up: whoever wakes must look at everything.
    """

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake the waiter; called on its loop."""
        self._rung.set()

    async def wait(self, until: float = math.inf) -> None:
        """Return after a ring, or at `until` by the clock of the running loop."""
        try:
            async with asyncio.timeout_at(None if math.isinf(until) else until):
                await self._rung.wait()
        except TimeoutError:
            pass
        self._rung.clear()
