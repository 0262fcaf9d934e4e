"""What was asked and told of one task, as steps of its life for the search of `linearizable`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, Final

from chaos.checkers import lifecycle
from chaos.checkers.lifecycle import UNTOLD, Play, Policy, Step
from chaos.evidence import Evidence
from chaos.history import Operation
from chaos.positions import LogTimes
from chaos.stories import Story

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


def policy_of(story: Story, evidence: Evidence) -> Policy:
    """Return what bounds the life of a task, from its first submit and the settings."""
    options: dict[str, Any] = {}
    for submit in story.submits:
        options = submit.arguments
        break
    settings = evidence.settings
    attempts = [grant.attempt for grant in story.grants]
    reads = (*story.reads, *story.stale)
    attempts += [int(told.get("attempt") or 0) for told in _answers(reads)]
    return Policy(
        delayed=bool(options.get("delay_ms")),
        retry_max=options.get("retry_max", settings.get("retry_max", 5)),
        lost_max=options.get("lost_max", settings.get("lost_max", 3)),
        attempts_max=max(attempts, default=0) + 1,
        ghosts=False,
        leavers=False,
    )


def _answers(reads: Iterable[Operation]) -> Iterator[dict[str, Any]]:
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
        yield from _reported(report)
    for beat, token in story.beats:
        yield Step(lifecycle.hold, beat.at, beat.to or math.inf, False, token, "", None, beat)
    for read in story.reads:
        if read.outcome == "ok":
            yield _step(read, lifecycle.read, _told(read.value))
        elif read.code == "NOT_FOUND":
            yield _step(read, lifecycle.read, None)


def stale_steps(story: Story, times: LogTimes) -> Iterator[Step]:
    """Give the stale reads of a task as steps at their place in the log.

    A state of some entry is read after that entry and before the next one, so not before the
    one was called for, and not after the other was answered.
    """
    for read in story.stale:
        if read.outcome == "ok":
            applied = int(read.value["applied"])
            begins, ends = times.not_before(applied), times.not_after(applied + 1)
            told = None if read.value.get("state") is None else _told(read.value)
            yield Step(lifecycle.read, begins, ends, False, 0, told, None, read)


def _reported(report: Operation) -> Iterator[Step]:
    """Give the steps of a report or cancellation; none if its answer says nothing of the task."""
    kind, code, asked = report.kind, report.code, report.arguments
    if code and code not in _TELLING:
        return
    if report.outcome == "unknown" and kind in _NO_EFFECT:
        return
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
    step = _step(report, _PLAYS[kind], told, argument, asked.get("token", 0))
    yield step
    if kind == "progress" and told == "LEASE_LOST":
        # The SDK repeats what was not answered, and the first time the lease may have lived.
        yield step._replace(ends=math.inf, optional=True, told="")


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
