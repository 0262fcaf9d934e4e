"""A task ends at most once (S4), and stays as it ended.

Of all reports and cancellations that were told to have ended a task, there is one; what is
read at the end, and what every node exports, is that end, with that result. A task that is
completed was completed by somebody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chaos.evidence import TERMINAL, Evidence, Export
from chaos.history import Operation
from chaos.stories import Story
from chaos.verdict import Findings, Verdict

Ending = tuple[str, int]
"""Terminal state, and the token that brought it; 0 for a cancellation."""


def check(evidence: Evidence) -> Verdict:
    """Judge a run."""
    findings = Findings("once")
    for story in evidence.stories.values():
        findings.counts["tasks"] += 1
        findings.counts["late reports refused"] += sum(
            report.code == "LEASE_LOST" for report in story.reports
        )
        endings = _endings(story)
        findings.counts["ends acknowledged"] += bool(endings)
        if len(endings) > 1:
            told = "; and ".join(evidence.describe(one) for one in endings.values())
            findings.violated(f"task {story.task} ended {len(endings)} times: {told}")
        elif endings:
            _granted_afterwards(evidence, findings, story, next(iter(endings.values())))
        for where, fields in _finals(evidence, story):
            _compare(evidence, findings, story, endings=endings, where=where, fields=fields)
    return findings.verdict()


def _endings(story: Story) -> dict[Ending, Operation]:
    """Return each end that somebody was told of, with the first who was."""
    endings: dict[Ending, Operation] = {}
    for report in (*story.reports, *story.cancels):
        if report.outcome == "ok" and report.kind in {"complete", "fail", "cancel"}:
            state = report.value["state"]
            if state in TERMINAL:
                endings.setdefault((state, report.arguments.get("token", 0)), report)
    return endings


def _granted_afterwards(
    evidence: Evidence, findings: Findings, story: Story, ending: Operation
) -> None:
    assert ending.to is not None
    for grant in story.grants:
        if grant.operation.at > ending.to:
            findings.violated(
                f"task {story.task} is granted after its end: {evidence.describe(ending)}; then "
                + evidence.describe(grant.operation)
            )
            return


def _finals(evidence: Evidence, story: Story) -> list[tuple[Operation | Export, Mapping[str, Any]]]:
    """Return what is told of a task at the end: by whom, and the fields."""
    found: list[tuple[Operation | Export, Mapping[str, Any]]] = []
    final = story.final()
    if final is not None and final.outcome == "ok":
        found.append((final, final.value))
    for export in evidence.exports:
        fields = export.tasks.get(story.task)
        if fields is not None:
            found.append((export, fields))
    return found


class _Said:
    """Who told the state at the end, put into words only where it is needed."""

    def __init__(self, evidence: Evidence, where: Operation | Export) -> None:
        self._evidence = evidence
        self._where = where

    def __str__(self) -> str:
        if isinstance(self._where, Export):
            return f"node {self._where.node} at entry {self._where.applied}"
        return self._evidence.describe(self._where)


def _compare(
    evidence: Evidence,
    findings: Findings,
    story: Story,
    *,
    endings: Mapping[Ending, Operation],
    where: Operation | Export,
    fields: Mapping[str, Any],
) -> None:
    """Hold what is told of a task at the end against the one end it had."""
    state, told = fields["state"], _Said(evidence, where)
    wrong = [report for (ended, _), report in endings.items() if ended != state]
    if wrong:
        findings.violated(
            f"task {story.task} is {state} at the end ({told}), and somebody was told of another "
            f"end: {evidence.describe(wrong[0])}"
        )
        return
    if state == "completed":
        reports = [one for one in story.reports if one.kind == "complete" and not one.code]
        acknowledged = [one for one in reports if one.outcome == "ok"]
        results = [one.arguments.get("result") for one in acknowledged or reports]
        if not results:
            findings.violated(f"task {story.task} is completed ({told}), and by nobody")
        elif "result" in fields and fields["result"] not in results:
            findings.violated(
                f"task {story.task} has result {fields['result']!r} ({told}), and was completed "
                f"with {results[0]!r}: {evidence.describe((acknowledged or reports)[0])}"
            )
    elif state == "cancelled" and all(cancel.outcome == "fail" for cancel in story.cancels):
        findings.violated(f"task {story.task} is cancelled ({told}), and by nobody")
