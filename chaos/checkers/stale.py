"""Stale reads are states of some earlier moment, and do not go back (S5).

A stale read names the log index it is the state of. Within one client the index never goes
back from one read to the next. What it tells fits its index: a task accepted up to there is
in it, one accepted later is not, and its attempts are those claimed up to there. State, counts
and result are those that the task had at that entry: some order of all that was told of the task
explains them (`stale_states`). A list is judged by `lists`.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from chaos.checkers import lists, stale_states
from chaos.evidence import Evidence
from chaos.history import Operation
from chaos.stories import POSITION_BITS, Story
from chaos.verdict import Findings, Verdict


def check(evidence: Evidence) -> Verdict:
    """Judge a run."""
    findings = Findings("stale")
    by_client: dict[str, list[Operation]] = defaultdict(list)
    for operation in evidence.history:
        if operation.outcome == "ok" and (
            operation.kind == "list"
            or (operation.kind == "get" and operation.arguments.get("consistency") == "stale")
        ):
            by_client[operation.who].append(operation)
    for reads in by_client.values():
        _does_not_go_back(evidence, findings, reads)
    for story in evidence.stories.values():
        for read in story.stale:
            if read.outcome == "ok":
                findings.counts["stale reads"] += 1
                _fits_its_index(evidence, findings, story, read)
    stale_states.judge(evidence, findings)
    lists.judge(evidence, findings)
    return findings.verdict()


def _does_not_go_back(evidence: Evidence, findings: Findings, reads: list[Operation]) -> None:
    """Compare each read with the newest state its client had been told of when it began."""
    by_answer = sorted(reads, key=lambda read: read.to or 0)
    newest: Operation | None = None
    at = 0
    for read in reads:
        while (by_answer[at].to or 0) < read.at:
            if newest is None or by_answer[at].value["applied"] > newest.value["applied"]:
                newest = by_answer[at]
            at += 1
        if newest is not None and read.value["applied"] < newest.value["applied"]:
            findings.violated(
                f"client {read.who} is taken back from entry {newest.value['applied']} to "
                f"{read.value['applied']}: {evidence.describe(newest)}; then "
                + evidence.describe(read)
            )


def _fits_its_index(evidence: Evidence, findings: Findings, story: Story, read: Operation) -> None:
    value: dict[str, Any] = read.value
    applied, state = int(value["applied"]), value.get("state")
    accepted = story.accepted()
    wrong = ""
    if accepted is not None:
        index = int(accepted.value["index"])
        if (index <= applied) is (state is None):
            wrong = f"the task was accepted at entry {index}"
    attempt = value.get("attempt")
    if state is not None and attempt is not None:
        for grant in story.grants:
            index = grant.token >> POSITION_BITS
            if (index <= applied) is (grant.attempt > attempt):
                wrong = f"attempt {grant.attempt} was claimed at entry {index}"
    if wrong:
        findings.violated(
            f"task {story.task}: a state of entry {applied} does not fit, for {wrong}: "
            + evidence.describe(read)
        )
