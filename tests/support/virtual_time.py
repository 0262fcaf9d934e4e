"""An event loop whose clock jumps: a test of a ten second deadline takes no time.

When nothing is ready to run, the clock moves to the next timer at once. When there is
no timer either, or only timers that come again and again until `PATIENCE_S`, the test
waits for something that will never come, and the loop raises instead of hanging.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

PATIENCE_S = 6 * 3600.0
"""Virtual seconds that a test may take."""

Arguments = ParamSpec("Arguments")


class _Selector(selectors.SelectSelector):
    """Waits for no one: it moves the clock by what it should have waited."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("deadlock: everything waits and no timer is set")
        self.now_s += max(0.0, timeout)
        if self.now_s > PATIENCE_S:
            raise RuntimeError(f"nothing came of {PATIENCE_S / 3600:g} hours of waiting")
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time, for code without sockets and threads."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual.now_s


def in_virtual_time(
    story: Callable[Arguments, Coroutine[Any, Any, None]],
) -> Callable[Arguments, None]:
    """Run an asynchronous test in a `VirtualLoop` of its own."""

    @functools.wraps(story)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(story(*args, **kwargs))

    return run


def now_s() -> float:
    """The running loop's clock."""
    return asyncio.get_running_loop().time()
