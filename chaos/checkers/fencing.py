"""Fencing tokens grow, and a stale one never wins (S3, S4).

A token belongs to one task, one attempt and one session, and one claim is granted it. The larger
attempt has the larger token, and a claim that began after another's answer never gets a smaller
one. A report or heartbeat that began after a later grant was answered is not accepted.
"""

from __future__ import annotations

from itertools import pairwise

from chaos.evidence import Evidence
from chaos.history import Operation
from chaos.stories import POSITION_BITS, Grant, Story
from chaos.verdict import Findings, Verdict


def check(evidence: Evidence) -> Verdict:
    """Judge a run."""
    findings = Findings("fencing")
    owners: dict[int, tuple[str, Grant]] = {}
    for story in evidence.stories.values():
        grants = story.grants
        findings.counts["grants"] += len(grants)
        for grant in grants:
            task, first = owners.setdefault(grant.token, (story.task, grant))
            if task != story.task or first.attempt != grant.attempt:
                findings.violated(
                    f"token {grant.token} is that of attempt {first.attempt} of task {task} "
                    f"({evidence.describe(first.operation)}) and of attempt {grant.attempt} of "
                    f"task {story.task} ({evidence.describe(grant.operation)})"
                )
            elif first.operation is not grant.operation:
                findings.violated(
                    f"token {grant.token} of task {task} is granted to session {first.session} "
                    f"({evidence.describe(first.operation)}) and again to session {grant.session} "
                    f"({evidence.describe(grant.operation)})"
                )
        if grants:
            _tokens_grow(evidence, findings, story)
            _no_stale_report(evidence, findings, story)
    return findings.verdict()


def _tokens_grow(evidence: Evidence, findings: Findings, story: Story) -> None:
    accepted = story.accepted()
    ordered = sorted(story.grants, key=lambda grant: (grant.attempt, grant.token))
    first = ordered[0]
    if accepted is not None and first.token >> POSITION_BITS < accepted.value["index"]:
        findings.violated(
            f"task {story.task}: token {first.token} is older than the task, accepted at entry "
            f"{accepted.value['index']}: {evidence.describe(first.operation)}"
        )
    for earlier, later in pairwise(ordered):
        if earlier.attempt == later.attempt:
            if earlier.token != later.token:
                findings.violated(
                    f"task {story.task}: attempt {later.attempt} was granted twice, with tokens "
                    f"{earlier.token} and {later.token}: {evidence.describe(earlier.operation)}; "
                    + evidence.describe(later.operation)
                )
        elif earlier.token >= later.token:
            findings.violated(
                f"task {story.task}: attempt {later.attempt} has token {later.token}, not above "
                f"{earlier.token} of attempt {earlier.attempt}: "
                f"{evidence.describe(earlier.operation)}; {evidence.describe(later.operation)}"
            )
        elif later.operation.to is not None and later.operation.to < earlier.operation.at:
            findings.violated(
                f"task {story.task}: token {earlier.token} was granted after the larger "
                f"{later.token}: {evidence.describe(later.operation)}; then "
                + evidence.describe(earlier.operation)
            )


def _no_stale_report(evidence: Evidence, findings: Findings, story: Story) -> None:
    """Compare each accepted call with the largest token somebody had before it began."""
    accepted: list[tuple[int, Operation, int]] = [
        (report.at, report, int(report.arguments["token"]))
        for report in story.reports
        if report.outcome == "ok"
    ]
    accepted += [(beat.at, beat, token) for beat, token in story.beats]
    findings.counts["calls with a token accepted"] += len(accepted)
    largest = max(story.grants, key=lambda grant: grant.token)
    if all(token >= largest.token for _, _, token in accepted):
        return
    for at, call, token in accepted:
        later = [
            grant
            for grant in story.grants
            if grant.token > token and grant.operation.to is not None and grant.operation.to < at
        ]
        if later:
            findings.violated(
                f"task {story.task}: a call with token {token} is accepted after {later[0].token} "
                f"was granted: {evidence.describe(later[0].operation)}; then "
                + evidence.describe(call)
            )
