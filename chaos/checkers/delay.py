"""A delayed task is not granted before its time (T3).

The time counts from the first call that submitted the task, and ends with the answer to its first
claim, or to any later entry of the log. Times of the cluster are those of its nodes' wall
clocks, as far as they hear of each other; so it may be `EARLY_MAX_MS` short, half at most. Where
a fault moves wall clocks while a task waits, or has just done so, nothing is known of that task.
"""

from __future__ import annotations

from typing import Final

from chaos.calm import MS, Quiet
from chaos.evidence import Evidence
from chaos.positions import LogTimes
from chaos.stories import POSITION_BITS, Grant, Story
from chaos.verdict import Findings, Verdict

EARLY_MAX_MS: Final = 250
"""A clock of another node looks slow for as long as the word of it takes."""


def check(evidence: Evidence) -> Verdict:
    """Judge a run."""
    findings = Findings("delay")
    clocks = Quiet(evidence, kinds="clock")
    times = LogTimes(evidence.stories.values())
    for story in evidence.stories.values():
        delay_ms = _delay_ms(story)
        if not delay_ms or not story.grants:
            continue
        findings.counts["delayed tasks"] += 1
        called = min(submit.at for submit in story.submits)
        first = min(story.grants, key=lambda grant: _no_later(grant, times))
        granted = _no_later(first, times)
        if not clocks.whole(called, max(called, int(granted))):
            findings.counts["while clocks were moved"] += 1
        elif granted < called + max(delay_ms - EARLY_MAX_MS, delay_ms / 2) * MS:
            findings.violated(
                f"task {story.task} was to wait for {delay_ms} ms, and is granted within "
                f"{(granted - called) / MS:.0f} ms, at {evidence.second(granted)}: "
                f"{evidence.describe(story.submits[0])}; {evidence.describe(first.operation)}"
            )
    return findings.verdict()


def _delay_ms(story: Story) -> int:
    """Return how long a task was to wait, at least."""
    accepted = story.accepted()
    submits = story.submits if accepted is None else [accepted]
    return min((int(one.arguments.get("delay_ms") or 0) for one in submits), default=0)


def _no_later(grant: Grant, times: LogTimes) -> float:
    """Return a moment at which a task was certainly granted."""
    assert grant.operation.to is not None
    return min(grant.operation.to, times.not_after(grant.token >> POSITION_BITS))
