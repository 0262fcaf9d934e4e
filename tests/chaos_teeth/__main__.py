"""Whether the chaos suite bites: nodes with a planted bug must turn it red, and sound ones not.

    python -m tests.chaos_teeth                     all bugs: `make chaos-teeth`
    python -m tests.chaos_teeth --only fencing      one of them

Each bug is put into every node of a real cluster, and `python -m chaos` plays the scenario that
can see it, with one seed after the other, until it is red. Then the same is played with the seed
that found it and without the bug: that must be green. Exit status 1 when a bug is not found
within five minutes, or when the suite is red without it.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from deploy.local.processes import ChildProcess
from tests.chaos_teeth.plants import PLANTS, Plant

ROOT: Final = Path(__file__).resolve().parents[2]
BUDGET_S: Final = 300.0
"""A bug is found within this, or it is not found."""
RATE: Final = 60
_RUN_MAX_S: Final = 420.0
_STOP_S: Final = 60.0
_GREEN: Final = 0
_RED: Final = 1
_CRASH: Final = "the client process"


class Run(NamedTuple):
    """One run of the suite.

    Attributes:
        code: Its exit code.
        seed: Its seed.
        seconds: How long it took, with the judgement.
        checkers: Whose promises were broken.
        noticed: The first thing that was, in a line.
        crash: How the suite's own clients ended; "" as it should be.
        log: What it printed.
    """

    code: int
    seed: int
    seconds: float
    checkers: tuple[str, ...]
    noticed: str
    crash: str
    log: Path


class Bite(NamedTuple):
    """What became of one bug.

    Attributes:
        plant: The bug.
        runs: How many were played.
        seconds: How long they took.
        found: The red one; None if there was none.
        trouble: Why none could be, or what the suite says without the bug; "" if all is well.
    """

    plant: Plant
    runs: int
    seconds: float
    found: Run | None
    trouble: str


def play(plant: Plant, seed: int, place: Path, *, planted: bool) -> Run:
    """Run the suite once, in a folder of its own."""
    place.mkdir(parents=True)
    words = [sys.executable, "-m", "chaos", "--out", str(place), "--seed", str(seed)]
    words += ["--scenario", plant.scenario, "--minutes", str(plant.seconds / 60)]
    words += ["--rate", str(RATE)]
    if planted:
        node = [sys.executable, "-m", "tests.chaos_teeth.planted_node", plant.name]
        words += ["--node-command", shlex.join(node)]
    log = place / "harness.log"
    suite = ChildProcess(words, log_path=log, directory=ROOT)
    began_s = time.monotonic()
    suite.start()
    try:
        code = suite.wait(timeout_s=_RUN_MAX_S)
    except subprocess.TimeoutExpired:
        code = suite.stop(timeout_s=_STOP_S)
    finally:
        if suite.running:
            suite.stop(timeout_s=_STOP_S)
    return Run(code, seed, time.monotonic() - began_s, *told(place), log)


def told(place: Path) -> tuple[tuple[str, ...], str, str]:
    """Return which checkers of a run are red, the first violation, and how its clients crashed."""
    checkers: list[str] = []
    noticed: list[str] = []
    crashes: list[str] = []
    for path in place.glob("*/verdicts.json"):
        broken = [one for one in json.loads(path.read_bytes()) if not one["ok"]]
        checkers += [one["name"] for one in broken]
        noticed += [text for one in broken for text in one["violations"]]
    for path in place.glob("*/run.json"):
        run: dict[str, Any] = json.loads(path.read_bytes())
        troubles = run["troubles"]
        noticed += troubles
        checkers += ["trouble"] if troubles else []
        crashes += [text for text in troubles if text.startswith(_CRASH)]
    return tuple(checkers), in_a_line(noticed), in_a_line(crashes)


def in_a_line(texts: Iterable[str]) -> str:
    """Return the beginning of the first one."""
    first = next(iter(texts), "")
    return (first.splitlines() or [""])[0][:120]


def bite(plant: Plant, place: Path, *, first: int, control: bool, budget_s: float) -> Bite:
    """Look for one bug, run by run."""
    began_s = time.monotonic()
    seed, left_s = first, budget_s
    while left_s > 0:
        run = play(plant, seed, place / f"{plant.name}-{seed}", planted=True)
        seconds, runs = time.monotonic() - began_s, seed - first + 1
        if run.code not in {_GREEN, _RED} or run.crash:
            why = run.crash or f"exit code {run.code}"
            return Bite(plant, runs, seconds, None, f"{why} ({run.log})")
        # Red for another reason may be chance: whoever guards this promise has to see it.
        if plant.checker in run.checkers:
            if seconds > budget_s:
                break
            trouble = _control(plant, seed, place) if control else ""
            return Bite(plant, runs, seconds, run, trouble)
        seed, left_s = seed + 1, budget_s - seconds
    return Bite(plant, seed - first, time.monotonic() - began_s, None, "NOT FOUND")


def _control(plant: Plant, seed: int, place: Path) -> str:
    """Play what has found a bug without it; return what is wrong, "" as it should be."""
    run = play(plant, seed, place / f"{plant.name}-{seed}-sound", planted=False)
    if run.code == _GREEN:
        return ""
    return f"exit code {run.code} WITHOUT THE BUG: {run.noticed} ({run.log})"


def show(one: Bite) -> str:
    """Return one line of the table."""
    plant, red = one.plant, one.found
    head = f"{plant.name:<12} {plant.scenario:<13} {one.runs:>4} {one.seconds:>8.0f}  "
    if red is None:
        return head + one.trouble
    found_by = ", ".join(red.checkers)
    lines = [f"{head}{found_by}", f"    {plant.about}; for example: {red.noticed}"]
    return "\n".join([*lines, f"    {one.trouble}"] if one.trouble else lines)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Look for all bugs, or for those that are named; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos_teeth")
    parser.add_argument("--only", action="append", choices=list(PLANTS), help="may be repeated")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--no-control", action="store_true", help="do not play sound nodes")
    parser.add_argument("--out", type=Path, help="folder of all runs; a temporary one if not given")
    chosen = parser.parse_args(arguments)
    names = chosen.only or list(PLANTS)
    with tempfile.TemporaryDirectory(prefix="tq-teeth-") as temporary:
        place = (chosen.out or Path(temporary)).resolve()
        _say(f"{'bug':<12} {'scenario':<13} {'runs':>4} {'s to red':>8}  found by")
        bad: list[str] = []
        for name in names:
            one = bite(
                PLANTS[name],
                place,
                first=chosen.first,
                control=not chosen.no_control,
                budget_s=BUDGET_S,
            )
            _say(show(one))
            if one.found is None or one.trouble:
                bad.append(name)
    sound = "sound nodes were not played" if chosen.no_control else "and nothing without them"
    _say(f"{len(names)} bugs, {len(names) - len(bad)} found, {sound}")
    if bad:
        _say(f"not so: {', '.join(bad)}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
