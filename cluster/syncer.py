"""The one writer to stable storage: syncs in a thread, one at a time, newest covers all.

What speaks of a written batch is held here until the sync that covers it has returned, and
until that is noted (`cluster.watermark`): a killed process remembers what it answered for. A
sync is begun one callback after it was asked for, so that the leader's messages leave while
its own disk still works.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from time import perf_counter
from typing import Protocol

from cluster.faults import DiskHungError
from cluster.messages import Message
from cluster.recovery import Storage
from cluster.watermark import HighWater

MARK_INTERVAL_S = 1.0
"""How late the durable high-water mark may be."""


STOP_MAX_S = 5.0
"""How long the end of a process waits for its disk."""


class SyncUser(Protocol):
    """Who is told; all calls come from the event loop."""

    def capture_mark(self) -> HighWater:
        """Return the mark of everything written by now."""

    def release(self, peer: int, epoch: int, message: Message) -> None:
        """Send a message that was held."""

    def durable(self, sequence: int) -> None:
        """Hear that everything up to a sequence is durable; its messages were released."""

    def disk_failed(self, text: str) -> None:
        """Hear that the disk failed. Nothing more is released."""


class Syncer:
    """Makes batches durable and releases what waits for them.

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
        # A thread of its own: two fsyncs once a second must not delay an answer.
        self._mark_thread = ThreadPoolExecutor(1, thread_name_prefix="high-water")
        self._held: deque[tuple[int, int, int, Message]] = deque()
        self.reset()
        self._scheduled = False
        self._syncing = False
        self._marking = False
        self._mark_due_at = self._loop.time() + MARK_INTERVAL_S
        self._ended = False
        self._running: set[Future[None]] = set()

    def reset(self) -> None:
        """Take everything written so far as durable: storage has seen to it."""
        self._wanted = self._durable = self._marked = self._storage.disk.sequence

    def hold(self, sequence: int, peer: int, epoch: int, message: Message) -> None:
        """Keep a message until `sequence` is durable."""
        self._held.append((sequence, peer, epoch, message))

    def want(self, sequence: int) -> None:
        """Ask for a batch to become durable."""
        self._wanted = max(self._wanted, sequence)
        self._schedule()

    def poll(self) -> None:
        """Store the high-water mark when it is due; called every few tens of milliseconds."""
        idle = not self._syncing and self._wanted == self._durable
        if idle and self._durable > self._marked and self._mark_is_due():
            self._write_mark(self._user.capture_mark())

    async def stop(self) -> None:
        """Finish what is under way, sync a last time and store the mark.

        Raises:
            DiskFailedError: The last sync failed.
            DiskHungError: It has not returned in time.
        """
        failed, self._ended = self._ended, True
        try:
            if not failed:
                async with asyncio.timeout(STOP_MAX_S):
                    await self._loop.run_in_executor(self._thread, self._finish)
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

    def _let_go(self) -> None:
        self._thread.shutdown(wait=False)
        self._mark_thread.shutdown(wait=False)

    def fail(self) -> None:
        """Begin nothing more and release nothing more; does not wait."""
        self._ended = True
        self._held.clear()

    def _finish(self) -> None:
        mark = self._user.capture_mark()
        self._storage.disk.sync()
        self._mark_thread.submit(self._storage.write_mark, mark).result()

    def _schedule(self) -> None:
        if not (self._scheduled or self._syncing or self._ended):
            self._scheduled = True
            self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._scheduled = False
        if self._ended or self._syncing or self._wanted <= self._durable:
            return
        self._syncing = True
        self._run(self._thread, self._sync, self._user.capture_mark(), self._mark_is_due())

    def _run(self, thread: ThreadPoolExecutor, act: Callable[..., None], *given: object) -> None:
        future = thread.submit(act, *given)
        self._running.add(future)
        future.add_done_callback(self._running.discard)

    def _sync(self, mark: HighWater, store: bool) -> None:
        """Run in the thread."""
        began_at = perf_counter()
        try:
            sequence = self._storage.disk.sync()
            self._storage.write_note(mark, sequence)
        except Exception as error:  # noqa: BLE001 - whatever it is, the disk is lost
            self._call(self._user.disk_failed, str(error))
        else:
            seconds = perf_counter() - began_at
            self._call(self._done, sequence, seconds, mark if store else None)

    def _call(self, callback: Callable[..., None], *arguments: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _done(self, sequence: int, seconds: float, mark: HighWater | None) -> None:
        self._syncing = False
        if self._ended:
            return
        self._durable = sequence
        if self._observe is not None:
            self._observe(seconds)
        held = self._held
        while held and held[0][0] <= sequence:
            _, peer, epoch, message = held.popleft()
            self._user.release(peer, epoch, message)
        self._user.durable(sequence)
        if self._wanted > self._durable:
            self._schedule()
        if mark is not None:
            self._write_mark(mark)

    def _mark_is_due(self) -> bool:
        return not self._marking and self._loop.time() >= self._mark_due_at

    def _write_mark(self, mark: HighWater) -> None:
        if self._ended:
            return
        self._marking = True
        self._run(self._mark_thread, self._store_mark, mark)

    def _store_mark(self, mark: HighWater) -> None:
        """Run in the thread of the mark."""
        try:
            self._storage.write_mark(mark)
        except Exception as error:  # noqa: BLE001 - whatever it is, the disk is lost
            self._call(self._user.disk_failed, str(error))
        else:
            self._call(self._mark_stored, mark.sequence)

    def _mark_stored(self, sequence: int) -> None:
        self._marking = False
        self._marked = sequence
        self._mark_due_at = self._loop.time() + MARK_INTERVAL_S


def _hung() -> DiskHungError:
    return DiskHungError(f"the disk has not synced within {STOP_MAX_S:g} s: it hangs")
