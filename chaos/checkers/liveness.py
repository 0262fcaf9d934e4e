"""Work meets workers (L3): with tasks ready and a worker waiting, a claim is answered.

Judged by the samples of the leader while a majority follows it and no fault is under way or
just over: if every sample shows claimable tasks, and at each of them a claim is waiting that
would take them, then some claim is granted within a second. A claim waits whatever comes of it.

While no fault is under way or just over, moreover, somebody leads, and claims are answered, if
only with nothing: neither is missing for longer than `silent_max_ms`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from chaos.calm import (
    BESIDE,
    CLOCKS,
    FROZEN,
    MS,
    SILENT_MAX_MS,
    Quiet,
    last_moment,
    silences,
)
from chaos.evidence import Evidence, Sample
from chaos.history import Operation
from chaos.verdict import Findings, Verdict

WITHIN_MS: Final = 1_000
PATIENCE_MS: Final = 4_000
"""How long a claim that nobody knows the end of is taken to wait beyond what it asked for."""
_FRESH_NS: Final = 1_000_000_000


def check(evidence: Evidence) -> Verdict:
    """Judge a run."""
    findings = Findings("liveness")
    within_ns = int(evidence.settings.get("claim_within_ms", WITHIN_MS)) * MS
    # What a frozen worker seems to wait for may have been granted long ago.
    harmless = tuple(kind for kind in (*BESIDE, CLOCKS) if kind != FROZEN)
    quiet = Quiet(evidence, besides=harmless)
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
            findings.counts["milliseconds judged"] += (sample.at - before.at) // MS
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
    settled = Quiet(evidence, restarts=True, besides=(*BESIDE, CLOCKS))
    _answered(evidence, findings, settled)
    _led(evidence, findings, settled)
    return findings.verdict()


def _answered(evidence: Evidence, findings: Findings, quiet: Quiet) -> None:
    """Judge times in which no claim is answered, though the wait that it asked for is over."""
    bound_ms = int(evidence.settings.get("silent_max_ms", SILENT_MAX_MS))
    claims = [one for one in evidence.history if one.kind == "claim"]
    end = last_moment(evidence)
    spans = sorted(_wanted(one, end) for one in claims)
    answers = sorted(one.to for one in claims if one.outcome == "ok" and one.to is not None)
    for gap in silences(spans, answers):
        piece = quiet.longest(*gap)
        if piece.length_ms > bound_ms:
            kept_waiting = next(one for one in claims if _wanted(one, end)[1] >= gap.begins)
            findings.violated(
                f"no claim was answered for {piece.length_ms} ms, from "
                f"{evidence.second(piece.begins)} to {evidence.second(piece.ends)}, when nothing "
                f"is done to the cluster; for example {evidence.describe(kept_waiting)}"
            )


def _wanted(claim: Operation, end: int) -> tuple[int, int]:
    """Return from when to when a claim wanted an answer; `end` is that of the record."""
    due = claim.at + int(claim.arguments.get("wait_ms", 0)) * MS
    until = end if claim.to is None else claim.to
    return min(due, until), until


def _led(evidence: Evidence, findings: Findings, quiet: Quiet) -> None:
    """Judge times in which samples show no leader that a majority follows."""
    bound_ms = int(evidence.settings.get("silent_max_ms", SILENT_MAX_MS))
    samples = evidence.samples
    if not samples:
        return
    led = [sample.at for sample, has_quorum in leaders(samples, evidence.nodes) if has_quorum]
    moments = [samples[0].at, *led, samples[-1].at]
    for before, after in pairwise(moments):
        piece = quiet.longest(before, after)
        if piece.length_ms > bound_ms and any(before < one.at < after for one in samples):
            findings.violated(
                f"no node leads a majority for {piece.length_ms} ms, from "
                f"{evidence.second(piece.begins)} to {evidence.second(piece.ends)}, when nothing "
                "is done to the cluster"
            )


class Claims:
    """Claims by time, however they ended."""

    def __init__(self, evidence: Evidence) -> None:
        submits = (one for one in evidence.history if one.kind == "submit")
        self._queues = frozenset(one.arguments.get("queue", "") for one in submits)
        self._claims = [one for one in evidence.history if one.kind == "claim"]
        self._granted = sorted(
            one.to
            for one in self._claims
            if one.outcome == "ok" and one.to is not None and one.value["grants"]
        )
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
        self._open = [one for one in self._open if _waits_until(one) >= moment]
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


def _waits_until(claim: Operation) -> int:
    if claim.to is not None:
        return claim.to
    return claim.at + (int(claim.arguments.get("wait_ms", 0)) + PATIENCE_MS) * MS


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
