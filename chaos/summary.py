"""The table of a run: faults by invariants, and what there was to look at.

A violation belongs to the faults that were under way, or over for at most `AFTERMATH_S`, at
any of the moments its text names; one that names no moment belongs to none.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from chaos.evidence import Evidence, Fault
from chaos.verdict import Verdict

AFTERMATH_S: Final = 5.0
ELSEWHERE: Final = "none of these"
_MOMENT: Final = re.compile(r"(\d+\.\d{6})(?:\.\.(\d+\.\d{6}))? s")
_GAPS: Final = ("p50_ms", "p99_ms", "max_ms")


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of fault.

    Attributes:
        kind: Its name; "" for all together.
        injected: How often.
        gaps_ms: p50, p99 and maximum of the gap in submits of each; -1 where nobody knows.
        violations: By name of the checker.
    """

    kind: str
    injected: int
    gaps_ms: tuple[int, ...]
    violations: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Figures:
    """What there was to look at.

    Attributes:
        operations: Calls of clients.
        answered: Of these, with success.
        refused: Of these, certainly without effect.
        unknown: The rest.
        submits: Operations that submit.
        acknowledged: Of these, with success.
        tasks: Ids.
        faults: Injected.
        gap_max_ms: Longest time in which no submit was acknowledged though some were called.
        lost: Violations of `durable`.
        doubled: Violations of `once`.
        violations: All of them.
        seconds: From the first call to the last answer.
    """

    operations: int
    answered: int
    refused: int
    unknown: int
    submits: int
    acknowledged: int
    tasks: int
    faults: int
    gap_max_ms: int
    lost: int
    doubled: int
    violations: int
    seconds: float


def figures(evidence: Evidence, verdicts: Sequence[Verdict]) -> Figures:
    """Count."""
    history = evidence.history
    outcomes = Counter(operation.outcome for operation in history)
    by_name = {verdict.name: verdict.counts for verdict in verdicts}
    gaps = by_name.get("gaps", {})
    last = max((operation.to or operation.at for operation in history), default=0)
    broken = {name: counts["violations"] for name, counts in by_name.items()}
    return Figures(
        operations=len(history),
        answered=outcomes["ok"],
        refused=outcomes["fail"],
        unknown=outcomes["unknown"],
        submits=gaps.get("submits", 0),
        acknowledged=gaps.get("acknowledged", 0),
        tasks=len(evidence.stories),
        faults=len(evidence.faults),
        gap_max_ms=gaps.get("longest_ms", 0),
        lost=broken.get("durable", 0),
        doubled=broken.get("once", 0),
        violations=sum(broken.values()),
        seconds=(last - history[0].at) / 1e9 if history else 0.0,
    )


def rows(evidence: Evidence, verdicts: Sequence[Verdict]) -> list[Row]:
    """Return a row for each kind of fault, one for what belongs to none, and one for all."""
    gaps = next((one.counts for one in verdicts if one.name == "gaps"), {})
    injected = Counter(fault.kind for fault in evidence.faults)
    broken: dict[str, Counter[str]] = {kind: Counter() for kind in [*sorted(injected), ELSEWHERE]}
    near = _Near(evidence)
    for verdict in verdicts:
        for text in verdict.violations:
            for kind in near.kinds(text) or {ELSEWHERE}:
                broken[kind][verdict.name] += 1
    found = [
        Row(
            kind,
            injected[kind],
            tuple(gaps.get(f"{kind}: {name}", -1) for name in _GAPS),
            counts,
        )
        for kind, counts in broken.items()
        if kind != ELSEWHERE or counts
    ]
    totals = {verdict.name: verdict.counts["violations"] for verdict in verdicts}
    longest = (-1, -1, gaps.get("longest_ms", -1))
    return [*found, Row("", len(evidence.faults), longest, totals)]


class _Near:
    """Finds the faults a text speaks of."""

    def __init__(self, evidence: Evidence) -> None:
        self._origin_ns = evidence.origin_ns
        self._faults: list[Fault] = evidence.faults
        self._begins = [fault.at for fault in evidence.faults]

    def kinds(self, text: str) -> set[str]:
        """Return the kinds of the faults that were under way at a moment of the text."""
        found: set[str] = set()
        for match in _MOMENT.finditer(text):
            for second in filter(None, match.groups()):
                moment = self._origin_ns + float(second) * 1e9
                for fault in self._faults[: bisect_right(self._begins, moment)]:
                    end = fault.at if fault.to is None else fault.to
                    if moment <= end + AFTERMATH_S * 1e9:
                        found.add(fault.kind)
        return found


def full_disks(verdicts: Sequence[Verdict]) -> list[str]:
    """Say what became of calls while disks were full, a line for each kind of fault."""
    counts = next((one.counts for one in verdicts if one.name == "disk_full"), {})
    lines = []
    for name, times in counts.items():
        kind, _, what = name.partition(": ")
        if what != "faults":
            continue
        again_ms = counts.get(f"{kind}: accepted again max_ms", -1)
        again = f"after at most {again_ms} ms" if again_ms >= 0 else "nobody knows when"
        lines.append(
            f"{kind}, {times} times: {counts.get(f'{kind}: refused', 0)} new tasks refused with "
            f"DISK_FULL, {counts.get(f'{kind}: completed', 0)} completions accepted meanwhile; "
            f"with room again new tasks accepted {again}"
        )
    return lines


def text(evidence: Evidence, verdicts: Sequence[Verdict]) -> str:
    """Return the table for a terminal."""
    names = [verdict.name for verdict in verdicts]
    table = rows(evidence, verdicts)
    width = max(len("fault"), *(len(row.kind) for row in table)) + 1
    head = f"{'fault':<{width}} {'times':>6} {'gap p50':>8} {'p99':>6} {'max ms':>7} "
    lines = [head + "".join(f" {name[:3]:>4}" for name in names)]
    for row in table:
        gaps = [str(gap) if gap >= 0 else "" for gap in row.gaps_ms]
        start = f"{row.kind or 'all':<{width}} {row.injected:>6} {gaps[0]:>8} {gaps[1]:>6}"
        cells = "".join(f" {row.violations.get(name, 0):>4}" for name in names)
        lines.append(f"{start} {gaps[2]:>7} {cells}")
    legend = ", ".join(f"{name[:3]} {name}" for name in names)
    told = figures(evidence, verdicts)
    lines += [
        f"(violations of: {legend})",
        "",
        f"{told.operations} operations in {told.seconds:.0f} s: {told.answered} answered, "
        f"{told.refused} refused, {told.unknown} of unknown outcome",
        f"{told.acknowledged} of {told.submits} submits acknowledged, {told.tasks} tasks; "
        f"{told.faults} faults; longest gap {told.gap_max_ms} ms",
        *full_disks(verdicts),
        f"{told.lost} lost, {told.doubled} doubled, {told.violations} violations",
    ]
    return "\n".join(lines)
