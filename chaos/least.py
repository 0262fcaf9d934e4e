"""How much a checker must have had before it: nothing is broken where nothing is looked at.

The clients of every run do all of what is named here several times a minute, whatever is done to
the cluster. If a run of some minutes shows none of it, then the clients, the record or the checker
are wrong, and the promise was not tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from chaos.calm import MS, last_moment
from chaos.evidence import Evidence
from chaos.verdict import TOLD_MAX, Verdict

LONG_MS: Final = 120_000
"""A run of this length has shown everything."""
LEAST: Final[Mapping[str, Mapping[str, int]]] = MappingProxyType(
    {
        "durable": {"acknowledged": 1},
        "once": {"late reports refused": 1},
        "fencing": {"calls with a token accepted": 1},
        "linearizable": {"tasks searched": 1},
        "grants": {"grants": 1},
        "order": {"tasks": 1},
        "delay": {"delayed tasks": 1},
        "idempotent": {"conflicts": 1, "submits repeated": 1},
        "stale": {"lists": 1, "stale reads": 1},
        "samples": {"digests compared": 1, "pairs compared": 1},
        "lease_bound": {"ends judged": 1},
        "liveness": {"milliseconds judged": 1_000},
        "gaps": {"acknowledged": 1},
        "refusals": {"calls while calm": 1},
    }
)
"""Checker -> what it counts -> the least of it. Others say themselves if they had too little, or
look at what is there by chance or in some scenarios alone."""


def demand(evidence: Evidence, verdict: Verdict) -> None:
    """Make a verdict a violation if its run was long and too little of it was looked at."""
    if not evidence.history:
        return
    length_ms = (last_moment(evidence) - evidence.history[0].at) // MS
    if length_ms < LONG_MS:
        return
    for name, least in LEAST.get(verdict.name, {}).items():
        count = verdict.counts.get(name, 0)
        if count < least:
            verdict.ok = False
            verdict.counts["violations"] += 1
            if len(verdict.violations) < TOLD_MAX:
                verdict.violations.append(
                    f"there was too little to look at in {length_ms / 1000:.0f} s: {count} {name}; "
                    f"{least} would be the least"
                )
