"""What is refused is refused with reason: each kind of call with codes of its own, and when.

A call that certainly had no effect is told why. Most reasons are judged where they belong: that a
task is not there, or has other content, by `linearizable`; that a session or lease is over, by
`lease_bound`. Here: no call is told what is no answer to it, or that its id is too old or too new,
which none of them is; a full disk is given as the reason only while one is full, or was until just
now, and a full queue only if so many tasks may be in it. While no fault is under way or just over,
hardly a call finds nobody to take it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, defaultdict
from types import MappingProxyType
from typing import Final

from chaos.calm import BESIDE, CLOCKS, MS, Quiet
from chaos.checkers.disk_full import AGAIN_MAX_MS, KIND
from chaos.checkers.disk_full import CODE as DISK_FULL
from chaos.evidence import Evidence
from chaos.history import Operation
from chaos.stories import REPORTS
from chaos.verdict import Findings, Verdict

AWAY: Final = "UNAVAILABLE"
"""What a client says by itself when it found no leader in time."""
QUEUE_FULL: Final = "QUEUE_FULL"
QUEUE_MAX: Final = 100_000
"""Tasks that a queue may hold, unless a node is told otherwise."""
AWAY_MAX_SHARE: Final = 0.05
"""Of the calls of one kind that are made while all is calm, so many may be left alone."""
_MANY: Final = 100
_REPORTS: Final = frozenset({AWAY, "LEASE_LOST", "NOT_FOUND"})
ALLOWED: Final = MappingProxyType(
    {
        **dict.fromkeys(REPORTS, _REPORTS),
        # At most one a second is taken for a lease.
        "progress": _REPORTS | {"RATE_LIMITED"},
        "submit": frozenset({AWAY, "CONFLICT", DISK_FULL, QUEUE_FULL}),
        "claim": frozenset({AWAY, "UNKNOWN_SESSION"}),
        "heartbeat": frozenset({AWAY, "UNKNOWN_SESSION"}),
        "deregister": frozenset({AWAY, "UNKNOWN_SESSION"}),
        "cancel": frozenset({AWAY, "NOT_CANCELLABLE", "NOT_FOUND"}),
        "get": frozenset({AWAY, "NOT_FOUND"}),
    }
)
"""Kind of call -> codes that may be the answer to it; what is not named may only be left alone."""
_ONLY_AWAY: Final = frozenset({AWAY})


def check(evidence: Evidence) -> Verdict:
    """Judge a run."""
    findings = Findings("refusals")
    full_disks, depths = _FullDisks(evidence), _Depths(evidence)
    for one in evidence.history:
        code = one.code
        if one.outcome != "fail":
            continue
        findings.counts["refused"] += 1
        findings.counts[f"{one.kind}: {code}"] += 1
        why = ""
        if code not in ALLOWED.get(one.kind, _ONLY_AWAY):
            why = f"{code or 'nothing'} is no answer to {one.kind}"
        elif code == DISK_FULL and not full_disks.excuse(one):
            why = "no disk is full, or was until just now"
        elif code == QUEUE_FULL and not depths.excuse(one):
            why = f"the queue cannot hold {depths.depth_max} tasks"
        if why:
            findings.violated(f"{why}: {evidence.describe(one)}")
    _while_calm(evidence, findings)
    return findings.verdict()


def _while_calm(evidence: Evidence, findings: Findings) -> None:
    """Judge how many calls find nobody though nothing is done to the cluster."""
    quiet = Quiet(evidence, restarts=True, besides=(*BESIDE, CLOCKS))
    calls: Counter[str] = Counter()
    alone: dict[str, list[Operation]] = defaultdict(list)
    for one in evidence.history:
        if one.to is not None and quiet.at(one.at) and quiet.whole(one.at, one.to):
            calls[one.kind] += 1
            if one.code == AWAY:
                alone[one.kind].append(one)
    findings.counts["calls while calm"] = calls.total()
    for kind, refused in sorted(alone.items()):
        if calls[kind] >= _MANY and len(refused) > AWAY_MAX_SHARE * calls[kind]:
            findings.violated(
                f"{len(refused)} of {calls[kind]} times {kind} was left alone while nothing was "
                f"done to the cluster, for example {evidence.describe(refused[0])}"
            )


class _FullDisks:
    """When disks were full, or may have been for a node that has not looked again."""

    def __init__(self, evidence: Evidence) -> None:
        after_ns = int(evidence.settings.get("room_max_ms", AGAIN_MAX_MS)) * MS
        self._spells = [
            (one.at, math.inf if one.to is None else one.to + after_ns)
            for one in evidence.faults
            if one.kind.startswith(KIND)
        ]

    def excuse(self, call: Operation) -> bool:
        """Tell whether a disk may have been full during a call."""
        until = call.at if call.to is None else call.to
        return any(begins <= until and call.at <= ends for begins, ends in self._spells)


class _Depths:
    """How many tasks each queue may have held.

    Attributes:
        depth_max: How many it may hold.
    """

    def __init__(self, evidence: Evidence) -> None:
        self.depth_max = int(evidence.settings.get("queue_max", QUEUE_MAX))
        self._added: dict[str, list[int]] = defaultdict(list)
        for story in evidence.stories.values():
            called = [one for one in story.submits if one.outcome != "fail"]
            for queue in {one.arguments.get("queue", "") for one in called}:
                self._added[queue].append(called[0].at)
        for moments in self._added.values():
            moments.sort()

    def excuse(self, call: Operation) -> bool:
        """Tell whether so many tasks may have been in a queue when a submit was refused."""
        added = self._added.get(call.arguments.get("queue", ""), [])
        until = call.at if call.to is None else call.to
        return bisect_right(added, until) >= self.depth_max
