"""Tasks are first claimed in the order of their submits, the higher priority first (S6).

Two looks at it. By time: if one submit was answered before another of the same queue and
priority was called, then the other task's first claim is not answered before the first
task's is called. By position: a place is where in the log a task was submitted, a token where
it was claimed; so no task is claimed at a position where a better one stood in line. Delayed
tasks, and those whose first claim nobody heard of, are in neither.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from itertools import accumulate
from operator import itemgetter
from typing import Final, NamedTuple

from chaos.evidence import Evidence
from chaos.history import Operation
from chaos.stories import Grant, Story
from chaos.verdict import Findings, Verdict

PRIORITY_DEFAULT: Final = 100


class First(NamedTuple):
    """A task and its first claim.

    Attributes:
        called, answered: When it was submitted: the first call, and the first answer.
        claimed, granted: When its first claim was called, and answered.
        place: Where in the log it was submitted.
        token: Where in the log it was claimed.
        task: Its id.
    """

    called: int
    answered: int
    claimed: int
    granted: int
    place: int
    token: int
    task: str


def check(evidence: Evidence) -> Verdict:
    """Judge a run."""
    findings = Findings("order")
    lines: dict[tuple[str, int], list[First]] = defaultdict(list)
    for story in evidence.stories.values():
        known = _first(story)
        if known is not None:
            asked = (story.accepted() or story.submits[0]).arguments
            queue, priority = asked.get("queue", ""), asked.get("priority", PRIORITY_DEFAULT)
            lines[queue, priority].append(known)
    findings.counts["tasks"] = sum(map(len, lines.values()))
    findings.counts["lines"] = len(lines)
    for (queue, priority), firsts in sorted(lines.items()):
        line = f"queue {queue}, priority {priority}"
        for earlier, later in [*overtaken_in_time(firsts), *overtaken_in_log(firsts)]:
            findings.violated(_explain(evidence, line, earlier, later))
    for queue in sorted({queue for queue, _ in lines}):
        above: list[First] = []
        for level in sorted((level for name, level in lines if name == queue), reverse=True):
            below = lines[queue, level]
            for waiting, claimed in passed_over(above, below):
                line = f"queue {queue}, higher priorities before {level}"
                findings.violated(_explain(evidence, line, waiting, claimed))
            above += below
    return findings.verdict()


def overtaken_in_time(firsts: list[First]) -> list[tuple[First, First]]:
    """Return pairs that were submitted one after the other and claimed the other way round.

    For each task at most one pair, so the work is that of sorting.
    """
    by_answer = sorted(firsts, key=itemgetter(1))
    pairs: list[tuple[First, First]] = []
    latest: First | None = None
    at, count = 0, len(by_answer)
    for one in sorted(firsts, key=itemgetter(0)):
        while at < count and by_answer[at][1] < one[0]:
            earlier = by_answer[at]
            if latest is None or earlier[2] > latest[2]:
                latest = earlier
            at += 1
        if latest is not None and one[3] < latest[2]:
            pairs.append((latest, one))
    return pairs


def overtaken_in_log(firsts: list[First]) -> list[tuple[First, First]]:
    """Return pairs whose places and tokens are in opposite orders; at most one for each task."""
    pairs: list[tuple[First, First]] = []
    latest: First | None = None
    for one in sorted(firsts, key=itemgetter(4)):
        if latest is None or one[5] > latest[5]:
            latest = one
        elif one is not latest:
            pairs.append((latest, one))
    return pairs


def passed_over(above: list[First], below: list[First]) -> list[tuple[First, First]]:
    """Return pairs: a task in line, and one of a lower priority that was claimed."""
    ordered = sorted(above, key=itemgetter(4))
    places = [one.place for one in ordered]
    latest = list(accumulate(ordered, _later))
    pairs: list[tuple[First, First]] = []
    for one in below:
        at = bisect_left(places, one.token)
        if at and latest[at - 1].token > one.token:
            pairs.append((latest[at - 1], one))
    return pairs


def _later(one: First, other: First) -> First:
    """Return the one that was claimed later."""
    return other if other.token > one.token else one


def _first(story: Story) -> First | None:
    """Return the first claim of a task that was due from its submit on, if it is known."""
    grant: Grant | None = None
    for one in story.grants:
        if one.attempt == 1 and (grant is None or one.operation.at < grant.operation.at):
            grant = one
    if grant is None or not story.submits:
        return None
    if (story.accepted() or story.submits[0]).arguments.get("delay_ms"):
        return None
    claim: Operation = grant.operation
    answers = [submit.to for submit in story.submits if submit.outcome == "ok"]
    assert claim.to is not None
    # Without an answer it was there, at the latest, when it was claimed.
    answered = min((to for to in answers if to is not None), default=claim.to)
    return First(
        *(story.submits[0].at, answered, claim.at, claim.to),
        *(grant.place, grant.token, story.task),
    )


def _explain(evidence: Evidence, line: str, waiting: First, claimed: First) -> str:
    def said(one: First) -> str:
        return (
            f"{one.task} (place {one.place}, submitted {evidence.second(one.called)}.."
            f"{evidence.second(one.answered)}, first claimed {evidence.second(one.claimed)}.."
            f"{evidence.second(one.granted)} with token {one.token})"
        )

    return f"{line}: task {said(claimed)} overtook task {said(waiting)}"
