"""What nodes and clients must never say, whatever is done to them.

A call that is never answered for a bug's sake looks to its client like one whose answer got lost.
The log tells them apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias

_FORBIDDEN: Final = re.compile(
    r"""
    Traceback\ \(most\ recent\ call\ last\)
    | could\ not\ be\ answered
    | (?:was|were)\ never\ (?:retrieved|awaited)
    | Exception\ in\ callback | Exception\ ignored\ in
    | Fatal\ Python\ error | node_crashed
    """,
    re.VERBOSE,
)
_HALT: Final = re.compile(r"node \d+ halts: (\w+)\(")
_DAMAGED: Final = "is damaged: "
"""Damage that a compaction meets shows in the write after it, which fails."""
_NODE: Final = re.compile(r"node-(\d+)\.log")
_LINE_MAX: Final = 300
_DAMAGING: Final = ("torn tail", "flip ", "damaged witness")
"""Kinds of faults begin with this that damage files."""
_FAILING: Final = "fsync error"
"""This kind fails whatever syncs next: a thread of the node, or a write in the middle of a step."""

Excuses: TypeAlias = Mapping[int, Collection[str]]
"""Node -> names of the errors that it may halt for."""


def damages(kind: str) -> bool:
    """Tell whether a kind of fault damages files of the nodes it hits."""
    return kind.startswith(_DAMAGING)


def excuses(faults_log: Path) -> dict[int, set[str]]:
    """Return what the nodes of a run may halt for, with a traceback: its faults have done it."""
    found: dict[int, set[str]] = {}
    if not faults_log.exists():
        return found
    for line in faults_log.read_text("utf-8").splitlines():
        fault = json.loads(line)
        kind = fault["kind"]
        name = "DiskDamagedError" if damages(kind) else "DiskFailedError" * (kind == _FAILING)
        for node in fault["nodes"] if name else ():
            found.setdefault(node, set()).add(name)
    return found


def troubles(directory: Path, *, excused: Excuses = MappingProxyType({})) -> list[str]:
    """Return what the logs of a run hold that must never be there: a text for each log.

    Args:
        directory: Of the run.
        excused: What nodes may halt for.
    """
    found = []
    for path in sorted(directory.glob("*.log")):
        node = _NODE.fullmatch(path.name)
        may_halt_for = excused.get(int(node[1]), ()) if node is not None else ()
        lines = list(_forbidden(path, may_halt_for))
        if lines:
            more = f" (and {len(lines) - 1} lines more)" if len(lines) > 1 else ""
            found.append(f"{path.name}: {lines[0][:_LINE_MAX]}{more}")
    return found


def _forbidden(path: Path, may_halt_for: Collection[str]) -> Iterator[str]:
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if _FORBIDDEN.search(line) and _halted_for(line) not in may_halt_for:
                yield line.rstrip()


def _halted_for(line: str) -> str:
    """Return the name of the error that a node halts for in this line, "" if it does not."""
    halt = _HALT.search(line)
    if halt is None:
        return ""
    return "DiskDamagedError" if _DAMAGED in line else halt[1]
