"""What nodes and clients must never say, whatever is done to them.

A call that is never answered for a bug's sake looks to its client like one whose answer got lost.
The log tells them apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

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
_HALT: Final = re.compile(r"node \d+ halts: DiskDamagedError\(")
_NODE: Final = re.compile(r"node-(\d+)\.log")
_LINE_MAX: Final = 300
_DAMAGING: Final = ("torn tail", "flip ", "damaged witness")
"""Kinds of faults begin with this that damage files."""


def damages(kind: str) -> bool:
    """Tell whether a kind of fault damages files of the nodes it hits."""
    return kind.startswith(_DAMAGING)


def damaged_nodes(faults_log: Path) -> set[int]:
    """Return the nodes whose files a fault of a run has damaged."""
    if not faults_log.exists():
        return set()
    told = [json.loads(line) for line in faults_log.read_text("utf-8").splitlines()]
    return {node for fault in told if damages(fault["kind"]) for node in fault["nodes"]}


def troubles(directory: Path, *, damaged: Collection[int] = ()) -> list[str]:
    """Return what the logs of a run hold that must never be there: a text for each log.

    Args:
        directory: Of the run.
        damaged: Nodes with files that a fault has damaged: these halt with a traceback, rightly.
    """
    found = []
    for path in sorted(directory.glob("*.log")):
        node = _NODE.fullmatch(path.name)
        excused = node is not None and int(node[1]) in damaged
        lines = list(_forbidden(path, excused=excused))
        if lines:
            more = f" (and {len(lines) - 1} lines more)" if len(lines) > 1 else ""
            found.append(f"{path.name}: {lines[0][:_LINE_MAX]}{more}")
    return found


def _forbidden(path: Path, *, excused: bool) -> Iterator[str]:
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if _FORBIDDEN.search(line) and not (excused and _HALT.search(line)):
                yield line.rstrip()
