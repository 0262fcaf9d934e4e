"""Takes rounds, one measurement after the other in each, and keeps what each one saw."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.families.measurement import Figures, Measurement
from benchmarks.judging.calibration import Calibration, calibrate
from benchmarks.judging.verdicts import Row, Verdict
from benchmarks.stage import BenchmarkError, Effort
from deploy.local.cluster import ClusterError


@dataclass
class Taken:
    """The rounds of one measurement.

    Attributes:
        measurement: Which.
        figures: Of each round that was whole.
        machines: The calibration before and after each round.
        failures: Why other rounds were not.
    """

    measurement: Measurement
    figures: list[Figures] = field(default_factory=list)
    machines: list[Calibration] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def value(self, row: Row) -> float | None:
        """Return the median over the rounds."""
        seen = [figures[row.name] for figures in self.figures]
        return statistics.median(seen) if seen else None

    def verdict(self, row: Row, *, effort: Effort) -> Verdict:
        """Judge the median; a round that failed is none that can be left out."""
        if self.measurement.measure is None:
            return Verdict.NOT_BUILT
        value = self.value(row)
        if value is None or self.failures:
            return Verdict.NOT_MEASURED
        if effort.quick:
            return Verdict.SMOKE
        return row.judge(value, Calibration.median(self.machines))

    def line(self, row: Row, *, effort: Effort) -> str:
        """Return one row as JSON."""
        machine = Calibration.median(self.machines) if self.machines else None
        beside = sorted({name for figures in self.figures for name in figures} - _names(self))
        return json.dumps(
            {
                "figure": row.name,
                "value": _rounded(self.value(row)),
                "unit": row.unit,
                "verdict": self.verdict(row, effort=effort),
                "better": row.better,
                "floor": row.floor,
                "goal": row.goal,
                "floor_here": _bar(row, row.floor, machine),
                "goal_here": _bar(row, row.goal, machine),
                "scaled_by": row.scaling.value,
                "rounds": [_rounded(figures[row.name]) for figures in self.figures],
                "beside": {n: [_rounded(f[n]) for f in self.figures] for n in beside},
                "loop_ms": [_rounded(one.loop_ms) for one in self.machines],
                "loop_cpu_ms": [_rounded(one.loop_cpu_ms) for one in self.machines],
                "fsync_ms": [_rounded(one.fsync_ms) for one in self.machines],
                "failures": self.failures,
                "quick": effort.quick,
            }
        )


def take(measurements: Sequence[Measurement], *, rounds: int, effort: Effort) -> list[Taken]:
    """Take all rounds: each measurement once per round, so that all meet the same moments.

    Args:
        measurements: Those that are not built are passed over.
        rounds: How many; fewer for a measurement that says so.
        effort: Of each.
    """
    taken = [Taken(measurement) for measurement in measurements]
    for number in range(rounds):
        for one in taken:
            if number < (one.measurement.rounds_max or rounds):
                _take_one(one, effort=effort, label=f"round {number + 1} of {rounds}")
    return taken


def _take_one(taken: Taken, *, effort: Effort, label: str) -> None:
    measure = taken.measurement.measure
    if measure is None:
        return
    print(f"{label}: {taken.measurement.name}", file=sys.stderr, flush=True)
    before = calibrate()
    try:
        figures = measure(effort)
    except (BenchmarkError, ClusterError) as failure:
        taken.failures.append(str(failure))
        print(f"  failed: {failure}", file=sys.stderr, flush=True)
        return
    taken.machines += [before, calibrate()]
    taken.figures.append(figures)


def _names(taken: Taken) -> set[str]:
    return {row.name for row in taken.measurement.rows}


def _bar(row: Row, value: float | None, machine: Calibration | None) -> float | None:
    return None if value is None or machine is None else _rounded(row.bar(value, machine))


def _rounded(value: float | None) -> float | None:
    """Keep four digits: more are noise."""
    return None if value is None else float(f"{value:.4g}")
