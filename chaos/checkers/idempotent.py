"""Submitting twice adds once (S2).

All acknowledged submits of an id name the same log entry and have the same content; other
content is a conflict, the same content never is. A task stands at one place, in that entry.
"""

from __future__ import annotations

from chaos.evidence import Evidence
from chaos.history import Operation
from chaos.stories import POSITION_BITS, Story
from chaos.verdict import Findings, Verdict

_CONTENT = ("queue", "priority", "delay_ms", "payload")


def check(evidence: Evidence) -> Verdict:
    """Judge a run."""
    findings = Findings("idempotent")
    for story in evidence.stories.values():
        accepted = [submit for submit in story.submits if submit.outcome == "ok"]
        findings.counts["tasks"] += 1
        findings.counts["submits repeated"] += len(story.submits) > 1
        if accepted:
            _one_answer(evidence, findings, story, accepted)
        if len(story.submits) > 1:
            _one_content(evidence, findings, story)
        _one_place(evidence, findings, story, accepted)
    return findings.verdict()


def _one_answer(
    evidence: Evidence, findings: Findings, story: Story, accepted: list[Operation]
) -> None:
    first = accepted[0]
    for submit in accepted[1:]:
        if submit.value["index"] != first.value["index"]:
            findings.violated(
                f"task {story.task} was accepted at two entries, {first.value['index']} and "
                f"{submit.value['index']}: {evidence.describe(first)}; {evidence.describe(submit)}"
            )
        elif _content(submit) != _content(first):
            findings.violated(
                f"task {story.task} was accepted with two contents: {evidence.describe(first)}; "
                + evidence.describe(submit)
            )


def _one_content(evidence: Evidence, findings: Findings, story: Story) -> None:
    """Who was told of a conflict asked for something that somebody else did not."""
    conflicts = [submit for submit in story.submits if submit.code == "CONFLICT"]
    findings.counts["conflicts"] += len(conflicts)
    if conflicts and len({_content(submit) for submit in story.submits}) == 1:
        findings.violated(
            f"task {story.task} was always submitted with the same content, and is told to be a "
            f"conflict: {evidence.describe(conflicts[0])}"
        )


def _one_place(
    evidence: Evidence, findings: Findings, story: Story, accepted: list[Operation]
) -> None:
    places = {grant.place: grant for grant in story.grants}
    if len(places) > 1:
        told = "; ".join(evidence.describe(grant.operation) for grant in places.values())
        findings.violated(f"task {story.task} has stood at {len(places)} places: {told}")
    for place, grant in places.items():
        if accepted and place >> POSITION_BITS != accepted[0].value["index"]:
            findings.violated(
                f"task {story.task} stands at place {place}, which is not in entry "
                f"{accepted[0].value['index']}: {evidence.describe(accepted[0])}; "
                + evidence.describe(grant.operation)
            )


def _content(submit: Operation) -> tuple[object, ...]:
    return tuple(submit.arguments.get(name) for name in _CONTENT)
