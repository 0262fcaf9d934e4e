"""Operations on one task are linearizable (S5), as their callers saw them.

What was told of a task, and when, must be explained by some order of the operations that
keeps real time, played on the life of a task. An operation of unknown outcome may have
happened at any time after it began, or not at all; a lease may end, and a wait be over,
between any two. How soon a lease may end is the matter of `lease_bound`.

Wing and Gong's search, task by task, with Lowe's memory of where it has been. What changes
nothing and can come next does so at once, since no order loses by it; so the search branches
only where two orders leave different tasks behind. A search that takes too long counts as a
violation: nothing is known then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import itemgetter
from typing import Final, NamedTuple

from chaos.calm import LATE_MS, MS
from chaos.checkers.lifecycle import ABSENT, Policy, Seen, Step, reachable
from chaos.checkers.steps import policy_of, steps_of
from chaos.evidence import Evidence
from chaos.history import Operation
from chaos.stories import Story
from chaos.verdict import Findings, Verdict

MOVES_MAX: Final = 200_000
_BEGINS: Final = itemgetter(1)
_ENDS: Final = itemgetter(2)
_SHOWN_MAX: Final = 40


class Search(NamedTuple):
    """What a search came to.

    Attributes:
        found: Some order explains the steps; None: it took too long.
        moves: How many moves it took.
        seen: The task at the furthest point any order reached.
        stuck: Steps that could come next there, and cannot have been answered so.
    """

    found: bool | None
    moves: int
    seen: Seen
    stuck: list[Step]


def search(steps: list[Step], policy: Policy) -> Search:
    """Look for an order that explains the steps.

    Args:
        steps: In order of their beginning.
        policy: Of the task.
    """
    needed = sum(1 << at for at, step in enumerate(steps) if not step.optional)
    memory: set[tuple[int, Seen]] = set()
    todo = [(0, ABSENT, 0)]
    moves = 0
    furthest: tuple[int, Seen, list[int]] = (-1, ABSENT, [])
    while todo:
        done, seen, first = todo.pop()
        while True:
            moves += 1
            window = _window(steps, done, first)
            settled = _unchanging(steps, window, seen, policy)
            if settled:
                done |= settled
                continue
            if done & needed == needed:
                return Search(True, moves, seen, [])
            if moves > MOVES_MAX:
                return Search(None, moves, seen, [steps[at] for at in window])
            nexts = _nexts(steps, window, seen, policy)
            if len(nexts) != 1:
                break
            bit, seen = nexts[0]
            done |= bit
            first = window[0]
        reached = (done & needed).bit_count()
        if not nexts and reached > furthest[0]:
            furthest = (reached, seen, window)
        for bit, after in reversed(nexts):
            new = (done | bit, after)
            if new not in memory:
                memory.add(new)
                todo.append((*new, first))
    return Search(False, moves, furthest[1], [steps[at] for at in furthest[2]])


def is_plain(steps: list[Step], policy: Policy) -> bool:
    """Tell whether the order of the answers explains the steps, with nothing in between.

    It does for most tasks, and is quickly tried.
    """
    seen = ABSENT
    for step in sorted(steps, key=_ENDS):
        if not step[3]:
            after = step[0](step, seen, policy)
            if after is None:
                return False
            seen = after
    return True


def _window(steps: list[Step], done: int, first: int) -> list[int]:
    """Return what can come next: all that began before the first end of what is not done."""
    window: list[int] = []
    first_end = math.inf
    for at in range(first, len(steps)):
        step = steps[at]
        if step[1] > first_end:
            break
        if not done >> at & 1:
            window.append(at)
            first_end = min(first_end, step[2])
    return window


def _unchanging(steps: list[Step], window: list[int], seen: Seen, policy: Policy) -> int:
    """Return the bits of the needed steps that can come next and change nothing."""
    bits = 0
    for at in window:
        step = steps[at]
        if not step.optional and step.play(step, seen, policy) is seen:
            bits |= 1 << at
    return bits


def _nexts(
    steps: list[Step], window: list[int], seen: Seen, policy: Policy
) -> list[tuple[int, Seen]]:
    """Return the moves there are, the likelier ones first."""
    likely: list[tuple[int, Seen]] = []
    unlikely: list[tuple[int, Seen]] = []
    for rank, before in enumerate(reachable(seen, policy)):
        for at in window:
            step = steps[at]
            after = step.play(step, before, policy)
            if after is None or (step.optional and after is before):
                continue
            (unlikely if rank or step.optional else likely).append((1 << at, after))
    return likely + unlikely


def check(evidence: Evidence) -> Verdict:
    """Judge a run."""
    findings = Findings("linearizable")
    doubtful = doubtful_claims(evidence)
    moves_max = 0
    for story in evidence.stories.values():
        steps = list(steps_of(story))
        findings.counts["operations"] += len(steps)
        policy = policy_of(story, evidence)
        if is_plain(steps, policy):
            continue
        steps.sort(key=_BEGINS)
        findings.counts["tasks searched"] += 1
        result = search(steps, policy)
        moves_max = max(moves_max, result.moves)
        if not result.found:
            loose = loosened(policy, story, steps, doubtful)
            again = search(steps, loose)
            moves_max = max(moves_max, again.moves)
            if again.found:
                findings.counts["explained by lost answers"] += 1
            else:
                findings.violated(_explain(evidence, story, steps, again))
    findings.counts["tasks"] = len(evidence.stories)
    findings.counts["most moves for one task"] = moves_max
    return findings.verdict()


def _queue_of(story: Story) -> str:
    for submit in story.submits:
        return str(submit.arguments.get("queue", ""))
    return ""


def loosened(
    policy: Policy,
    story: Story,
    steps: Sequence[Step],
    doubtful: Sequence[Doubt],
) -> Policy:
    """Return a policy that reckons with claims nobody heard of, and sessions that were closed."""
    ends = max((step.ends for step in steps if not step.optional), default=0)
    queue = _queue_of(story)
    begins = min((submit.at for submit in story.submits), default=0)
    ghosts = any(
        doubt.begins < ends and begins < doubt.until and queue in doubt.queues for doubt in doubtful
    )
    return policy._replace(ghosts=ghosts, leavers=True)


class Doubt(NamedTuple):
    """A claim that may have leased tasks nobody heard of, between two moments.

    Attributes:
        begins: Not before.
        until: Not after; infinite if nobody knows.
        queues: From these.
    """

    begins: int
    until: float
    queues: frozenset[str]


def doubtful_claims(evidence: Evidence) -> list[Doubt]:
    """Return the claims that may have leased tasks nobody heard of.

    That is one without an answer, which may arrive for a while after its client gave up; one that
    was refused, perhaps when it was repeated; and one that took so long that leases of its first
    sending may have run out. What was answered or refused leases nothing any more.
    """
    lengths = [g.lease_ms for story in evidence.stories.values() for g in story.grants]
    shortest_ns = min(lengths, default=0) * 1_000_000
    return [
        Doubt(one.at, _reach(one), frozenset(one.arguments.get("queues", ())))
        for one in evidence.history
        if one.kind == "claim"
        and (one.outcome != "ok" or one.to is None or one.to - one.at > shortest_ns)
    ]


def _reach(claim: Operation) -> float:
    """Return until when a claim may take effect."""
    if claim.to is None:
        return math.inf
    return claim.to + (LATE_MS * MS if claim.outcome == "unknown" else 0)


def _explain(evidence: Evidence, story: Story, steps: list[Step], result: Search) -> str:
    """Tell what cannot be explained, with the task, its operations and their times."""
    seen = result.seen
    if result.found is None:
        head = f"task {story.task}: not decided after {result.moves} moves"
    else:
        head = (
            f"task {story.task}: no order explains what was told of it. At best it is then "
            f"{seen.state} (attempt {seen.attempt}, token {seen.token}, {seen.failures} failures, "
            f"{seen.lost} lost), which does not explain "
            + "; or ".join(evidence.describe(step.operation) for step in result.stuck[:3])
        )
    lines = [evidence.describe(step.operation) for step in steps]
    if len(lines) > _SHOWN_MAX:
        half = _SHOWN_MAX // 2
        lines[half:-half] = [f"... {len(lines) - _SHOWN_MAX} more ..."]
    return head + "\n    " + "\n    ".join(lines)
