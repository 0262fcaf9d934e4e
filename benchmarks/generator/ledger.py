"""What is counted while a load runs, and the processor time beside it."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from benchmarks.generator.order import Seen
from benchmarks.generator.pulse import now_s
from benchmarks.judging.quantiles import quantile

_QUANTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}


def cpu_s(pid: int) -> float:
    """Return the processor time of all threads of a process, to the nanosecond."""
    tasks = Path(f"/proc/{pid}/task")
    return sum(int((one / "schedstat").read_text().split()[0]) for one in tasks.iterdir()) / 1e9


class Ledger:
    """Counts tasks and latencies between `begin` and `end`, and tasks over the whole run.

    Args:
        pids: See `Order.pids`.
    """

    def __init__(self, pids: tuple[int, ...]) -> None:
        self._pids = pids
        self.done = 0
        self.latencies_s: list[float] = []
        self.refused: Counter[str] = Counter()
        self._began_s = 0.0
        self._done_before = 0
        self._cpu_before: list[float] = []
        self._measured: tuple[int, float, list[float], list[float]] | None = None

    def refuse(self, answer: list[object]) -> None:
        """Note an answer that is no ACK."""
        self.refused[" ".join(str(word)[:80] for word in answer[1:3])] += 1

    def begin(self) -> None:
        """Start the measured part: latencies so far are forgotten."""
        self.latencies_s.clear()
        self._done_before = self.done
        self._cpu_before = self._cpu()
        self._began_s = now_s()

    def end(self) -> None:
        """End the measured part."""
        seconds = now_s() - self._began_s
        spent = [b - a for a, b in zip(self._cpu_before, self._cpu(), strict=True)]
        self._measured = (self.done - self._done_before, seconds, spent, self.latencies_s.copy())

    def seen(self) -> Seen:
        """Sum up."""
        assert self._measured is not None, "begin and end come first"
        done, seconds, spent, latencies_s = self._measured
        return Seen(
            done=done,
            seconds=seconds,
            done_in_all=self.done,
            latency_ms={
                name: quantile(latencies_s, percent) * 1000 if latencies_s else 0.0
                for name, percent in _QUANTILES.items()
            },
            cpu_s=spent,
            refused=dict(self.refused),
        )

    def _cpu(self) -> list[float]:
        return [*(cpu_s(pid) for pid in self._pids), time.process_time()]
