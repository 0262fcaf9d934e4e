"""The one writer to stable storage: threads that do what `cluster.sync_queue` decides.

A sync and its note run in one thread, the durable high-water mark in another: its fsyncs, once
a second, must not delay an answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from time import perf_counter

from cluster.faults import DiskFailedError, DiskHungError
from cluster.recovery import Storage
from cluster.sync_queue import SyncQueue, SyncUser
from cluster.watermark import HighWater

STOP_MAX_S = 5.0
"""How long the end of a process waits for its disk."""


class Syncer:
    """Makes batches durable and releases what waits for them; a `cluster.rim.Syncs`.

    Args:
        storage: What is synced, and where the mark is kept.
        user: Who is told.
        observe_sync: Called with the seconds each sync took.
    """

    def __init__(
        self,
        storage: Storage,
        user: SyncUser,
        observe_sync: Callable[[float], None] | None = None,
    ) -> None:
        self._storage = storage
        self._user = user
        self._observe = observe_sync
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sync")
        self._mark_thread = ThreadPoolExecutor(1, thread_name_prefix="high-water")
        self._running: set[Future[None]] = set()
        self._queue = queue = SyncQueue(user, self, storage.disk.sequence)
        self.hold = queue.hold
        self.want = queue.want
        self.poll = queue.poll

    def reset(self) -> None:
        """Take everything written so far as durable: storage has seen to it."""
        self._queue.reset(self._storage.disk.sequence)

    async def stop(self) -> None:
        """Finish what is under way, sync a last time and store the mark.

        Raises:
            DiskFailedError: The last sync failed, or one before it.
            DiskHungError: It has not returned in time.
        """
        try:
            if self._queue.end():
                async with asyncio.timeout(STOP_MAX_S):
                    await self._loop.run_in_executor(self._thread, self._finish)
            elif self._queue.failure is not None:
                # Between the end of the links and now: whoever stops listens to nothing else.
                raise DiskFailedError(self._queue.failure)
        except TimeoutError:
            raise _hung() from None
        finally:
            self._let_go()

    def abort(self) -> None:
        """Begin nothing more and release nothing more; waits for what runs in the threads.

        Raises:
            DiskHungError: It has not returned in time.
        """
        self.fail()
        self._let_go()
        if wait(self._running.copy(), STOP_MAX_S).not_done:
            raise _hung()

    def fail(self) -> None:
        """Begin nothing more and release nothing more; does not wait."""
        self._queue.end()

    # What the queue asks for.

    def time(self) -> float:
        """The clock of the loop."""
        return self._loop.time()

    def begin_soon(self) -> None:
        """Begin in the next turn: the leader's messages leave while its own disk still works."""
        self._loop.call_soon(self._queue.begin)

    def sync(self, mark: HighWater) -> None:
        """Sync in the thread."""
        self._run(self._thread, self._sync, mark)

    def store(self, mark: HighWater) -> None:
        """Store the mark in its thread."""
        self._run(self._mark_thread, self._store, mark)

    def _let_go(self) -> None:
        self._thread.shutdown(wait=False)
        self._mark_thread.shutdown(wait=False)

    def _finish(self) -> None:
        mark = self._user.capture_mark()
        self._storage.disk.sync()
        self._mark_thread.submit(self._storage.write_mark, mark).result()

    def _run(
        self, thread: ThreadPoolExecutor, act: Callable[[HighWater], None], mark: HighWater
    ) -> None:
        future = thread.submit(act, mark)
        self._running.add(future)
        future.add_done_callback(self._running.discard)

    def _sync(self, mark: HighWater) -> None:
        """Run in the thread."""
        began_at = perf_counter()
        try:
            sequence = self._storage.disk.sync()
            self._storage.write_note(mark, sequence)
        except Exception as error:  # noqa: BLE001 - whatever it is, the disk is lost
            self._call(self._queue.failed, str(error))
        else:
            self._call(self._synced, sequence, perf_counter() - began_at)

    def _store(self, mark: HighWater) -> None:
        """Run in the thread of the mark."""
        try:
            self._storage.write_mark(mark)
        except Exception as error:  # noqa: BLE001 - whatever it is, the disk is lost
            self._call(self._queue.failed, str(error))
        else:
            self._call(self._queue.stored, mark)

    def _call(self, callback: Callable[..., None], *arguments: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _synced(self, sequence: int, seconds: float) -> None:
        if self._observe is not None:
            self._observe(seconds)
        self._queue.synced(sequence)


def _hung() -> DiskHungError:
    return DiskHungError(f"the disk has not synced within {STOP_MAX_S:g} s: it hangs")
