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

    def enter(self) -> bool:
        """Go in if there is room; whoever is inside has to `leave`."""
        if self.taken >= self._size:
            return False
        self.taken += 1
        return True

    async def wait(self, expires_at_s: float) -> None:
        """Wait in line, and go in: for whom there was no room.

        Args:
            expires_at_s: By the clock of the running loop.

        Raises:
            Unavailable: There was none until then.
        """
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            async with asyncio.timeout_at(expires_at_s):
                await turn
        except (TimeoutError, asyncio.CancelledError) as error:
            if turn.done() and not turn.cancelled():
                self.leave()  # the turn came in the same moment: the next one's, now
            if isinstance(error, TimeoutError):
                text = f"{self._size} requests were in flight until the deadline"
                raise Unavailable(text) from None
            raise

    def leave(self) -> None:
        """Go out; the next in line goes in at once, before anyone who comes later."""
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.taken -= 1
