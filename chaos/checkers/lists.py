"""Pages of the list of tasks: each is a piece of the list as of the entry it names (S5).

A page begins behind a task, `after`, and says where it ends: at `until`, where the next one
goes on, or with the list, if that is None. However few tasks it holds, none that was there is
left out in between; to be short is not to be at the end (docs/protocol.md, LIST_TASKS).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from itertools import pairwise

from chaos.evidence import Evidence
from chaos.history import Operation
from chaos.verdict import Findings


def judge(evidence: Evidence, findings: Findings) -> None:
    """Judge all pages: none holds a task from later, or leaves one out where it looked."""
    accepted_at = {
        task: int(accepted.value["index"])
        for task, story in evidence.stories.items()
        if (accepted := story.accepted()) is not None
    }
    in_order = sorted(accepted_at)
    for operation in evidence.history:
        if operation.kind != "list" or operation.outcome != "ok":
            continue
        findings.counts["lists"] += 1
        _is_a_piece(evidence, findings, operation, in_order=in_order, accepted_at=accepted_at)
        for task in operation.value["tasks"]:
            story = evidence.stories.get(task)
            accepted = None if story is None else story.accepted()
            if story is None or not story.submits:
                wrong = "which nobody submitted"
            elif accepted and accepted.value["index"] > operation.value["applied"]:
                wrong = f"which was accepted at entry {accepted.value['index']}"
            else:
                continue
            findings.violated(f"task {task}, {wrong}, is in {evidence.describe(operation)}")


def _is_a_piece(
    evidence: Evidence,
    findings: Findings,
    operation: Operation,
    *,
    in_order: list[str],
    accepted_at: Mapping[str, int],
) -> None:
    """Hold a page against all tasks between where it begins and where it ends."""
    tasks: list[str] = operation.value["tasks"]
    after: str = operation.arguments.get("after", "")
    if any(one >= other for one, other in pairwise([after, *tasks])):
        findings.violated(f"not in order behind {after!r}: {evidence.describe(operation)}")
    limit = operation.arguments.get("limit")
    if limit is not None and len(tasks) > limit:
        findings.violated(f"{len(tasks)} tasks, of {limit}: {evidence.describe(operation)}")
    last = tasks[-1] if tasks else after
    # An old record does not say where the page ends: then it is where its last task is.
    until: str | None = operation.value.get("until", last)
    if until is not None and until < last:
        findings.violated(
            f"it goes on behind {until}, before its own end: {evidence.describe(operation)}"
        )
    first = bisect_right(in_order, after)
    end = len(in_order) if until is None else bisect_right(in_order, max(until, last))
    listed = set(tasks)
    for task in in_order[first:end]:
        if task not in listed and accepted_at[task] <= operation.value["applied"]:
            findings.violated(
                f"task {task}, which was accepted at entry {accepted_at[task]}, is missing in "
                + evidence.describe(operation)
            )
