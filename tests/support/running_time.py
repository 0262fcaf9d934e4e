"""An event loop on real sockets whose clock counts only what this process lived through.

A test whose two ends share one loop cannot tell a stalled machine from a silent peer: while
the process is not run, neither end does anything, and a real clock goes on. Here time passes
while the loop waits, at most as long as it meant to, and while this thread computes.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

Arguments = ParamSpec("Arguments")


class _Selector(selectors.DefaultSelector):
    """Waits as it is told, and counts no more than that."""

    waited_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        began_s, began_cpu_s = time.monotonic(), time.thread_time()
        events = super().select(timeout)
        waited_s = time.monotonic() - began_s - (time.thread_time() - began_cpu_s)
        self.waited_s += waited_s if timeout is None else min(waited_s, max(0.0, timeout))
        return events


class RunningTimeLoop(asyncio.SelectorEventLoop):
    """An event loop in the time its thread waited or computed."""

    def __init__(self) -> None:
        self._counting = _Selector()
        super().__init__(self._counting)

    def time(self) -> float:
        """Seconds this thread waited on purpose, and those it computed."""
        return self._counting.waited_s + time.thread_time()


def in_running_time(
    story: Callable[Arguments, Coroutine[Any, Any, None]],
) -> Callable[Arguments, None]:
    """Run an asynchronous test in a `RunningTimeLoop` of its own."""

    @functools.wraps(story)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        with asyncio.Runner(loop_factory=RunningTimeLoop) as runner:
            runner.run(story(*args, **kwargs))

    return run
