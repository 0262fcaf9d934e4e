"""Judge what a run has left behind: `python -m chaos.check DIR`.

Reads the folder of a run, asks every checker, writes `verdicts.json` next to it and prints a
table and what went wrong besides. Exit code 0: all promises were kept; 1: some were not, or the run
did not go as it should or did not end; 2: the folder cannot be read.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from chaos.checkers import CHECKERS
from chaos.evidence import Evidence, run_folder, unreadable
from chaos.history import RecordError
from chaos.least import demand
from chaos.verdict import Verdict
from chaos.workload.recorder import merge

VERDICTS: Final = "verdicts.json"


def judge(evidence: Evidence, names: Iterable[str] = tuple(CHECKERS)) -> list[Verdict]:
    """Ask checkers, all of them unless named; in a long run they must have had something to see."""
    # The history is many small objects that all stay; looking through them again and again
    # for garbage doubles the time.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        verdicts = [CHECKERS[name](evidence) for name in names]
    finally:
        if was_enabled:
            gc.enable()
    for verdict in verdicts:
        demand(evidence, verdict)
    return verdicts


def write_verdicts(path: Path, verdicts: Sequence[Verdict]) -> None:
    """Write verdicts as JSON."""
    told = [asdict(verdict) for verdict in verdicts]
    path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def table(verdicts: Sequence[Verdict]) -> str:
    """Return verdicts for people, with every violation that is told."""
    lines: list[str] = []
    for verdict in verdicts:
        mark = "kept    " if verdict.ok else "VIOLATED"
        counts = ", ".join(f"{count} {name}" for name, count in verdict.counts.items())
        lines.append(f"{verdict.name:<13} {mark} {verdict.seconds:7.2f} s  {counts}")
        lines += [f"  - {violation}" for violation in verdict.violations]
    return "\n".join(lines)


def complete(directory: Path) -> None:
    """Make the history of a run whose harness was killed before it did.

    Raises:
        RecordError: It is not the folder of a run, or what its clients left is no journal.
    """
    run_folder(directory)
    history, journals = directory / "history.jsonl", sorted(directory.glob("journal-*.jsonl"))
    if history.exists():
        return
    if not journals:
        raise RecordError(
            f"{directory} has neither history.jsonl nor journal-*.jsonl: the run ended before "
            "its first client called, and there is nothing to judge"
        )
    merge(journals, history)


def troubles(directory: Path) -> list[str]:
    """Return what a run noted that did not go as it should, and that it did not end; for people."""
    told = json.loads((directory / "run.json").read_bytes())
    found = [str(trouble) for trouble in told.get("troubles") or ()]
    if told.get("ended_ns") is None:
        found.append("the run did not come to its end: its record stops somewhere")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m chaos.check", description=__doc__)
    parser.add_argument("directory", type=Path, help="folder of a run")
    parser.add_argument(
        "--only",
        action="append",
        choices=list(CHECKERS),
        help="ask this checker alone, and leave verdicts.json as it is; may be repeated",
    )
    options = parser.parse_args(arguments)
    try:
        complete(options.directory)
        evidence = Evidence.from_directory(options.directory)
    except (OSError, RecordError) as error:
        why = unreadable(error) if isinstance(error, OSError) else error
        print(f"error: {why}", file=sys.stderr)
        return 2
    verdicts = judge(evidence, options.only or CHECKERS)
    if options.only is None:
        write_verdicts(options.directory / VERDICTS, verdicts)
    print(table(verdicts))
    wrong = troubles(options.directory)
    for trouble in wrong:
        print(f"trouble: {trouble}")
    return 0 if all(verdict.ok for verdict in verdicts) and not wrong else 1


if __name__ == "__main__":
    sys.exit(main())
