"""What was accepted is not lost (S1), and what comes out went in.

Every task whose submit was acknowledged is there when all work is done, on every node, and
it has ended; somebody asked for it, or a node that knew of it told its tasks. Nothing is there
that nobody submitted.
"""

from __future__ import annotations

from chaos.evidence import TERMINAL, Evidence
from chaos.history import Operation
from chaos.stories import Story
from chaos.verdict import Findings, Verdict


def check(evidence: Evidence) -> Verdict:
    """Judge a run."""
    findings = Findings("durable")
    drained = evidence.settings.get("drained", True)
    for story in evidence.stories.values():
        findings.counts["tasks"] += 1
        if not story.submits:
            _invented(evidence, findings, story)
            continue
        accepted = story.accepted()
        if accepted is None:
            findings.counts["not acknowledged"] += 1
            continue
        findings.counts["acknowledged"] += 1
        _missing_exports(evidence, findings, story, accepted)
        state = _final_state(evidence, findings, story, accepted)
        if state is not None and state not in TERMINAL and drained:
            findings.violated(
                f"task {story.task} is still {state} when all work is done; accepted by "
                + evidence.describe(accepted)
            )
    _invented_exports(evidence, findings)
    return findings.verdict()


def _final_state(
    evidence: Evidence, findings: Findings, story: Story, accepted: Operation
) -> str | None:
    """Return the state at the end, None if there is none; that is told already."""
    final = story.final()
    if final is None:
        for export in evidence.exports:
            if story.task in export.tasks:
                return str(export.tasks[story.task]["state"])
        index = int(accepted.value["index"])
        # A node that had not come so far when it was asked says nothing of the task.
        if not any(export.whole and export.applied >= index for export in evidence.exports):
            findings.violated(
                f"task {story.task}: nobody has asked for it at the end, and no node has told its "
                f"tasks from entry {index} on; accepted by {evidence.describe(accepted)}"
            )
        return None
    if final.outcome == "ok":
        return str(final.value["state"])
    findings.violated(
        f"task {story.task} is lost: accepted by {evidence.describe(accepted)}, and at the end "
        + evidence.describe(final)
    )
    return None


def _missing_exports(
    evidence: Evidence, findings: Findings, story: Story, accepted: Operation
) -> None:
    index = int(accepted.value["index"])
    for export in evidence.exports:
        if export.whole and story.task not in export.tasks and export.applied >= index:
            findings.violated(
                f"task {story.task} is lost on node {export.node}, which has applied entry "
                f"{export.applied}: accepted by {evidence.describe(accepted)}"
            )


def _invented(evidence: Evidence, findings: Findings, story: Story) -> None:
    granted = [grant.operation for grant in story.grants]
    found = [read for read in story.reads if read.outcome == "ok"]
    for operation in (*granted, *found)[:1]:
        findings.violated(
            f"task {story.task} was submitted by nobody: " + evidence.describe(operation)
        )


def _invented_exports(evidence: Evidence, findings: Findings) -> None:
    stories = evidence.stories
    for export in evidence.exports:
        findings.counts["tasks exported"] += len(export.tasks)
        for task, fields in export.tasks.items():
            story = stories.get(task)
            if story is None or not story.submits:
                findings.violated(
                    f"task {task} was submitted by nobody, and is {fields['state']} on node "
                    f"{export.node}"
                )
            elif all(submit.outcome == "fail" for submit in story.submits):
                findings.violated(
                    f"task {task} is {fields['state']} on node {export.node}, and every submit of "
                    f"it was refused: {evidence.describe(story.submits[0])}"
                )
