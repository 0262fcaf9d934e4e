"""What nodes say of themselves, several times a second, fits together (S7).

No term has two leaders. In one process neither term nor commit index nor applied index goes
back. Over a restart the indexes may: how far the log is committed is not on disk, and the state
may be written later than the log. That a node was another process is known by a sample it did
not answer in between, or by a fault that ends processes and hit it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from typing import Final

from chaos.calm import ENDING
from chaos.evidence import Evidence, Sample
from chaos.verdict import Findings, Verdict

_GROWING: Final = ("term", "commit", "applied")


def check(evidence: Evidence) -> Verdict:
    """Judge a run."""
    findings = Findings("samples")
    leaders: dict[int, Sample] = {}
    before: dict[int, Sample] = {}
    restarts = _Restarts(evidence)
    for sample in evidence.samples:
        findings.counts["samples"] += 1
        if not sample.up:
            before.pop(sample.node, None)
            continue
        if sample.role == "leader":
            _one_leader(evidence, findings, leaders.setdefault(sample.term, sample), sample)
        last = before.get(sample.node)
        if last is not None and not restarts.between(last, sample):
            findings.counts["pairs compared"] += 1
            _grows(evidence, findings, last, sample)
        before[sample.node] = sample
    findings.counts["terms with a leader"] = len(leaders)
    return findings.verdict()


def _one_leader(evidence: Evidence, findings: Findings, first: Sample, other: Sample) -> None:
    if first.node != other.node:
        findings.violated(
            f"term {first.term} has two leaders: node {first.node} at "
            f"{evidence.second(first.at)}, and node {other.node} at {evidence.second(other.at)}"
        )


def _grows(evidence: Evidence, findings: Findings, last: Sample, sample: Sample) -> None:
    for name in _GROWING:
        older, newer = getattr(last, name), getattr(sample, name)
        if newer < older:
            findings.violated(
                f"node {sample.node} goes back from {name} {older} at {evidence.second(last.at)} "
                f"to {newer} at {evidence.second(sample.at)}, without a restart"
            )


class _Restarts:
    """When each node may have become another process."""

    def __init__(self, evidence: Evidence) -> None:
        self._spans: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for fault in evidence.faults:
            if fault.kind.startswith(ENDING):
                for node in fault.nodes:
                    self._spans[node].append((fault.at, fault.at if fault.to is None else fault.to))

    def between(self, last: Sample, sample: Sample) -> bool:
        """Tell whether it may have between two samples of it."""
        spans = self._spans.get(sample.node, [])
        number = bisect_right(spans, sample.at, key=lambda span: span[0])
        return any(ends >= last.at for _, ends in spans[:number])
