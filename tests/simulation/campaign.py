"""Many seeds on several processes, and what they came to."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection, wait

from benchmarks.judging.calibration import LOOP_ITERATIONS, LOOP_REFERENCE_MS, time_loop
from tests.simulation.options import KINDS
from tests.simulation.play import Played, play, quiet
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
_SEEDS_PER_CALIBRATION = 10


def play_one(seed: int) -> Played:
    """Play a seed, and keep of it what the campaign asks for."""
    played = play(seed)
    if played.violation is None:
        played.faults = []
    return played


def _serve(line: Connection, others: Sequence[Connection]) -> None:
    """Play the seeds that come, in a process of its own, until nobody sends any more.

    Beside what came of each it tells how fast the machine is just then, every few seeds.
    """
    for other in others:
        other.close()  # only their owner is to hold them open: its end is the end of all
    gc.disable()
    with quiet(), contextlib.suppress(EOFError, KeyboardInterrupt):
        for number in itertools.count():
            played = play_one(line.recv())
            line.send((played, None if number % _SEEDS_PER_CALIBRATION else time_loop()[0]))


class _Lanes:
    """Processes side by side, each on one seed after the other.

    One at a time for each: a world of five nodes takes ten times as long as one of one node.
    """

    def __init__(self, count: int) -> None:
        self.loops_ms: list[float] = []
        """What a fixed piece of work took beside the seeds, see `benchmarks.judging`."""
        self._plays: dict[Connection, int] = {}
        """How many seeds each process has had."""
        self._processes: dict[Connection, Process] = {}
        for _ in range(count):
            self._begin()

    def played(self, seeds: Iterable[int]) -> Iterator[Played]:
        """Play seeds; what came of them comes as they end."""
        left = iter(seeds)
        busy = [line for line in self._plays if self._ask(line, left)]
        while busy:
            for line in wait(busy):
                assert isinstance(line, Connection)
                busy.remove(line)
                try:
                    played, loop_ms = line.recv()
                except EOFError:
                    raise RuntimeError("a process that plays seeds has died") from None
                if loop_ms is not None:
                    self.loops_ms.append(loop_ms)
                if self._plays[line] >= _SEEDS_PER_PROCESS:
                    self._close(line)
                    line = self._begin()  # noqa: PLW2901 - takes its place
                if self._ask(line, left):
                    busy.append(line)
                yield played

    def end(self) -> None:
        """End every process, whatever it is doing."""
        for process in self._processes.values():
            process.terminate()
        for line in list(self._processes):
            self._close(line)

    def _begin(self) -> Connection:
        ours, theirs = Pipe()
        process = Process(target=_serve, args=(theirs, [*self._processes, ours]))
        process.start()
        theirs.close()
        self._processes[ours], self._plays[ours] = process, 0
        return ours

    def _ask(self, line: Connection, left: Iterator[int]) -> bool:
        """Give a process its next seed; False when there is none."""
        seed = next(left, None)
        if seed is None:
            return False
        self._plays[line] += 1
        line.send(seed)
        return True

    def _close(self, line: Connection) -> None:
        del self._plays[line]
        line.close()
        self._processes.pop(line).join()


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
        self._loops_ms: list[float] = []
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
                    self._loops_ms.append(time_loop()[0])
            return
        lanes = _Lanes(self._processes)
        try:
            yield from lanes.played(seed for seed in self._seeds if not self._time_is_up())
        finally:
            lanes.end()
            self._loops_ms = lanes.loops_ms

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
        self._say_how_fast()
        say(
            f"operations acknowledged per seed: {sum(acknowledged) / len(acknowledged):.0f} on "
            f"average, {acknowledged[len(acknowledged) // 2]} median, "
            f"{sum(acknowledged) / max(self._seconds, 1):.1f} a second"
        )
        say(f"{len(self._failed)} violations, {self._unanswered} callers unanswered")

    def _say_how_fast(self) -> None:
        spent_s = time.monotonic() - self._began_s
        hours = self._seconds / 3600
        rate = hours / (spent_s / 60)
        say(
            f"{self._played} seeds, {hours:.2f} simulated cluster-hours in {spent_s:.0f} s: "
            f"{rate:.2f} per minute"
        )
        if self._loops_ms:
            loop_ms = statistics.median(self._loops_ms)
            say(
                f"{LOOP_ITERATIONS:,} turns of a loop took {loop_ms:.0f} ms here and "
                f"{LOOP_REFERENCE_MS:.0f} where the floor was set: "
                f"{rate * loop_ms / LOOP_REFERENCE_MS:.2f} per minute at that speed"
            )
        used_s = sum(
            used.ru_utime + used.ru_stime
            for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        )
        say(
            f"{self._processes} processes, {used_s:.0f} s of CPU time: "
            f"{used_s / (spent_s * self._processes):.0%} of what {self._processes} cores have"
        )


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
