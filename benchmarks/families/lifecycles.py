"""Submit, claim, acknowledge; on the bare wire, everything confirmed."""

from __future__ import annotations

from benchmarks.families.measurement import Figures, Measurement
from benchmarks.families.submitting import cpu_parts
from benchmarks.generator.order import Seen
from benchmarks.judging.calibration import Scaling
from benchmarks.judging.verdicts import Row
from benchmarks.stage import Effort, Stage, fresh

_CPU = Scaling.CPU
_TIME = Scaling.CPU_TIME


def lifecycle(stage: Stage, effort: Effort, *, tasks: int = 0) -> Seen:
    """Run 256 submits in flight, 4 claims of 64 outstanding, single acknowledgements."""
    return stage.run(stage.order("lifecycle", effort, window=256, tasks=tasks))


def _measure(effort: Effort) -> Figures:
    with fresh() as stage:
        before = stage.fsyncs()
        seen = lifecycle(stage, effort)
        fsyncs = stage.fsyncs() - before
    return {
        "lifecycle": seen.rate,
        "lifecycle_fsyncs": fsyncs / seen.done_in_all * 1000,
        "lifecycle_cpu": sum(seen.cpu_us),
        "ack_p50_ms": seen.latency_ms["p50"],
        "ack_p99_ms": seen.latency_ms["p99"],
        **cpu_parts(seen),
    }


MEASUREMENTS = (
    Measurement(
        "lifecycle",
        (
            Row("lifecycle", "submit, claim, ack", "/s", 20_000, 60_000, "higher", _CPU),
            Row(
                "lifecycle_fsyncs",
                "fsyncs of all nodes per 1,000 tasks",
                "fsyncs",
                100,
                27,
                "lower",
            ),
            Row("lifecycle_cpu", "CPU of four processes per task", "us", 60, 25, "lower", _TIME),
        ),
        _measure,
    ),
)
