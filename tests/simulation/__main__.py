"""Play seeds of the simulation.

    python -m tests.simulation --seeds 1000              fresh seeds; the base is printed
    python -m tests.simulation --seeds 1000 --base 7     the same ones as another time
    python -m tests.simulation --seed 17                 one, shown; minimised if it fails
    python -m tests.simulation --seed 17 --faults 3,8    one, with these of its faults alone
    python -m tests.simulation --determinism 25          each twice, in processes of their own

Exit status 1 when a seed fails, or when an interesting state that must be reached was not.
"""

from __future__ import annotations

import argparse
import os
import sys

from tests.simulation.campaign import Campaign, determinism
from tests.simulation.show import say, show_one


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description="Play seeds of the simulation."
    )
    parser.add_argument("--seeds", type=int, default=50, help="how many seeds")
    parser.add_argument("--base", type=int, help="the first of them; drawn unless given")
    parser.add_argument("--seed", type=int, help="play this one alone, and show it")
    parser.add_argument("--faults", help="with --seed: numbers of the only faults to inject")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--budget-s", type=float, help="begin no seed after so many seconds")
    parser.add_argument("--determinism", type=int, metavar="N", help="play N seeds twice each")
    parser.add_argument("--digest", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.seed is not None:
        numbers = None if chosen.faults is None else _numbers(chosen.faults)
        return show_one(chosen.seed, numbers)
    base = int.from_bytes(os.urandom(6), "big") if chosen.base is None else chosen.base
    if chosen.digest is not None:
        return _digests(chosen.digest)
    if chosen.determinism is not None:
        return determinism(range(base, base + chosen.determinism), processes=chosen.processes)
    say(f"seeds {base} to {base + chosen.seeds - 1} (--base {base})")
    campaign = Campaign(base, chosen.seeds, processes=chosen.processes, budget_s=chosen.budget_s)
    return campaign.run()


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def _digests(text: str) -> int:
    """Print seed and digest of each seed named: what `--determinism` compares."""
    from tests.simulation.play import play  # noqa: PLC0415 - only this process needs it

    for seed in _numbers(text):
        say(f"{seed} {play(seed).digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
