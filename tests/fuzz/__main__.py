"""Feed every decoder with mutated bytes for a while: `python -m tests.fuzz --seconds 120`.

Each round is drawn from one number, the seed of the run plus the number of the round, so
that a failure is replayed by `--target NAME --seed N --rounds 1`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.targets import SIMPLE, Handshake, Target
from tests.support.authority import Authority

# ruff: noqa: T201 - a command that prints

_ROUND_MAX_S = 1.0
_GROWTH_MAX_KIB = 256 << 10
_SLICE_S = 0.25


def main() -> int:
    """Run until the time or the rounds are over; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="time for all targets")
    parser.add_argument("--seed", type=int, help="of the first round; drawn when not given")
    parser.add_argument("--rounds", type=int, default=sys.maxsize, help="at most, per target")
    parser.add_argument("--target", help="this one alone")
    given = parser.parse_args()
    seed = random.SystemRandom().getrandbits(40) if given.seed is None else given.seed
    with tempfile.TemporaryDirectory() as directory:
        targets = _targets(Path(directory))
        if given.target:
            targets = {given.target: targets[given.target]}
        print(f"fuzz: seed {seed}, {given.seconds:g} s for {len(targets)} targets", flush=True)
        return asyncio.run(_run(targets, seed=seed, seconds=given.seconds, rounds=given.rounds))


def _targets(directory: Path) -> dict[str, Target]:
    authority = Authority(directory / "ca")
    named: dict[str, Target] = {target.__name__: target for target in SIMPLE}
    named["tls"] = Handshake(authority.tls(3), authority.tls(1))
    return named


async def _run(targets: dict[str, Target], *, seed: int, seconds: float, rounds: int) -> int:
    began_kib = _peak_kib()
    done = dict.fromkeys(targets, 0)
    slowest = dict.fromkeys(targets, 0.0)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and min(done.values()) < rounds:
        for name, target in targets.items():
            slice_ends = time.monotonic() + _SLICE_S
            while done[name] < rounds and time.monotonic() < slice_ends:
                took_s = _round(name, target, seed + done[name])
                if took_s is None:
                    return 1
                slowest[name] = max(slowest[name], took_s)
                done[name] += 1
        await asyncio.sleep(0)  # timers of links
    growth_kib = _peak_kib() - began_kib
    for name, count in done.items():
        print(f"  {name:<12} {count:>9} rounds, slowest {slowest[name] * 1000:.1f} ms")
    print(f"fuzz: nothing found; memory grew by {growth_kib / 1024:.0f} MiB")
    if growth_kib > _GROWTH_MAX_KIB or max(slowest.values()) > _ROUND_MAX_S:
        print("fuzz: too much memory, or too slow a round")
        return 1
    return 0


def _round(name: str, target: Callable[[random.Random], None], number: int) -> float | None:
    """Run one round; return the seconds it took, None when it found something."""
    began = time.perf_counter()
    try:
        target(random.Random(number))
    except Exception:  # noqa: BLE001 - any of them is a finding
        traceback.print_exc()
        print(f"replay with: python -m tests.fuzz --target {name} --seed {number} --rounds 1")
        return None
    return time.perf_counter() - began


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    sys.exit(main())
