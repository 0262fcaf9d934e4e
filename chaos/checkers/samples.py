"""What nodes say of themselves, several times a second, fits together (S7).

No term has two leaders. Nodes that took a checkpoint at one index have one digest of their states
up to it, whenever they tell it: so a node that went astray is seen also if it was filled again
before the end. A node never has a smaller term than one it led in, over restarts as well, unless
it was damaged or another one has its place: whoever leads has written its term.

In one process neither term nor commit index nor applied index goes back. Over a restart the
indexes may: how far the log is committed is not on disk, and the state may be written later than
the log. That a node was another process is known by a sample it did not answer in between, or by
a fault that ends processes and hit it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from typing import Final

from chaos.calm import ENDING
from chaos.evidence import Evidence, Sample
from chaos.verdict import Findings, Verdict

DAMAGING: Final = ("torn", "flip", "damaged", "replace member")
"""How the kinds of faults begin after which a node may have lost what it wrote."""
_GROWING: Final = ("term", "commit", "applied")


def check(evidence: Evidence) -> Verdict:
    """Judge a run."""
    findings = Findings("samples")
    leaders: dict[int, Sample] = {}
    before: dict[int, Sample] = {}
    led: dict[int, Sample] = {}
    digests: dict[int, Sample] = {}
    restarts = _Times(evidence, ENDING)
    damage = _Times(evidence, DAMAGING)
    for sample in evidence.samples:
        findings.counts["samples"] += 1
        if not sample.up:
            before.pop(sample.node, None)
            continue
        if sample.role == "leader":
            _one_leader(evidence, findings, leaders.setdefault(sample.term, sample), sample)
        _keeps_term(evidence, findings, led, sample, damage=damage)
        if sample.digest and sample.digest_index:
            first = digests.setdefault(sample.digest_index, sample)
            findings.counts["digests compared"] += first.node != sample.node
            _one_state(evidence, findings, first, sample)
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


def _keeps_term(
    evidence: Evidence,
    findings: Findings,
    led: dict[int, Sample],
    sample: Sample,
    *,
    damage: _Times,
) -> None:
    """Judge the term of a node by the largest it led in, and note that."""
    last = led.get(sample.node)
    if last is not None and damage.between(last, sample):
        del led[sample.node]
        last = None
    # A node that has not read its disk yet tells no term.
    if last is not None and 0 < sample.term < last.term:
        findings.violated(
            f"node {sample.node} led in term {last.term} at {evidence.second(last.at)}, and is "
            f"{sample.role or 'up'} in term {sample.term} at {evidence.second(sample.at)}"
        )
    elif sample.role == "leader":
        led[sample.node] = sample


def _one_state(evidence: Evidence, findings: Findings, first: Sample, other: Sample) -> None:
    if first.digest != other.digest:
        findings.violated(
            f"states differ at entry {first.digest_index}: node {first.node} told digest "
            f"{first.digest} at {evidence.second(first.at)}, and node {other.node} "
            f"{other.digest} at {evidence.second(other.at)}"
        )


def _grows(evidence: Evidence, findings: Findings, last: Sample, sample: Sample) -> None:
    for name in _GROWING:
        older, newer = getattr(last, name), getattr(sample, name)
        if newer < older:
            findings.violated(
                f"node {sample.node} goes back from {name} {older} at {evidence.second(last.at)} "
                f"to {newer} at {evidence.second(sample.at)}, without a restart"
            )


class _Times:
    """When faults of some kinds hit each node.

    Args:
        evidence: Of the run.
        kinds: How their kinds begin.
    """

    def __init__(self, evidence: Evidence, kinds: tuple[str, ...]) -> None:
        self._spans: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for fault in evidence.faults:
            if fault.kind.startswith(kinds):
                for node in fault.nodes:
                    self._spans[node].append((fault.at, fault.at if fault.to is None else fault.to))

    def between(self, last: Sample, sample: Sample) -> bool:
        """Tell whether one may have between two samples of the same node."""
        spans = self._spans.get(sample.node, [])
        number = bisect_right(spans, sample.at, key=lambda span: span[0])
        return any(ends >= last.at for _, ends in spans[:number])
