"""The figures as a table for people."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.judging.calibration import (
    FSYNC_REFERENCE_MS,
    LOOP_REFERENCE_MS,
    Calibration,
    Scaling,
)
from benchmarks.judging.verdicts import Row
from benchmarks.rounds import Taken
from benchmarks.stage import Effort

_QUIET_MAX = 1.2
"""Time on the clock over processor time, of a loop that never waits by itself."""
_LINE = "{title:<58} {value:>10} {spread:>19} {unit:<11} {floor:>9} {goal:>9} {here:>9}  {verdict}"


def table(taken: Sequence[Taken], *, effort: Effort) -> str:
    """Draw all rows, with the machine's calibration on top."""
    head = _LINE.format(
        title="figure",
        value="median",
        spread="min - max",
        unit="unit",
        floor="floor",
        goal="goal",
        here="floor*",
        verdict="verdict",
    )
    machines = [machine for one in taken for machine in one.machines]
    lines = [*_machine(machines), head, "-" * len(head)]
    lines += [_row(one, row, effort=effort) for one in taken for row in one.measurement.rows]
    lines.append("floor*: as it counts here, scaled by the calibration beside the rounds")
    if effort.quick:
        lines.append(
            "--quick: short runs, a fiftieth of the counts; shows that it runs, no results"
        )
    return "\n".join(lines)


def listing(taken: Sequence[Taken]) -> str:
    """Draw what could be measured."""
    return "\n".join(
        f"{one.measurement.name:<16} {row.name:<20} {row.title:<58} "
        f"{number(row.floor):>9} {number(row.goal):>9} {row.unit:<11} "
        f"{'not built' if one.measurement.measure is None else f'scaled by {row.scaling.value}'}"
        for one in taken
        for row in one.measurement.rows
    )


def _machine(machines: Sequence[Calibration]) -> list[str]:
    if not machines:
        return ["nothing was measured"]
    here = Calibration.median(machines)
    lines = [
        f"machine: loop of 1 M iterations {here.loop_ms:.1f} ms, {here.loop_cpu_ms:.1f} ms of it "
        f"computing (reference {LOOP_REFERENCE_MS:g}); "
        f"fdatasync of 8 KiB {here.fsync_ms:.3f} ms (reference {FSYNC_REFERENCE_MS:g})"
    ]
    waited = max(one.loop_ms / one.loop_cpu_ms for one in machines)
    if waited > _QUIET_MAX:
        lines.append(
            f"NOT A QUIET MACHINE: the loop took up to {waited:.1f} times its processor time; "
            "bars scaled by it are too low, and so are the figures"
        )
    return lines


def _row(taken: Taken, row: Row, *, effort: Effort) -> str:
    seen = [figures[row.name] for figures in taken.figures]
    here = None
    if row.floor is not None and taken.machines and row.scaling is not Scaling.NONE:
        here = row.bar(row.floor, Calibration.median(taken.machines))
    return _LINE.format(
        title=row.title,
        value=number(taken.value(row)),
        spread=f"{number(min(seen))} - {number(max(seen))}" if len(seen) > 1 else "",
        unit=row.unit,
        floor=number(row.floor),
        goal=number(row.goal),
        here=number(here),
        verdict=taken.verdict(row, effort=effort),
    )


def number(value: float | None) -> str:
    """Write a figure with about three digits; nothing for none."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
