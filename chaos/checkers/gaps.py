"""How long nobody could submit: the longest gap between successful submits.

A gap runs from an answer, or from the first call after it, to the next answer; so idle
producers make none. It counts for every fault it overlaps, and for one in whose recovery it
begins, as far as the next fault that touches a node: a cluster that was sound again may not fall
silent once more when what was ended comes back. It is a violation beyond the bound of the
scenario: `gap_max_ms`, a number for all, or a map of kinds of faults to numbers with `overall` for
the rest. Where a kind of fault was done often, its 99th percentile is judged as well:
`gap_p99_max_ms`, a map of kinds. Whatever a scenario says, no gap goes on for longer than
`silent_max_ms` while no fault is under way or just over.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from chaos.calm import (
    BESIDE,
    CLOCKS,
    SILENT_MAX_MS,
    Gap,
    Quiet,
    last_moment,
    settled,
    silences,
)
from chaos.evidence import Evidence, Fault
from chaos.verdict import Findings, Verdict

_MANY: Final = 20
"""Submits that cannot all fail by bad luck."""
OFTEN: Final = 50
"""Faults of one kind, from which on a 99th percentile says more than the maximum."""
OVERALL: Final = "overall"
_SHARES: Final = (("p50", 0.5), ("p99", 0.99), ("max", 1.0))


def check(evidence: Evidence) -> Verdict:
    """Judge a run."""
    findings = Findings("gaps")
    gaps = find_gaps(evidence)
    submits = [one for one in evidence.history if one.kind == "submit"]
    findings.counts["submits"] = len(submits)
    findings.counts["acknowledged"] = sum(one.outcome == "ok" for one in submits)
    if len(submits) >= _MANY and not findings.counts["acknowledged"]:
        findings.violated(f"none of {len(submits)} submits was acknowledged")
    bounds = _bounds(evidence)
    tails: dict[str, float] = evidence.settings.get("gap_p99_max_ms") or {}
    longest = max(gaps, key=lambda gap: gap.ends - gap.begins, default=Gap(0, 0))
    findings.counts["longest_ms"] = longest.length_ms
    by_kind = _by_fault(evidence, gaps)
    excused = {
        gap
        for kind, found in by_kind.items()
        for gap, _ in found
        if gap is not None and kind in bounds
    }
    for gap in gaps:
        if gap.length_ms > bounds[OVERALL] and gap not in excused:
            findings.violated(_explain(evidence, gap, bounds[OVERALL], None))
    _while_calm(evidence, findings)
    for kind, found in sorted(by_kind.items()):
        lengths = sorted(0 if gap is None else gap.length_ms for gap, _ in found)
        findings.counts[f"{kind}: faults"] = len(lengths)
        for name, share in _SHARES:
            rank = max(0, math.ceil(share * len(lengths)) - 1)
            findings.counts[f"{kind}: {name}_ms"] = lengths[rank]
        tail_ms, tail_max_ms = findings.counts[f"{kind}: p99_ms"], tails.get(kind, math.inf)
        if len(lengths) >= OFTEN and tail_ms > tail_max_ms:
            findings.violated(
                f"the 99th percentile of the gaps of {len(lengths)} times {kind} is "
                f"{tail_ms} ms; at most {tail_max_ms:.0f} ms are allowed"
            )
        bound = bounds.get(kind, math.inf)
        for worst, fault in found:
            if worst is not None and worst.length_ms > bound:
                findings.violated(_explain(evidence, worst, bound, fault))
    return findings.verdict()


def find_gaps(evidence: Evidence) -> list[Gap]:
    """Return the gaps, in order of time; at the end of the run one may be unanswered."""
    submits = [one for one in evidence.history if one.kind == "submit"]
    answers = sorted({one.to for one in submits if one.outcome == "ok" and one.to is not None})
    return silences([(one.at, one.at if one.to is None else one.to) for one in submits], answers)


def _while_calm(evidence: Evidence, findings: Findings) -> None:
    """Judge times without an accepted submit that no fault can be the reason of."""
    submits = [one for one in evidence.history if one.kind == "submit"]
    answers = sorted({one.to for one in submits if one.outcome == "ok" and one.to is not None})
    end = last_moment(evidence)
    gaps = silences([(one.at, end if one.to is None else one.to) for one in submits], answers)
    bound_ms = float(evidence.settings.get("silent_max_ms", SILENT_MAX_MS))
    quiet = Quiet(evidence, restarts=True, besides=(*BESIDE, CLOCKS))
    for gap in gaps:
        piece = quiet.longest(*gap) if gap.length_ms > bound_ms else Gap(0, 0)
        if piece.length_ms > bound_ms:
            findings.violated(
                f"{_explain(evidence, piece, bound_ms, None)} when nothing is done to the cluster"
            )


def _by_fault(evidence: Evidence, gaps: list[Gap]) -> dict[str, list[tuple[Gap | None, Fault]]]:
    """Return, by kind of fault, the longest gap of each; None if there was none at the time."""
    by_kind: dict[str, list[tuple[Gap | None, Fault]]] = defaultdict(list)
    ends = [gap.ends for gap in gaps]
    begins = [gap.begins for gap in gaps]
    for fault, following in zip(evidence.faults, _followings(evidence.faults), strict=True):
        over = settled(evidence, fault)
        hit = gaps[bisect_left(ends, fault.at) : bisect_right(begins, over)]
        mine = (_share(gap, fault, following) for gap in hit)
        longest = max(mine, key=lambda gap: gap.ends - gap.begins, default=None)
        by_kind[fault.kind].append((longest, fault))
    return by_kind


def _followings(faults: Sequence[Fault]) -> list[float]:
    """Return for each fault when the next one that touches a node begins."""
    followings: list[float] = []
    begins = math.inf
    for fault in reversed(faults):
        followings.append(begins)
        if not fault.kind.startswith(BESIDE):
            begins = fault.at
    return followings[::-1]


def _share(gap: Gap, fault: Fault, following: float) -> Gap:
    """Return the part of a gap that is a matter of a fault.

    What began when it was over, and goes on when the next begins, is that one's from there on.
    """
    over = fault.at if fault.to is None else fault.to
    if gap.begins <= over or gap.ends <= following:
        return gap
    return Gap(gap.begins, max(gap.begins, int(following)))


def _bounds(evidence: Evidence) -> dict[str, float]:
    given = evidence.settings.get("gap_max_ms")
    if isinstance(given, dict):
        return {OVERALL: math.inf, **given}
    return {OVERALL: math.inf if given is None else given}


def _explain(evidence: Evidence, gap: Gap, bound_ms: float, fault: Fault | None) -> str:
    text = (
        f"no submit was acknowledged for {gap.length_ms} ms, from {evidence.second(gap.begins)} to "
        f"{evidence.second(gap.ends)}; at most {bound_ms:.0f} ms are allowed"
    )
    if fault is None:
        return text
    return f"{text} for {fault.kind} at {evidence.second(fault.at)} ({fault.detail or fault.nodes})"
