"""Many seeds on several processes, and what they came to."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice

from tests.simulation.options import KINDS
from tests.simulation.play import Played, play
from tests.simulation.show import replay_command, say, show_minimised
from tests.simulation.sometimes import MUST_REACH

SOMETIMES_SEEDS = 300
"""From so many seeds on, every interesting state must have been reached."""

_SHOWN_MAX = 10
_MINIMISED_MAX = 3
_PLAYS_MAX = 60
_SEEDS_PER_PROCESS = 40
"""A process ends after about so many. What worlds leave behind goes with it, some 5 MB for each:
to look for it costs 7 % of the time."""


def play_one(seed: int) -> Played:
    """Play a seed, and keep of it what the campaign asks for."""
    played = play(seed)
    if played.violation is None:
        played.faults = []
    return played


class Campaign:
    """Seeds from a base on.

    Args:
        base: The first seed.
        seeds: How many.
        processes: At once.
        budget_s: Begin none after so many seconds of real time.
    """

    def __init__(
        self, base: int, seeds: int, *, processes: int, budget_s: float | None = None
    ) -> None:
        self._seeds = range(base, base + seeds)
        self._processes = processes
        self._budget_s = budget_s
        self._began_s = time.monotonic()
        self._failed: list[Played] = []
        self._played = 0
        self._seconds = 0.0
        self._unanswered = 0
        self._acknowledged: list[int] = []
        self._sometimes: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._answers: Counter[str] = Counter()

    def run(self) -> int:
        """Play all, print the summary; 1 when anything failed."""
        for played in self._results():
            self._take(played)
        self._summary()
        missing = self._missing()
        if missing:
            say(f"never reached: {', '.join(missing)}: the simulation has gone blunt")
        for played in sorted(self._failed, key=lambda one: one.seed)[:_MINIMISED_MAX]:
            show_minimised(played, plays_max=_PLAYS_MAX)
        return 1 if self._failed or missing or self._unanswered else 0

    def _results(self) -> Iterator[Played]:
        if self._processes == 1:
            for seed in self._seeds:
                if not self._time_is_up():
                    yield play_one(seed)
                    gc.collect()
            return
        seeds = iter(self._seeds)
        while batch := list(islice(seeds, _SEEDS_PER_PROCESS * self._processes)):
            yield from self._results_of(batch)

    def _results_of(self, batch: list[int]) -> Iterator[Played]:
        # One at a time: a world of five nodes takes ten times as long as one of one node.
        left = batch[::-1]
        running: set[Future[Played]] = set()
        with ProcessPoolExecutor(self._processes, initializer=gc.disable) as pool:
            while left or running:
                while left and len(running) < 2 * self._processes and not self._time_is_up():
                    running.add(pool.submit(play_one, left.pop()))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
                if self._time_is_up():
                    left.clear()

    def _time_is_up(self) -> bool:
        spent_s = time.monotonic() - self._began_s
        return self._budget_s is not None and spent_s > self._budget_s

    def _take(self, played: Played) -> None:
        self._played += 1
        self._seconds += played.seconds
        self._unanswered += played.unanswered
        self._acknowledged.append(played.acknowledged)
        self._sometimes.update(played.sometimes)
        self._faults.update(played.injected)
        self._answers.update(played.answers)
        if played.violation is not None:
            self._failed.append(played)
            if len(self._failed) <= _SHOWN_MAX:
                say(f"seed {played.seed} at {played.seconds:.3f} s: {played.violation}")
                say(f"replay: {replay_command(played.seed)}")

    def _missing(self) -> list[str]:
        if self._played < SOMETIMES_SEEDS:
            return []
        missing = [name for name in MUST_REACH if not self._sometimes[name]]
        return missing + [f"fault {kind}" for kind in KINDS if not self._faults[kind]]

    def _summary(self) -> None:
        spent_s = time.monotonic() - self._began_s
        hours = self._seconds / 3600
        acknowledged = sorted(self._acknowledged) or [0]
        say("")
        for title, counts in (
            ("operations and how they ended", self._answers),
            ("faults", self._faults),
            ("reached", self._sometimes + Counter(dict.fromkeys(MUST_REACH, 0))),
        ):
            say(f"{title}:")
            for name in sorted({*counts, *(MUST_REACH if title == "reached" else ())}):
                say(f"{counts[name]:10} {name}")
        say("")
        say(
            f"{self._played} seeds, {hours:.2f} simulated cluster-hours in {spent_s:.0f} s: "
            f"{hours / (spent_s / 60):.2f} per minute"
        )
        say(
            f"operations acknowledged per seed: {sum(acknowledged) / len(acknowledged):.0f} on "
            f"average, {acknowledged[len(acknowledged) // 2]} median, "
            f"{sum(acknowledged) / max(self._seconds, 1):.1f} a second"
        )
        say(f"{len(self._failed)} violations, {self._unanswered} callers unanswered")


def determinism(seeds: Sequence[int], *, processes: int) -> int:
    """Play each seed in two processes with different hash seeds; 1 when any two differ."""
    digests: list[dict[str, str]] = []
    listed = ",".join(map(str, seeds))
    for hash_seeds in _chunks(["1", "4242"], processes):
        running = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.simulation", "--digest", listed],
                env={**os.environ, "PYTHONHASHSEED": hash_seed},
                stdout=subprocess.PIPE,
                text=True,
            )
            for hash_seed in hash_seeds
        ]
        for process in running:
            output, _ = process.communicate()
            if process.returncode:
                say(f"a process ended with {process.returncode}")
                return 1
            digests.append(dict(line.split() for line in output.splitlines()))
    differ = [seed for seed in digests[0] if digests[0][seed] != digests[1].get(seed)]
    for seed, digest in digests[0].items():
        say(f"{seed} {digest} {digests[1].get(seed)}{' DIFFER' if seed in differ else ''}")
    say(f"{len(digests[0])} seeds, {len(differ)} differ")
    return 1 if differ or len(digests[0]) != len(seeds) else 0


def _chunks(items: list[str], size: int) -> list[list[str]]:
    return [items[at : at + size] for at in range(0, len(items), max(1, size))]
