"""One client in an event loop of its own, for callers from any thread or loop.

An `App` is used by blocking code and by coroutines of any event loop, at once and
after a fork. A client belongs to one loop; this one has its own, in a daemon thread.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Generic, Protocol, TypeVar

from tq.errors import ConfigError
from tq.loop_thread import LoopThread

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
        self._lock = threading.Lock()
        self._thread: LoopThread | None = None
        self._process_id = 0
        self._client: Connection | None = None

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
            thread, client = self._thread, self._client
            self._thread = self._client = None
        if thread is None or self._process_id != os.getpid():
            return
        if client is not None:
            asyncio.run_coroutine_threadsafe(client.close(), thread.loop).result()
        thread.stop()

    def _start(self, use: Callable[[Connection], Coroutine[Any, Any, Answer]]) -> Future[Answer]:
        with self._lock:
            # A fork copies this object but not its thread.
            if self._thread is None or self._process_id != os.getpid():
                self._process_id = os.getpid()
                self._client = None
                self._thread = LoopThread("tq-link")
            return asyncio.run_coroutine_threadsafe(self._use(use), self._thread.loop)

    async def _use(self, use: Callable[[Connection], Coroutine[Any, Any, Answer]]) -> Answer:
        if self._client is None:
            self._client = self._make()
        return await use(self._client)
