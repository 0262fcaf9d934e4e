"""A steady beat: the event loop's own timers are only good to a millisecond or so."""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from collections.abc import Callable
from typing import Final

_CLOCK_MONOTONIC: Final = 1


class _Times(ctypes.Structure):
    """`struct itimerspec`: interval and first expiry, each in seconds and nanoseconds."""

    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "first_s", "first_ns")]


class Pulse:
    """Calls back at a fixed interval, by a timer of the kernel (Linux).

    Args:
        every_s: The interval.
        beat: Called once per wake-up, however many intervals have passed.
    """

    def __init__(self, every_s: float, beat: Callable[[], None]) -> None:
        self._beat = beat
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "no kernel timer")
        seconds, nanoseconds = divmod(int(every_s * 1e9), 10**9)
        times = _Times(seconds, nanoseconds, seconds, nanoseconds)
        if libc.timerfd_settime(self._fd, 0, ctypes.byref(times), None):
            raise OSError(ctypes.get_errno(), "the kernel timer cannot be set")
        asyncio.get_running_loop().add_reader(self._fd, self._expired)

    def _expired(self) -> None:
        os.read(self._fd, 8)
        self._beat()

    def stop(self) -> None:
        """Beat no more."""
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)


now_s = time.perf_counter
"""The clock of all latencies."""
