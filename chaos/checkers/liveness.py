"""Work meets workers (L3): with tasks ready and a worker waiting, a claim is answered.

Judged by the samples of the leader while a majority follows it and no fault is under way or
just over: if every sample shows claimable tasks, and at each of them a claim is waiting that
would take them, then some claim is granted within a second.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Final

from chaos.evidence import Evidence, Sample
from chaos.history import Operation
from chaos.verdict import Findings, Verdict

WITHIN_MS: Final = 1_000
SETTLE_MS: Final = 5_000
"""How long after a fault nothing is expected yet."""
_FRESH_NS: Final = 1_000_000_000
_MS: Final = 1_000_000


def check(evidence: Evidence) -> Verdict:
    """Judge a run."""
    findings = Findings("liveness")
    within_ns = int(evidence.settings.get("claim_within_ms", WITHIN_MS)) * _MS
    quiet = Quiet(evidence)
    claims = Claims(evidence)
    since: int | None = None
    before: Sample | None = None
    told = False
    for sample, has_quorum in leaders(evidence.samples, evidence.nodes):
        calm = has_quorum and quiet.at(sample.at)
        # One stall runs over samples of one leadership that follow each other closely.
        follows = (
            before is not None
            and before.node == sample.node
            and before.term == sample.term
            and sample.at - before.at < _FRESH_NS
        )
        if calm and follows and before is not None:
            findings.counts["milliseconds judged"] += (sample.at - before.at) // _MS
        before = sample
        waiting = claims.waiting(sample) if calm and sample.ready else None
        if waiting is None:
            since, told = None, False
            continue
        start = sample.at if since is None or not follows else since
        granted = claims.last_grant(sample.at)
        if granted > start:
            start, told = sample.at, False
        since = start
        if sample.at - start > within_ns and not told:
            told = True
            findings.violated(
                f"node {sample.node}, leader of term {sample.term}, has had claimable tasks "
                f"({sample.ready}) from {evidence.second(start)} to {evidence.second(sample.at)}, "
                f"and grants none, while there waits {evidence.describe(waiting)}"
            )
    findings.counts["samples"] = len(evidence.samples)
    if findings.counts["samples"] == 0:
        findings.violated("there are no samples to judge by")
    return findings.verdict()


class Quiet:
    """Tells when nothing is done to the cluster, and has not been for a while."""

    def __init__(self, evidence: Evidence) -> None:
        settle_ns = int(evidence.settings.get("settle_ms", SETTLE_MS)) * _MS
        self._begins: list[int] = []
        self._ends: list[int] = []
        for fault in evidence.faults:
            end = (fault.at if fault.to is None else fault.to) + settle_ns
            self._begins.append(fault.at)
            self._ends.append(max(end, self._ends[-1]) if self._ends else end)

    def at(self, moment: int) -> bool:
        """Tell whether a moment is quiet."""
        number = bisect_right(self._begins, moment)
        return number == 0 or self._ends[number - 1] < moment


class Claims:
    """Claims that were answered, by time."""

    def __init__(self, evidence: Evidence) -> None:
        submits = (one for one in evidence.history if one.kind == "submit")
        self._queues = frozenset(one.arguments.get("queue", "") for one in submits)
        self._claims = [
            one for one in evidence.history if one.kind == "claim" and one.outcome == "ok"
        ]
        answers = (one.to for one in self._claims if one.to is not None and one.value["grants"])
        self._granted = sorted(answers)
        self._next = 0
        self._open: list[Operation] = []

    def waiting(self, sample: Sample) -> Operation | None:
        """Return a claim that was waiting at a sample for what the sample shows as ready.

        Samples are to be asked about in order of time.
        """
        moment = sample.at
        while self._next < len(self._claims) and self._claims[self._next].at <= moment:
            self._open.append(self._claims[self._next])
            self._next += 1
        self._open = [one for one in self._open if one.to is not None and one.to >= moment]
        for claim in self._open:
            asked = claim.arguments.get("queues", ())
            if isinstance(sample.ready, int):
                # It is not known where they are ready, so the claim must be for all queues.
                if self._queues.issubset(asked):
                    return claim
            elif any(sample.ready.get(queue) for queue in asked):
                return claim
        return None

    def last_grant(self, moment: int) -> float:
        """Return when a claim was last answered with tasks, up to a moment."""
        number = bisect_right(self._granted, moment)
        return self._granted[number - 1] if number else float("-inf")


def leaders(samples: Sequence[Sample], nodes: int) -> Iterator[tuple[Sample, bool]]:
    """Give each sample of a leader, and whether a majority follows it in its term."""
    latest: dict[int, Sample] = {}
    for sample in samples:
        latest[sample.node] = sample
        if not sample.up or sample.role != "leader":
            continue
        followers = sum(
            one.up
            and one.term == sample.term
            and sample.node in {one.node, one.leader}
            and sample.at - one.at < _FRESH_NS
            for one in latest.values()
        )
        yield sample, 2 * followers > nodes
