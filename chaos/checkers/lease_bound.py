"""A lease lasts (T1): nobody else is granted the task before its time.

Only what is certain counts. A lease was granted, or renewed, no earlier than the call that
did it, and no earlier than the entries before it in the log were called for; the next grant
of the task was made no later than its answer, and no later than the answers to later
entries. The lease must fit in between, unless its holder gave it up. The same holds where a
holder is told that its lease is lost. A worker's session bounds its leases, too; so a session is
judged in the same way: a call may be told that it is none only if its worker was silent for as
long, signed off or registered again. A registration that this answer forced is no excuse for it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import pairwise
from typing import Any, Final, NamedTuple

from chaos.calm import LATE_MS
from chaos.evidence import Evidence
from chaos.history import Operation
from chaos.positions import ALWAYS, LogTimes
from chaos.stories import POSITION_BITS, Grant, Story
from chaos.verdict import Findings, Verdict

DRIFT: Final = 0.005
"""How wrong the rate of a monotonic clock may be (docs/guarantees.md)."""
ROUNDING_NS: Final = 1_000_000
UNKNOWN: Final = "UNKNOWN_SESSION"
AGAIN_MS: Final = 1_000
"""A call that takes so long may have been sent more than once."""
_GIVING_UP: Final = frozenset({"release", "complete", "fail"})
_PLAIN: Final = frozenset({"complete", "extend", "progress"})
_MS: Final = 1_000_000


class Opening(NamedTuple):
    """A call for a session that may have had its effect.

    Attributes:
        operation: The call.
        session: That it got; infinite if nobody knows.
        until: When it takes effect no more.
    """

    operation: Operation
    session: float
    until: float

    def may_end(self, number: int, since: float, until_ns: float) -> bool:
        """Tell whether it may have ended what got a number in the log, between two moments."""
        return self.operation.at < until_ns and self.until > since and self.session > number


class Sessions:
    """What is known of the workers' sessions.

    Attributes:
        length_ms: How long a silent session lives.
        beats: Session -> calls of the heartbeats that were answered.
        of: Worker -> its sessions.
        closings: Session -> when somebody asked for its end.
        openings: Worker -> its calls for a session; repeated by the SDK, one may have got others
            before the one it tells.
        unknown: The calls that were told that their session is none.
    """

    def __init__(self, evidence: Evidence) -> None:
        grants = [grant for story in evidence.stories.values() for grant in story.grants]
        shortest_ms = min((grant.lease_ms for grant in grants), default=0)
        self.length_ms = int(evidence.settings.get("lease_ms", shortest_ms))
        self.beats: dict[int, list[int]] = defaultdict(list)
        self.of: dict[str, set[int]] = defaultdict(set)
        self.closings: dict[int, list[int]] = defaultdict(list)
        self.openings: dict[str, list[Opening]] = defaultdict(list)
        self.unknown: list[Operation] = []
        for operation in evidence.history:
            self._note(operation)

    def _note(self, operation: Operation) -> None:
        kind, who, asked = operation.kind, operation.who, operation.arguments
        if operation.code == UNKNOWN and "session" in asked:
            self.unknown.append(operation)
        if kind == "heartbeat" and operation.outcome == "ok":
            self.beats[asked["session"]].append(operation.at)
        if kind in {"heartbeat", "claim"}:
            self.of[who].add(asked["session"])
        elif kind == "register" and operation.outcome != "fail":
            known = operation.outcome == "ok"
            session = operation.value["session"] if known else math.inf
            late = math.inf if operation.to is None else operation.to + LATE_MS * _MS
            # It gets its session before it is answered, and later ones have greater numbers.
            self.openings[who].append(Opening(operation, session, math.inf if known else late))
        elif kind == "deregister":
            self.closings[asked["session"]].append(operation.at)

    def gave_up(self, grant: Grant, until_position: float, until_ns: float) -> bool:
        """Tell whether the session that holds a grant may have been ended by its worker."""
        who, session, since = grant.operation.who, grant.session, grant.operation.at
        return (
            any(grant.token < other < until_position for other in self.of[who] if other != session)
            or any(at < until_ns for at in self.closings[session])
            or any(one.may_end(grant.token, since, until_ns) for one in self.openings[who])
        )

    def last_heard(self, call: Operation) -> float | None:
        """Return when the session that a refused call named was certainly heard last.

        Returns:
            None where its worker may have ended it itself, or nobody knows when it began.
        """
        session, who = call.arguments["session"], call.who
        assert call.to is not None
        own = next((one for one in self.openings[who] if one.session == session), None)
        if (
            own is None
            or own.operation.to is None
            or any(at < call.to for at in self.closings[session])
        ):
            return None
        since, answered = own.operation.at, own.operation.to
        # A call that took long may have been sent twice, and what was sent first arrive last.
        again = answered - since > AGAIN_MS * _MS and call.at < answered + LATE_MS * _MS
        if again or any(one.may_end(session, since, call.to) for one in self.openings[who]):
            return None
        return max(self.beats[session], default=since)


class End(NamedTuple):
    """What shows that a lease had ended.

    Attributes:
        until_ns: It had, at this moment.
        position: Position of the log it was gone at; infinite if nobody knows.
        operation: That shows it.
    """

    until_ns: float
    position: float
    operation: Operation


def check(evidence: Evidence) -> Verdict:
    """Judge a run."""
    findings = Findings("lease_bound")
    times = LogTimes(evidence.stories.values())
    sessions = Sessions(evidence)
    for story in evidence.stories.values():
        for grant, ends in _lives(story, times):
            findings.counts["leases"] += 1
            for end in ends:
                findings.counts["ends seen"] += 1
                _judge(evidence, findings, story, grant, end, times=times, sessions=sessions)
    for call in sessions.unknown:
        _judge_session(evidence, findings, call, sessions)
    return findings.verdict()


def _judge_session(
    evidence: Evidence, findings: Findings, call: Operation, sessions: Sessions
) -> None:
    """Judge a call that was told that its session is none."""
    heard = sessions.last_heard(call)
    if heard is None or call.to is None:
        return
    findings.counts["sessions judged"] += 1
    if call.to < heard + sessions.length_ms * _MS * (1 - DRIFT) - ROUNDING_NS:
        session = call.arguments["session"]
        findings.violated(
            f"session {session} of {call.who}, of {sessions.length_ms} ms, was heard at "
            f"{evidence.second(heard)} and had ended {(call.to - heard) / 1e6:.1f} ms later: "
            + evidence.describe(call)
        )


def _lives(story: Story, times: LogTimes) -> list[tuple[Grant, list[End]]]:
    """Return each lease of a task, and what shows that it had ended."""
    by_token = {grant.token: grant for grant in story.grants}
    ends: dict[int, list[End]] = {token: [] for token in by_token}
    for token, later in pairwise(sorted(by_token)):
        claim = by_token[later].operation
        assert claim.to is not None
        until = min(claim.to, times.not_after(later >> POSITION_BITS))
        ends[token].append(End(until, later, claim))
    told = list(story.losses)
    told += [
        (report, report.arguments["token"])
        for report in story.reports
        # A release or failure may be told so of its own doing, when the SDK repeats it.
        if report.code == "LEASE_LOST" and report.kind in _PLAIN
    ]
    for call, token in told:
        grant = by_token.get(token)
        # A session that does not hold a token is told that it is lost.
        if grant is None or call.arguments.get("session", grant.session) != grant.session:
            continue
        ends[token].append(End(call.to or times.not_after(token), math.inf, call))
    return [(by_token[token], found) for token, found in ends.items()]


def _judge(
    evidence: Evidence,
    findings: Findings,
    story: Story,
    grant: Grant,
    end: End,
    *,
    times: LogTimes,
    sessions: Sessions,
) -> None:
    if _given_up(story, grant, end) or sessions.gave_up(grant, end.position, end.until_ns):
        return
    alive, length_ms = _last_renewal(story, grant, times)
    session = grant.session
    heard = max(
        (at for at in sessions.beats[session]), default=times.not_before(session >> POSITION_BITS)
    )
    findings.counts["ends judged"] += 1
    lease_ns = alive + length_ms * _MS * (1 - DRIFT)
    session_ns = heard + sessions.length_ms * _MS * (1 - DRIFT)
    if end.until_ns >= min(lease_ns, session_ns) - ROUNDING_NS:
        return
    findings.violated(
        f"task {story.task}: the lease with token {grant.token}, of {length_ms} ms, was alive at "
        f"{evidence.second(alive)} and had ended {(end.until_ns - alive) / 1e6:.1f} ms later, at "
        f"{evidence.second(end.until_ns)} (session {session}, of {sessions.length_ms} ms, was "
        f"heard at {evidence.second(heard)}): {evidence.describe(grant.operation)}; then "
        + evidence.describe(end.operation)
    )


def _given_up(story: Story, grant: Grant, end: End) -> bool:
    """Tell whether the holder may have ended the lease itself.

    A refused call may be the repetition of one that was taken.
    """
    return any(
        report.arguments["token"] == grant.token
        and report.kind in _GIVING_UP
        and report is not end.operation
        and report.at < end.until_ns
        and report.code in {"", "LEASE_LOST"}
        for report in story.reports
    )


def _last_renewal(story: Story, grant: Grant, times: LogTimes) -> tuple[float, int]:
    """Return when the lease was certainly alive last, and the least it lasted from then."""
    alive = max(grant.operation.at, times.not_before(grant.token >> POSITION_BITS))
    for beat, token in story.beats:
        if token == grant.token:
            alive = max(alive, beat.at)
    lengths: list[tuple[float, float, int]] = [(ALWAYS, grant.operation.at, grant.lease_ms)]
    for report in story.reports:
        if report.kind == "extend" and report.arguments["token"] == grant.token and not report.code:
            length_ms: Any = report.arguments["lease_ms"]
            ends = math.inf if report.outcome == "unknown" else report.to or math.inf
            lengths.append((report.at, ends, int(length_ms)))
            if report.outcome == "ok":
                alive = max(alive, report.at)
    # One that ended before another, answered, began does not count any more.
    latest = max((at for at, ends, _ in lengths if ends < math.inf), default=ALWAYS)
    return alive, min(length for _, ends, length in lengths if ends >= latest)
