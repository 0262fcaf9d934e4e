"""One client in an event loop of its own, for callers from any thread or loop.

An `App` is used by blocking code and by coroutines of any event loop, at once and
after a fork. A client belongs to one loop; this one has its own, in a daemon thread.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Final, Generic, Protocol, TypeVar

from tq.errors import ConfigError, UnknownOutcome
from tq.loop_thread import LoopThread

LAST_CALLS_S: Final = 0.5
"""How long calls may take to end by themselves once their client is closed, seconds."""

Answer = TypeVar("Answer")


class Closable(Protocol):
    """What is asked of a client here."""

    async def close(self) -> None:
        """Let the connection go."""


Connection = TypeVar("Connection", bound=Closable)


class Link(Generic[Connection]):
    """A client, made when it is first used, and its thread.

    Args:
        make: Makes the client; called in the link's own loop.
    """

    def __init__(self, make: Callable[[], Connection]) -> None:
        self._make = make
        self.start_over()
        _links.add(self)

    def start_over(self) -> None:
        """Forget thread, client and lock: after a fork they are those of another process."""
        # Copied while another thread of the parent held it, nobody here would open it.
        self._lock = threading.Lock()
        self._line: Line[Connection] | None = None

    def call(
        self, use: Callable[[Connection], Coroutine[Any, Any, Answer]], *, hint: str
    ) -> Answer:
        """Use the client and block until it is done.

        Raises:
            ConfigError: Called where an event loop is running, which would stand still;
                the hint says what to write instead.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise ConfigError(f"this would block the running event loop: use {hint}")
        future = self._start(use)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # an interrupted wait must not leave the request behind
            raise

    async def acall(self, use: Callable[[Connection], Coroutine[Any, Any, Answer]]) -> Answer:
        """Use the client from any event loop; cancelling this cancels the request."""
        return await asyncio.wrap_future(self._start(use))

    def close(self) -> None:
        """Close the connection and end the thread; the next use starts anew."""
        with self._lock:
            line, self._line = self._line, None
        if line is not None:
            line.close()

    def _start(self, use: Callable[[Connection], Coroutine[Any, Any, Answer]]) -> Future[Answer]:
        with self._lock:
            if self._line is None:
                self._line = Line(self._make)
            return self._line.start(use)


class Line(Generic[Connection]):
    """One client and its thread, from the first use of a link until it is closed."""

    def __init__(self, make: Callable[[], Connection]) -> None:
        self._make = make
        self._client: Connection | None = None
        self._calls: set[asyncio.Task[Any]] = set()
        self._closing = False
        self._thread = LoopThread("tq-link")

    def start(self, use: Callable[[Connection], Coroutine[Any, Any, Answer]]) -> Future[Answer]:
        """Use the client; not after `close`."""
        return asyncio.run_coroutine_threadsafe(self._use(use), self._thread.loop)

    def close(self) -> None:
        """End what is under way, each call with an outcome, then the client and the thread."""
        # The loop takes it after all uses it was given before.
        try:
            asyncio.run_coroutine_threadsafe(self._close(), self._thread.loop).result()
        finally:
            self._thread.stop()

    async def _use(self, use: Callable[[Connection], Coroutine[Any, Any, Answer]]) -> Answer:
        call = asyncio.current_task()
        assert call is not None
        self._calls.add(call)
        try:
            if self._client is None:
                self._client = self._make()
            return await use(self._client)
        except asyncio.CancelledError:
            if not self._closing:
                raise
            text = "the client was closed while this was under way"
            raise UnknownOutcome(text) from None
        finally:
            self._calls.discard(call)

    async def _close(self) -> None:
        self._closing = True
        try:
            if self._client is not None:
                await self._client.close()
        finally:
            if calls := set(self._calls):
                _, late = await asyncio.wait(calls, timeout=LAST_CALLS_S)
                for call in late:
                    call.cancel()
                await asyncio.wait(calls, timeout=LAST_CALLS_S)


_links: weakref.WeakSet[Link[Any]] = weakref.WeakSet()


def _start_over() -> None:
    for link in list(_links):
        link.start_over()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_over)
