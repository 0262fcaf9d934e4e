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
from collections.abc import Iterator
from operator import itemgetter
from typing import Any, Final, NamedTuple

from chaos.checkers import lifecycle
from chaos.checkers.lifecycle import ABSENT, UNTOLD, Play, Policy, Seen, Step, reachable
from chaos.evidence import Evidence
from chaos.history import Operation
from chaos.stories import Story
from chaos.verdict import Findings, Verdict

MOVES_MAX: Final = 200_000
_BEGINS: Final = itemgetter(1)
_ENDS: Final = itemgetter(2)
_SHOWN_MAX: Final = 40
_REFUSALS: Final = frozenset({"QUEUE_FULL", "DISK_FULL", "TOO_OLD", "TOO_NEW"})
"""What is never said of an id that is known."""
_TELLING: Final = frozenset({"LEASE_LOST", "NOT_FOUND", "NOT_CANCELLABLE"})
"""What says something of the task; other refusals speak of the cluster or the caller."""
_PLAYS: Final = {
    "complete": lifecycle.complete,
    "fail": lifecycle.fail,
    "release": lifecycle.release,
    "extend": lifecycle.hold,
    "progress": lifecycle.progress,
    "cancel": lifecycle.cancel,
}
_NO_EFFECT: Final = frozenset({"extend", "get"})


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
    doubtful = _doubtful_claims(evidence)
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
            ends = max((step.ends for step in steps if not step.optional), default=0)
            queue = _queue_of(story)
            ghosts = any(at < ends and queue in queues for at, queues in doubtful)
            loose = policy._replace(ghosts=ghosts, leavers=True)
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


def _doubtful_claims(evidence: Evidence) -> list[tuple[int, frozenset[str]]]:
    """Return (begin, queues) of claims that may have leased tasks nobody heard of.

    That is one without an answer; one that was refused, perhaps when it was repeated; and
    one that took so long that leases of its first sending may have run out.
    """
    lengths = [g.lease_ms for story in evidence.stories.values() for g in story.grants]
    shortest_ns = min(lengths, default=0) * 1_000_000
    return [
        (one.at, frozenset(one.arguments.get("queues", ())))
        for one in evidence.history
        if one.kind == "claim"
        and (one.outcome != "ok" or one.to is None or one.to - one.at > shortest_ns)
    ]


def policy_of(story: Story, evidence: Evidence) -> Policy:
    """Return what bounds the life of a task, from its first submit and the settings."""
    options: dict[str, Any] = {}
    for submit in story.submits:
        options = submit.arguments
        break
    settings = evidence.settings
    attempts = [grant.attempt for grant in story.grants]
    attempts += [int(told.get("attempt", 0)) for told in _answers(story.reads)]
    return Policy(
        delayed=bool(options.get("delay_ms")),
        retry_max=options.get("retry_max", settings.get("retry_max", 5)),
        lost_max=options.get("lost_max", settings.get("lost_max", 3)),
        attempts_max=max(attempts, default=0) + 1,
        ghosts=False,
        leavers=False,
    )


def _answers(reads: list[Operation]) -> Iterator[dict[str, Any]]:
    return (read.value for read in reads if read.outcome == "ok")


def steps_of(story: Story) -> Iterator[Step]:
    """Give what happened to a task, as the search plays it; in no order."""
    contents: dict[object, int] = {}
    for submit in story.submits:
        asked = submit.arguments
        content = contents.setdefault(
            tuple(asked.get(name) for name in ("queue", "priority", "delay_ms", "payload")),
            len(contents) + 1,
        )
        code = submit.code
        if code in _REFUSALS or code == "CONFLICT" or not code:
            told = "REFUSED" if code in _REFUSALS else code
            yield _step(submit, lifecycle.submit, told, content)
    for grant in story.grants:
        claim = grant.operation
        ends = claim.to or math.inf
        yield Step(lifecycle.grant, claim.at, ends, False, grant.token, grant.attempt, None, claim)
    for report in (*story.reports, *story.cancels):
        step = _reported(report)
        if step is not None:
            yield step
    for beat, token in story.beats:
        yield Step(lifecycle.hold, beat.at, beat.to or math.inf, False, token, "", None, beat)
    for read in story.reads:
        if read.outcome == "ok":
            yield _step(read, lifecycle.read, _told(read.value))
        elif read.code == "NOT_FOUND":
            yield _step(read, lifecycle.read, None)


def _reported(report: Operation) -> Step | None:
    """Return the step of a report or cancellation; None if its answer says nothing of the task."""
    kind, code, asked = report.kind, report.code, report.arguments
    if code and code not in _TELLING:
        return None
    if report.outcome == "unknown" and kind in _NO_EFFECT:
        return None
    told = code
    if report.outcome == "ok" and kind in {"complete", "fail"}:
        told = report.value["state"]
    argument: object = None
    if kind == "complete":
        argument = asked.get("result")
    elif kind == "fail":
        argument = 1 if asked.get("retry", True) else 2
    elif kind == "progress":
        argument = asked.get("permille")
    return _step(report, _PLAYS[kind], told, argument, asked.get("token", 0))


def _step(
    operation: Operation, play: Play, told: object, asked: object = None, token: int = 0
) -> Step:
    ends = operation.to
    if ends is None or operation.outcome == "unknown":
        return Step(play, operation.at, math.inf, True, token, told, asked, operation)
    return Step(play, operation.at, ends, False, token, told, asked, operation)


def _told(value: dict[str, Any]) -> tuple[Any, ...]:
    get = value.get
    return (
        value["state"],
        get("attempt", UNTOLD),
        get("failures", UNTOLD),
        get("lost", UNTOLD),
        get("result", UNTOLD),
        get("progress", UNTOLD),
    )


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
