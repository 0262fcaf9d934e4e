"""Latency at a fixed rate, and what an idle cluster costs."""

from __future__ import annotations

import time

from benchmarks.families.measurement import Figures, Measurement
from benchmarks.judging.calibration import Scaling
from benchmarks.judging.verdicts import Row
from benchmarks.stage import Effort, fresh

_RATE = 5_000.0


def _open_loop(effort: Effort) -> Figures:
    with fresh() as stage:
        seen = stage.run(stage.order("open-loop", effort, rate=_RATE))
    latency = seen.latency_ms
    return {
        "open_loop_p99": latency["p99"],
        "p50_ms": latency["p50"],
        "p99.9_ms": latency["p99.9"],
        "max_ms": latency["max"],
        "rate": seen.rate,
    }


def _idle(effort: Effort) -> Figures:
    with fresh() as stage:
        time.sleep(effort.warm_s)
        before_s, began_s = stage.cpu_s(), time.monotonic()
        time.sleep(2 * effort.seconds)
        spent_s = stage.cpu_s() - before_s
        return {"idle_cpu": spent_s / (time.monotonic() - began_s) * 100}


MEASUREMENTS = (
    Measurement(
        "open_loop",
        (
            Row(
                "open_loop_p99",
                "open loop, 5,000 submits/s, p99",
                "ms",
                10,
                3,
                "lower",
                Scaling.CPU_AND_DISK,
            ),
        ),
        _open_loop,
    ),
    Measurement(
        "idle",
        (
            Row(
                "idle_cpu",
                "idle cluster, CPU of three nodes",
                "% of a core",
                6,
                3,
                "lower",
                Scaling.CPU_TIME,
            ),
        ),
        _idle,
    ),
)
