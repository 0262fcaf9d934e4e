"""CPU of the state machine alone: no cluster, no disk, no socket."""

from __future__ import annotations

import gc

from benchmarks.families.measurement import Figures, Measurement
from benchmarks.judging.calibration import Scaling
from benchmarks.judging.verdicts import Row
from benchmarks.machine_cpu import measure
from benchmarks.stage import Effort

_CPU = Scaling.CPU_TIME
_TASKS = 100_000
_QUICK_TASKS = 20_000


def _measure(effort: Effort) -> Figures:
    tasks = _QUICK_TASKS if effort.quick else _TASKS
    gc.disable()
    try:
        leader = measure(tasks, decoded=True)
        follower = measure(tasks, decoded=False)
    finally:
        gc.enable()
    return {
        "machine_submit": leader["submit"],
        "machine_claim": leader["claim, per task"],
        "machine_ack": leader["complete"],
        "follower_submit_us": follower["submit"],
        "follower_claim_us": follower["claim, per task"],
        "follower_ack_us": follower["complete"],
    }


MEASUREMENTS = (
    Measurement(
        "machine",
        (
            Row("machine_submit", "machine, CPU per submit", "us", 4, 2, "lower", _CPU),
            Row("machine_claim", "machine, CPU per task claimed", "us", 4, 1.5, "lower", _CPU),
            Row("machine_ack", "machine, CPU per ack", "us", 3, 1.5, "lower", _CPU),
        ),
        _measure,
    ),
)
