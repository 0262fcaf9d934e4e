"""Disks without room (L7): new tasks are refused by name, work goes on, and it passes by itself.

Judged at each fault that fills disks and leaves every leader of its time without room: from
`NOTICE_MS` on, which is how long a node may take to see it, no task with a new id is accepted,
and most are refused with DISK_FULL and not just left without an answer. Completions are
accepted meanwhile. When there is room again, new tasks are accepted within `room_max_ms`. At
any time only submits are refused with DISK_FULL.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import Final, NamedTuple

from chaos.evidence import Evidence, Fault
from chaos.history import Operation
from chaos.verdict import Findings, Verdict

CODE: Final = "DISK_FULL"
KIND: Final = "disk full"
NOTICE_MS: Final = 2_500
AGAIN_MAX_MS: Final = 10_000
_MANY: Final = 20
"""Submits that cannot all meet with something else."""
_SOME: Final = 3
_FREEING_MS: Final = 500
"""Disk after disk is freed before a fault counts as taken back."""
_MS: Final = 1_000_000


def check(evidence: Evidence) -> Verdict:
    """Judge a run."""
    findings = Findings("disk_full")
    for one in evidence.history:
        if one.code == CODE and one.kind != "submit":
            findings.violated(f"only new tasks may be refused: {evidence.describe(one)}")
    faults = [fault for fault in evidence.faults if fault.kind.startswith(KIND)]
    calls = _Calls(evidence)
    for fault, following in zip_longest(faults, faults[1:]):
        if fault.to is not None:
            until = math.inf if following is None else following.at
            _Judge(evidence, findings, calls, _Spell(fault, fault.to, until)).judge()
    if findings.counts["faults judged"] and not findings.counts["completed meanwhile"]:
        findings.violated("nothing was completed in the whole run while disks were full")
    return findings.verdict()


class _Calls:
    """What is looked at: submits of ids that were new, and completions."""

    def __init__(self, evidence: Evidence) -> None:
        self.submits: list[Operation] = []
        self.completions: list[Operation] = []
        perhaps_known: set[str] = set()
        for one in evidence.history:
            if one.kind == "complete":
                self.completions.append(one)
            elif one.kind == "submit" and one.task not in perhaps_known:
                self.submits.append(one)
                # An id that was refused with certainty is as new as it was.
                if one.outcome != "fail":
                    perhaps_known.add(one.task)


class _Spell(NamedTuple):
    """A time with full disks: the fault, the moment of room again, and that of the next fault."""

    fault: Fault
    end: int
    until: float


class _Judge:
    """Judges one fault."""

    def __init__(
        self, evidence: Evidence, findings: Findings, calls: _Calls, spell: _Spell
    ) -> None:
        self._evidence = evidence
        self._findings = findings
        self._calls = calls
        self._fault, self._end, self._until = spell
        fault = self._fault
        self._name = (
            f"{fault.kind} at {evidence.second(fault.at)} ({fault.detail or list(fault.nodes)})"
        )

    def judge(self) -> None:
        """Count, and note what must not be."""
        counts, fault = self._findings.counts, self._fault
        submits = [one for one in self._calls.submits if fault.at <= one.at <= self._end]
        refused = [one for one in submits if one.code == CODE]
        counts[f"{fault.kind}: faults"] += 1
        counts[f"{fault.kind}: refused"] += len(refused)
        sure = fault.at + NOTICE_MS * _MS
        # That some are refused shows that it has been noticed, before it must have been.
        completed = self._completions(min((one.to or sure for one in refused), default=sure))
        counts[f"{fault.kind}: completed"] += completed
        leaders = self._leaders()
        if leaders and leaders <= set(fault.nodes):
            counts["faults judged"] += 1
            counts["completed meanwhile"] += completed
            # A submit that was still under way when room was made may be accepted.
            room = self._end - _FREEING_MS * _MS
            self._refusals(
                [one for one in submits if one.at >= sure and (one.to or self._end) < room]
            )
        self._again()

    def _completions(self, since: int) -> int:
        """Judge completions while a disk was full; return how many were accepted."""
        called = [one for one in self._calls.completions if since <= one.at <= self._end]
        accepted = sum(one.outcome == "ok" for one in called)
        tried = [one for one in called if one.code != "LEASE_LOST"]
        if len(tried) >= _SOME and not accepted:
            self._findings.violated(
                f"none of {len(tried)} completions was accepted during {self._name}, "
                f"for example {self._evidence.describe(tried[0])}"
            )
        return accepted

    def _refusals(self, submits: Sequence[Operation]) -> None:
        """Judge submits of new ids that were called when no leader had any room."""
        for one in submits:
            if one.outcome == "ok":
                told = self._evidence.describe(one)
                self._findings.violated(f"a new task was accepted during {self._name}: {told}")
        others = [one for one in submits if one.code != CODE]
        if len(submits) >= _MANY and len(others) * 2 >= len(submits):
            self._findings.violated(
                f"{len(others)} of {len(submits)} new tasks were not refused with {CODE} during "
                f"{self._name}, for example {self._evidence.describe(others[0])}"
            )

    def _again(self) -> None:
        """Judge how long after the end of the fault it took until a new task was accepted."""
        asked = [one for one in self._calls.submits if self._end < one.at < self._until]
        answers = [one.to for one in asked if one.outcome == "ok" and one.to is not None]
        bound_ms = float(self._evidence.settings.get("room_max_ms", AGAIN_MAX_MS))
        if answers:
            took_ms = -((self._end - min(answers)) // _MS)
            name = f"{self._fault.kind}: accepted again max_ms"
            self._findings.counts[name] = max(self._findings.counts[name], took_ms)
            if took_ms > bound_ms:
                self._findings.violated(
                    f"new tasks were accepted again {took_ms} ms after {self._name} was over, at "
                    f"{self._evidence.second(self._end)}; at most {bound_ms:.0f} ms are allowed"
                )
        elif len(asked) >= _MANY:
            self._findings.violated(
                f"none of {len(asked)} new tasks was accepted after {self._name} was over, for "
                f"example {self._evidence.describe(asked[-1])}"
            )

    def _leaders(self) -> set[int]:
        """Return the nodes that called themselves leader while it lasted."""
        return {
            one.node
            for one in self._evidence.samples
            if one.role == "leader" and self._fault.at <= one.at <= self._end
        }
