"""Room for so many requests at one time; more wait in line."""

from __future__ import annotations

import asyncio
from collections import deque

from tq.errors import Unavailable


class Room:
    """Counts the requests in flight.

    Args:
        size: Requests at one time.

    Attributes:
        taken: Requests that are inside.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self.taken = 0
        self._line: deque[asyncio.Future[None]] = deque()

    async def wait(self, expires_at_s: float) -> None:
        """Wait for room; whoever then goes in counts itself in `taken`.

        Args:
            expires_at_s: By the clock of the running loop.

        Raises:
            Unavailable: There was none until then.
        """
        if self.taken < self._size:
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            async with asyncio.timeout_at(expires_at_s):
                await turn
        except TimeoutError:
            raise Unavailable(f"{self._size} requests were in flight until the deadline") from None
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.offer()
            raise

    def offer(self) -> None:
        """Let the next in line in, if there is room."""
        while self._line and self.taken < self._size:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
