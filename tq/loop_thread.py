"""An event loop in a daemon thread of its own."""

from __future__ import annotations

import asyncio
import logging
import threading

log = logging.getLogger("tq.loop")


class LoopThread:
    """A running event loop that other threads hand work to.

    The thread is a daemon: what blocks the loop cannot keep the process from ending. It goes
    on until `stop`: a task that exits or that stops the loop ends nobody's work but its own.

    Args:
        name: Name of the thread, for people who look at a stack dump.

    Attributes:
        loop: The loop; use only its thread-safe methods from outside.

    Raises:
        RuntimeError: The process cannot start another thread.
    """

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._stopping = False
        try:
            threading.Thread(target=self._run, name=name, daemon=True).start()
        except BaseException:
            self.loop.close()
            raise

    def stop(self) -> None:
        """Cancel what runs in the loop and close it; returns without waiting for that."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            self.loop.stop()

    def _run(self) -> None:
        loop = self.loop
        asyncio.set_event_loop(loop)
        try:
            while not self._stopping:
                self._serve()
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()

    def _serve(self) -> None:
        try:
            self.loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            # asyncio lets these of any task out of the loop; the task has it as its end, too.
            log.warning("loop_interrupted", exc_info=True)
