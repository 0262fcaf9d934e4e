"""An event loop in a daemon thread of its own."""

from __future__ import annotations

import asyncio
import threading


class LoopThread:
    """A running event loop that other threads hand work to.

    The thread is a daemon: what blocks the loop cannot keep the process from ending.

    Args:
        name: Name of the thread, for people who look at a stack dump.

    Attributes:
        loop: The loop; use only its thread-safe methods from outside.
    """

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def stop(self) -> None:
        """Cancel what runs in the loop and close it; returns without waiting for that."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.loop.stop)

    def _run(self) -> None:
        loop = self.loop
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()
