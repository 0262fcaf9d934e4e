"""Whether the simulation bites: every planted bug is found, and the product is not.

    python -m tests.simulation.teeth                all of them: `make sim-teeth`
    python -m tests.simulation.teeth StockTruncation -v

Each bug is played over seeds until something that must hold does not; the very same seed
without the bug must pass. Exit status 1 when a bug stays hidden.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Final, NamedTuple

from tests.simulation.partitions import SHAPES, judge, part
from tests.simulation.plants.catalogue import PLANTS
from tests.simulation.plants.plant import Plant
from tests.simulation.play import play
from tests.simulation.world import Parts

SEEDS_MAX: Final = 100
BUDGET_S: Final = 240.0
"""CPU seconds for one bug."""
PARTED_S: Final = 15.0
"""Simulated seconds of a partition."""

_BY_NAME: Final = {plant.name: plant for plant in PLANTS}


class Bite(NamedTuple):
    """What became of one bug.

    Attributes:
        name: Of the bug.
        seed: Which found it, 0 if none.
        seeds: How many were played.
        noticed: What did not hold, in a line.
        control: What did not hold without the bug, "" as it should be.
        cpu_s: What it took.
    """

    name: str
    seed: int
    seeds: int
    noticed: str
    control: str
    cpu_s: float

    @property
    def found(self) -> bool:
        """The bug, and nothing else."""
        return bool(self.seed) and not self.control


def without(plant: Plant, seed: int) -> str | None:
    """Play a seed with the options of a bug and without the bug."""
    return _play(plant, seed, plant.control)


def with_it(plant: Plant, seed: int) -> str | None:
    """Play a seed with the bug."""
    with plant.planted():
        return _play(plant, seed, plant.parts)


def _play(plant: Plant, seed: int, parts: Parts) -> str | None:
    """What was noticed, None if nothing."""
    if plant.shape:
        shape = next(shape for shape in SHAPES if shape.name == plant.shape)
        return judge(shape, [part(shape, seed, parts=parts, parted_s=PARTED_S)], late=False)
    options = plant.narrowed(seed)
    return play(seed, options, parts=parts, chaos_s=plant.chaos_s).violation


def bite(name: str, first: int = 1, seeds_max: int = SEEDS_MAX, budget_s: float = BUDGET_S) -> Bite:
    """Look for one bug, seed by seed."""
    plant, began = _BY_NAME[name], time.process_time()
    seeds = 0
    for seed in range(first, first + seeds_max):
        seeds += 1
        noticed = with_it(plant, seed)
        if noticed is not None:
            control = without(plant, seed)
            if control is None:
                spent = time.process_time() - began
                return Bite(name, seed, seeds, in_a_line(noticed), "", spent)
            return Bite(name, seed, seeds, in_a_line(noticed), in_a_line(control), 0.0)
        if time.process_time() - began > budget_s:
            break
    return Bite(name, 0, seeds, "", "", time.process_time() - began)


def in_a_line(text: str) -> str:
    """The first line, or the last of a traceback."""
    lines = text.strip().splitlines() or [""]
    return (lines[-1] if lines[0].startswith("Traceback") else lines[0])[:110]


def _all(names: list[str], first: int, processes: int) -> Iterator[Bite]:
    with ProcessPoolExecutor(processes) as pool:
        for done in as_completed([pool.submit(bite, name, first) for name in names]):
            yield done.result()


def show(one: Bite) -> str:
    """One line of the table."""
    plant = _BY_NAME[one.name]
    seeds = f"{one.seeds:4}" if one.seed else f">{one.seeds:3}"
    said = one.noticed or "NOT FOUND"
    if one.control:
        said = f"SEED {one.seed} FAILS WITHOUT IT: {one.control}"
    return f"{one.name:<28} {plant.breaks:<14} {seeds} {one.cpu_s:7.1f}  {said}"


def main(arguments: list[str] | None = None) -> int:
    """Look for all bugs, or for those that are named."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.teeth")
    parser.add_argument("names", nargs="*", choices=[[], *_BY_NAME], help="all unless named")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args(arguments)
    names, began = chosen.names or list(_BY_NAME), time.monotonic()
    sys.stdout.write(f"{'bug':<28} {'breaks':<14} {'seeds':>4} {'CPU s':>7}  noticed by\n")
    hidden = []
    for one in _all(names, chosen.first, chosen.processes):
        sys.stdout.write(show(one) + "\n")
        sys.stdout.flush()
        if not one.found:
            hidden.append(one.name)
    took_s = time.monotonic() - began
    sys.stdout.write(f"{len(names)} bugs, {len(names) - len(hidden)} found, {took_s:.0f} s\n")
    if hidden:
        sys.stdout.write(f"not found: {', '.join(sorted(hidden))}\n")
    return 1 if hidden else 0


if __name__ == "__main__":
    sys.exit(main())
