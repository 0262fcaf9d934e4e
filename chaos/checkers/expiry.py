"""A lease ends (L2): that of a silent worker is not good for ever.

A lease was heard of last when the latest call that may have renewed it was over. If it is still
good when it has been over for long - a call with its token is taken, or the task is read as in
progress in that attempt - then nobody has taken it away. Long is `TIMES` its length, in one piece
in which no fault is under way or just over: a new leader, or one that could do nothing for a
while, gives every lease its full length anew, and so nothing is said of times with faults, those
of wall clocks among them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from chaos.calm import MS, Quiet
from chaos.evidence import Evidence
from chaos.history import Operation
from chaos.stories import Grant, Story
from chaos.verdict import Findings, Verdict

TIMES: Final = 10
_RENEWING: Final = frozenset({"extend", "progress"})


def check(evidence: Evidence) -> Verdict:
    """Judge a run."""
    findings = Findings("expiry")
    quiet = Quiet(evidence, restarts=True)
    unheard = _unheard_beats(evidence)
    for story in evidence.stories.values():
        for grant in story.grants:
            findings.counts["leases"] += 1
            _judge(evidence, findings, story, grant, quiet=quiet, unheard=unheard)
    return findings.verdict()


def _judge(
    evidence: Evidence,
    findings: Findings,
    story: Story,
    grant: Grant,
    *,
    quiet: Quiet,
    unheard: dict[int, list[Operation]],
) -> None:
    heard = [grant.operation]
    heard += [beat for beat, token in story.beats if token == grant.token]
    heard += unheard.get(grant.token, ())
    mine = [one for one in story.reports if one.arguments["token"] == grant.token and not one.code]
    heard += [one for one in mine if one.kind in _RENEWING]
    extended = (int(one.arguments["lease_ms"]) for one in mine if one.kind == "extend")
    long_ns = TIMES * MS * max(grant.lease_ms, *extended, 0)
    for sign in _signs(story, grant, mine):
        before = [one for one in heard if one.at < sign.at and one is not sign]
        last = max((math.inf if one.to is None else one.to for one in before), default=math.inf)
        if sign.at - last < long_ns:
            continue
        piece = quiet.longest(int(last), sign.at)
        findings.counts["silences judged"] += 1
        if piece.ends - piece.begins >= long_ns:
            findings.violated(
                f"task {story.task}: the lease with token {grant.token} was last heard of at "
                f"{evidence.second(last)}, and is good {(sign.at - last) / 1e9:.1f} s later, "
                f"though {long_ns / TIMES / 1e9:.1f} s is its length: "
                f"{evidence.describe(grant.operation)}; then {evidence.describe(sign)}"
            )
            return


def _signs(story: Story, grant: Grant, mine: list[Operation]) -> Iterator[Operation]:
    """Give the calls that show that a lease was good when they were made."""
    settled = False
    for report in mine:
        # The answer to a report is given again for as long as nobody else has the task.
        again = settled and report.kind in {"complete", "fail"}
        if report.outcome == "ok" and not again:
            yield report
        settled |= report.kind in {"complete", "fail"}
    yield from (beat for beat, token in story.beats if token == grant.token)
    # Without a number it can be no other attempt only if there is none.
    numbers = {grant.attempt, None} if len(story.grants) == 1 else {grant.attempt}
    for read in story.reads:
        told = read.value if read.outcome == "ok" else {}
        if told.get("state") == "in_progress" and told.get("attempt") in numbers:
            yield read


def _unheard_beats(evidence: Evidence) -> dict[int, list[Operation]]:
    """Return the heartbeats of unknown outcome by token: each may have renewed its leases."""
    found: dict[int, list[Operation]] = defaultdict(list)
    for one in evidence.history:
        if one.kind == "heartbeat" and one.outcome == "unknown":
            for token in one.arguments["tokens"]:
                found[token].append(one)
    return found
