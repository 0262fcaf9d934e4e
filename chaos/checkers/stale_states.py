"""What a stale read tells is what the task was at the entry it names (S5).

A stale read of an entry is a read at a known place of the log, so at a time that is known
within bounds: not before that entry was called for, not after the next one was answered. With
these bounds it takes part in the search of `linearizable` like any other read. Only tasks that
the search explains without their stale reads are judged: the others are told of there.
"""

from __future__ import annotations

from operator import attrgetter

from chaos.checkers.lifecycle import Policy, Step
from chaos.checkers.linearizable import (
    Search,
    doubtful_claims,
    is_plain,
    loosened,
    search,
)
from chaos.checkers.steps import policy_of, stale_steps, steps_of
from chaos.evidence import Evidence
from chaos.positions import LogTimes
from chaos.stories import Story
from chaos.verdict import Findings


def judge(evidence: Evidence, findings: Findings) -> None:
    """Judge the stale reads of all tasks."""
    times = LogTimes(evidence.stories.values())
    doubtful = doubtful_claims(evidence)
    for story in evidence.stories.values():
        old = list(stale_steps(story, times))
        if not old:
            continue
        findings.counts["tasks with stale reads"] += 1
        others = list(steps_of(story))
        policy = policy_of(story, evidence)
        if is_plain([*others, *old], policy):
            continue
        loose = loosened(policy, story, [*others, *old], doubtful)
        result = _explained([*others, *old], policy, loose)
        if not result.found and _explained(others, policy, loose).found:
            findings.violated(_tell(evidence, story, old, result))


def _explained(steps: list[Step], policy: Policy, loose: Policy) -> Search:
    """Search, and where that finds nothing, reckon with claims that nobody heard of."""
    ordered = sorted(steps, key=attrgetter("begins"))
    result = search(ordered, policy)
    return result if result.found else search(ordered, loose)


def _tell(evidence: Evidence, story: Story, old: list[Step], result: Search) -> str:
    if result.found is None:
        return f"task {story.task}: its stale reads are not decided after {result.moves} moves"
    stuck = [step for step in result.stuck if step in old] or old
    read, seen = stuck[0].operation, result.seen
    return (
        f"task {story.task}: a state of entry {read.value['applied']} is none that it had then. "
        f"At best it was {seen.state} (attempt {seen.attempt}, {seen.failures} failures, "
        f"{seen.lost} lost, result {seen.result!r}), which does not explain "
        + evidence.describe(read)
    )
