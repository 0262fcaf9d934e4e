"""A claim is granted what it asked for: tasks of its queues, and no more than it wants.

Each grant is of a queue that the claim named, and of the queue the task was submitted to. An
answer holds each task once, and at most as many as were asked for.
"""

from __future__ import annotations

from chaos.evidence import Evidence
from chaos.history import Operation
from chaos.stories import Story
from chaos.verdict import Findings, Verdict


def check(evidence: Evidence) -> Verdict:
    """Judge a run."""
    findings = Findings("grants")
    for claim in evidence.history:
        if claim.kind == "claim" and claim.outcome == "ok":
            findings.counts["claims"] += 1
            _answer(evidence, findings, claim)
    return findings.verdict()


def _answer(evidence: Evidence, findings: Findings, claim: Operation) -> None:
    grants = claim.value["grants"]
    findings.counts["grants"] += len(grants)
    count = claim.arguments.get("count")
    if count is not None and len(grants) > count:
        findings.violated(f"{len(grants)} tasks, of {count}: {evidence.describe(claim)}")
    tasks = [told["task"] for told in grants]
    for task in sorted({task for task in tasks if tasks.count(task) > 1}):
        findings.violated(f"task {task} is granted twice at once: {evidence.describe(claim)}")
    asked = claim.arguments.get("queues")
    for told in grants:
        task, queue = told["task"], told["queue"]
        if asked is not None and queue not in asked:
            findings.violated(
                f"task {task} of queue {queue} is granted to a claim that did not ask for it: "
                + evidence.describe(claim)
            )
        story = evidence.stories[task]
        if story.submits and queue not in _queues(story):
            findings.violated(
                f"task {task} is granted as one of queue {queue}: {evidence.describe(claim)}; it "
                f"is of {', '.join(sorted(_queues(story)))}: {evidence.describe(story.submits[0])}"
            )


def _queues(story: Story) -> set[str]:
    """Return the queue of a task; several only if nobody knows which submit was taken."""
    accepted = story.accepted()
    submits = story.submits if accepted is None else [accepted]
    return {str(submit.arguments.get("queue", "")) for submit in submits}
