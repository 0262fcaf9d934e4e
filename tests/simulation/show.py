"""One seed, shown: its options, its faults, how it ended, and what it takes to fail."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tests.simulation.faults import Fault
from tests.simulation.minimise import minimise
from tests.simulation.options import CHAOS_S, Options
from tests.simulation.play import Played, play

PLAYS_MAX = 200
"""Plays that minimising one seed may take."""

_LINES = 60
_LATER_S = 3.0


def say(text: str) -> None:
    """Write a line to standard output at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def replay_command(seed: int, faults: Sequence[Fault] | None = None) -> str:
    """What plays a seed again, with all of its faults or some."""
    command = f"make sim SEED={seed}"
    if faults is not None:
        command = f"python -m tests.simulation --seed {seed} --faults "
        command += ",".join(str(fault.number) for fault in faults) or ","
    return command


def show_one(seed: int, numbers: Sequence[int] | None = None) -> int:
    """Play one seed, print what there is to know, minimise it if it fails.

    Args:
        seed: Which.
        numbers: Faults to inject, of those the seed draws; all of them unless given.
    """
    say(f"{Options.drawn(seed)}")
    played = play(seed, detail=True)
    if numbers is not None:
        chosen = [fault for fault in played.faults if fault.number in set(numbers)]
        played = play(seed, schedule=chosen, detail=True)
    _show(played)
    if played.violation is None:
        return 0
    if numbers is None:
        show_minimised(played)
    return 1


def _show(played: Played) -> None:
    for line in played.recent[-_LINES:]:
        say(line)
    say("faults:")
    for fault in played.faults:
        say(fault.describe())
    say(
        f"seed {played.seed}: {played.seconds:.1f} s, {played.acknowledged} operations "
        f"acknowledged, digest {played.digest}"
    )
    for name, count in sorted(played.sometimes.items()):
        say(f"{count:8} {name}")
    say(f"seed {played.seed}: {played.violation or 'nothing that must hold was broken'}")


def show_minimised(played: Played, *, plays_max: int = PLAYS_MAX) -> None:
    """Print the faults it takes to fail in the same way."""
    sort = sort_of(played.violation or "")
    # What fails among faults fails about then, if at all: nothing after it is played.
    chaos_s = min(CHAOS_S, played.seconds + _LATER_S) if played.in_chaos else CHAOS_S

    def fails(schedule: Sequence[Fault]) -> bool:
        again = play(played.seed, schedule=schedule, chaos_s=chaos_s, chaos_only=played.in_chaos)
        return again.violation is not None and sort_of(again.violation) == sort

    say(f"minimising {len(played.faults)} faults of seed {played.seed} ...")
    kept = minimise(played.faults, fails, plays_max=plays_max)
    say(f"{len(kept)} faults are enough:")
    for fault in kept:
        say(fault.describe())
    say(f"replay: {replay_command(played.seed, kept)}")


def sort_of(violation: str) -> str:
    """What kind of violation it is: its text up to the first number."""
    head = violation.strip().splitlines()[-1] if "Traceback" in violation else violation
    letters = [sign for sign in head.partition(":")[0] if not sign.isdigit()]
    return "".join(letters)[:40]
