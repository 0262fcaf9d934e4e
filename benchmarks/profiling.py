"""Where a leader and a follower spend their time under load, by function.

    python -m benchmarks.profiling [--load submits|lifecycle] [--top 15]

Nodes run under cProfile, which slows Python functions down and C functions hardly, and so
overstates small functions: read the order, not the microseconds. Only the event loop's thread is
seen. The loop itself is left out: most of it is waiting, and its system calls cannot be told from
that. Profiles begin when the cluster is ready. Give it a quiet machine: the clock is the wall's.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import signal
import sys
from pathlib import Path
from typing import Any, Final

from benchmarks.stage import Effort, Stage, fresh

_DIRECTORY: Final = "BENCHMARK_PROFILES"
_LOOP: Final = "asyncio/runners.py"
"""Whose frame the loop's own time falls to, since uvloop has none."""


def run_node() -> None:
    """Be a node, and leave a profile when it ends."""
    from node.entry import main as node  # noqa: PLC0415 - only in the process that is one

    profile = cProfile.Profile()
    signal.signal(signal.SIGUSR1, lambda *_: profile.enable())
    signal.signal(signal.SIGUSR2, lambda *_: profile.disable())
    try:
        node()
    finally:
        profile.disable()
        profile.dump_stats(Path(os.environ[_DIRECTORY]) / f"{os.getpid()}.prof")


def top(path: Path, count: int) -> list[str]:
    """Return the functions with the most time of their own, a line each."""
    stats: Any = pstats.Stats(str(path))
    rows = []
    for (file, line, name), (_, calls, own_s, total_s, _) in stats.stats.items():
        if not file.endswith(_LOOP):
            rows.append((own_s, calls, total_s, f"{'/'.join(Path(file).parts[-2:])}:{line} {name}"))
    rows.sort(reverse=True)
    all_s = sum(row[0] for row in rows)
    return [
        f"{own_s / all_s:6.1%} {own_s:7.2f} s {calls:>10,} {total_s:7.2f} s  {where}"
        for own_s, calls, total_s, where in rows[:count]
    ]


def _load(stage: Stage, kind: str, seconds: float) -> None:
    order = stage.order(kind, Effort(seconds=seconds), window=256)
    seen = stage.run(order)
    print(f"{kind}: {seen.rate:,.0f}/s under the profiler, {seen.done_in_all:,} tasks in all")


def measure(kind: str, *, seconds: float, count: int) -> None:
    """Run one load on profiled nodes and print the leader's and a follower's functions."""
    launcher = (sys.executable, "-m", "benchmarks.profiling", "--node")
    with fresh(launcher=launcher, profiles=_DIRECTORY) as stage:
        pids = stage.pids
        directory = stage.cluster.directory
        for node in stage.nodes:
            node.signal(signal.SIGUSR1)
        _load(stage, kind, seconds)
        for node in stage.nodes:
            node.signal(signal.SIGUSR2)
        stage.cluster.close()
        for role, pid in zip(("leader", "follower"), pids, strict=False):
            print(f"\n{role}: share, own time, calls, time with callees, function")
            print("\n".join(top(directory / f"{pid}.prof", count)))


def main() -> None:
    """Read the command line; a node's own follows `--node`."""
    if sys.argv[1:2] == ["--node"]:
        del sys.argv[1]
        run_node()
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiling", description=__doc__)
    parser.add_argument("--load", choices=["submits", "lifecycle"], default="submits")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--top", type=int, default=15)
    given = parser.parse_args()
    measure(given.load, seconds=given.seconds, count=given.top)


if __name__ == "__main__":
    main()
