"""Nodes that have applied the same entries have the same state (S7).

Compared are what the nodes export when all work is done: digests of the same index, tasks
at the same applied index, log entries of the same index. Tasks that have ended are compared
whatever the applied index, for they do not change any more.

Agreement takes something to compare: the states of all nodes, or of `exports_min` if that is
given, and never less than a majority, have been held against each other, each against some other,
by digests of one entry or by tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

from chaos.evidence import TERMINAL, Evidence, Export
from chaos.verdict import Findings, Verdict


def check(evidence: Evidence) -> Verdict:
    """Judge a run."""
    findings = Findings("agreement")
    exports = evidence.exports
    findings.counts["nodes"] = len(exports)
    needed = _needed(evidence)
    if len(exports) < needed:
        findings.violated(f"{len(exports)} nodes have exported their state; {needed} are needed")
    groups = {export.node: {export.node} for export in exports}
    for one, other in combinations(exports, 2):
        _logs(findings, one, other)
        by_digest, by_tasks = _digests(findings, one, other), _tasks(findings, one, other)
        if by_digest or by_tasks:
            together = groups[one.node] | groups[other.node]
            groups |= dict.fromkeys(together, together)
    compared = max(map(len, groups.values()), default=0)
    findings.counts["nodes compared"] = compared
    findings.counts["nodes needed"] = needed
    if compared < needed <= len(exports):
        told = ", ".join(f"{one.node} at entry {one.digest_index}" for one in exports)
        findings.violated(
            f"the states of {compared} nodes can be compared, and {needed} are needed: the nodes "
            f"told digests ({told}), and tasks that are in both of two states, of too few"
        )
    return findings.verdict()


def _needed(evidence: Evidence) -> int:
    """Return of how many nodes the states must have been compared."""
    nodes = evidence.nodes
    majority = nodes // 2 + 1 if nodes else 0
    return max(int(evidence.settings.get("exports_min", nodes)), majority)


def _digests(findings: Findings, one: Export, other: Export) -> bool:
    """Compare digests; tell whether they are of one entry."""
    if one.digest_index != other.digest_index:
        return False
    findings.counts["digests compared"] += 1
    if one.digest != other.digest:
        findings.violated(
            f"nodes {one.node} and {other.node} differ at entry {one.digest_index}: their digests "
            f"are {one.digest} and {other.digest}"
        )
    return True


def _logs(findings: Findings, one: Export, other: Export) -> None:
    shared = sorted(one.log.keys() & other.log.keys())
    applied = min(one.applied, other.applied)
    for index in shared:
        # What is not applied is not agreed on yet.
        if index > applied:
            break
        findings.counts["log entries compared"] += 1
        if one.log[index] != other.log[index]:
            (term, crc), (other_term, other_crc) = one.log[index], other.log[index]
            findings.violated(
                f"the logs of nodes {one.node} and {other.node} differ at entry {index}: term "
                f"{term} with CRC {crc}, and term {other_term} with CRC {other_crc}"
            )
            return


def _tasks(findings: Findings, one: Export, other: Export) -> bool:
    """Compare tasks; tell whether there were any to compare."""
    if not (one.whole and other.whole):
        return False
    before = findings.counts["tasks compared"]
    older, newer = (one, other) if one.applied <= other.applied else (other, one)
    level = older.applied == newer.applied
    where = f"nodes {older.node} and {newer.node} (applied {older.applied} and {newer.applied})"
    for task, fields in older.tasks.items():
        ended = fields["state"] in TERMINAL
        if not level and not ended:
            continue
        findings.counts["tasks compared"] += 1
        others = newer.tasks.get(task)
        if others is None:
            findings.violated(f"task {task} is missing on node {newer.node}: {where}")
        elif fields is not others and fields != others:
            findings.violated(
                f"task {task} differs between {where}: {_differences(fields, others)}"
            )
    if level:
        for task in newer.tasks.keys() - older.tasks.keys():
            findings.violated(f"task {task} is missing on node {older.node}: {where}")
    return level or findings.counts["tasks compared"] > before


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    names = [name for name in one.keys() | other.keys() if one.get(name) != other.get(name)]
    return ", ".join(f"{name} {one.get(name)!r} and {other.get(name)!r}" for name in sorted(names))
