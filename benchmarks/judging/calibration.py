"""How fast this machine is now, against the one the figures were set on."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Self

LOOP_ITERATIONS: Final = 1_000_000
LOOP_REFERENCE_MS: Final = 34.0
FSYNC_BYTES: Final = 8 * 1024
FSYNC_REFERENCE_MS: Final = 0.07
_FSYNCS: Final = 60


class Scaling(Enum):
    """What a figure depends on."""

    NONE = "none"
    """A ratio, a count, memory, or a time that timeouts decide."""
    CPU = "cpu"
    """Time on the clock, most of it spent computing."""
    CPU_TIME = "cpu time"
    """Processor time, which does not grow while others have the processor."""
    CPU_AND_DISK = "cpu and disk"
    """Half of it is waiting for an fsync: one submit after the other."""


@dataclass(frozen=True)
class Calibration:
    """What the machine takes for fixed work, milliseconds.

    Attributes:
        loop_ms: The loop, by the clock.
        fsync_ms: A sync of 8 KiB, median.
        loop_cpu_ms: The loop, by processor time.
    """

    loop_ms: float
    fsync_ms: float
    loop_cpu_ms: float

    @classmethod
    def median(cls, taken: Sequence[Self]) -> Self:
        """Sum up what was taken beside the rounds."""
        return cls(
            statistics.median(one.loop_ms for one in taken),
            statistics.median(one.fsync_ms for one in taken),
            statistics.median(one.loop_cpu_ms for one in taken),
        )

    def slowness(self, scaling: Scaling) -> float:
        """Return how many times as long as the reference this machine takes."""
        loop = self.loop_ms / LOOP_REFERENCE_MS
        match scaling:
            case Scaling.NONE:
                return 1.0
            case Scaling.CPU:
                return loop
            case Scaling.CPU_TIME:
                return self.loop_cpu_ms / LOOP_REFERENCE_MS
            case Scaling.CPU_AND_DISK:
                return (loop + self.fsync_ms / FSYNC_REFERENCE_MS) / 2


def calibrate() -> Calibration:
    """Measure the machine; takes about a twentieth of a second."""
    loop_ms, loop_cpu_ms = time_loop()
    return Calibration(loop_ms=loop_ms, fsync_ms=_fsync_ms(), loop_cpu_ms=loop_cpu_ms)


def time_loop() -> tuple[float, float]:
    """Return what the loop took by the clock, and of the processor, in milliseconds."""
    began, began_cpu = time.perf_counter(), time.thread_time()
    total = 0
    for number in range(LOOP_ITERATIONS):
        total += number
    return (time.perf_counter() - began) * 1000, (time.thread_time() - began_cpu) * 1000


def _fsync_ms() -> float:
    """Return the median time of an fdatasync after an append."""
    block = os.urandom(FSYNC_BYTES)
    took_ms = []
    with tempfile.TemporaryFile(buffering=0) as file:
        for _ in range(_FSYNCS):
            file.write(block)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            took_ms.append((time.perf_counter() - began) * 1000)
    return statistics.median(took_ms)
