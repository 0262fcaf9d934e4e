"""Play seeds of the simulation: `python -m tests.simulation --seeds 1000` or `--seed 17`.

Exit status 1 when a seed fails. One seed alone also prints the end of its history and the
hash of all of it, which is the same for the same seed on every machine.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.checks import Violation
from tests.simulation.world import Options, World, play


def say(text: str) -> None:
    """Write a line to standard output at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def play_one(seed: int) -> tuple[int, str | None, dict[str, int]]:
    """Seed, what went wrong if anything, and the states reached."""
    logging.disable(logging.CRITICAL)
    try:
        world = play(seed)
    except Violation as violation:
        return seed, str(violation), {}
    return seed, None, dict(world.reached + world.checks.answers)


def show_one(seed: int) -> int:
    """Play one seed and print its options, how it ended and its hash."""
    world = World(seed)
    say(repr(Options.drawn(seed)))
    try:
        world.run()
    except Violation as violation:
        say("\n".join(world.recent))
        say(f"seed {seed}: {violation}")
        return 1
    finally:
        say(f"seed {seed} hash {world.trace_hash}")
    say(repr(dict(world.reached + world.checks.answers)))
    return 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=50, help="how many seeds")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--seed", type=int, help="play this one alone, and show it")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args(arguments)
    if chosen.seed is not None:
        return show_one(chosen.seed)
    started, failures = time.monotonic(), 0
    reached: Counter[str] = Counter()
    with ProcessPoolExecutor(chosen.processes) as pool:
        seeds = range(chosen.first, chosen.first + chosen.seeds)
        for _, failure, states in pool.map(play_one, seeds, chunksize=4):
            reached.update(states)
            if failure is not None:
                failures += 1
                say(failure)
    for state, count in sorted(reached.items()):
        say(f"{count:8} {state}")
    say(f"{chosen.seeds} seeds, {failures} failed, {time.monotonic() - started:.0f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
