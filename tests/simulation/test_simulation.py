"""Fifty histories of a failing cluster, and the proof that a seed is a history."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest

from tests.simulation.world import Options, play

pytestmark = pytest.mark.sim

SEEDS_PER_PART = 10
INTERESTING = (
    "snapshot installed",
    "leader deposed with uncommitted entries",
    "divergent tail cut",
    "batches lost",
    "all nodes down at once",
    "UNKNOWN_OUTCOME",
    "read",
)


@pytest.mark.parametrize("part", range(5))
def test_nothing_acknowledged_is_lost_doubled_or_read_stale(part: int) -> None:
    reached: Counter[str] = Counter()
    for seed in range(1 + part * SEEDS_PER_PART, 1 + (part + 1) * SEEDS_PER_PART):
        world = play(seed)
        reached += world.reached + world.checks.answers
        assert world.checks.acked, f"seed {seed}: the cluster did no work"
    missing = [state for state in INTERESTING if not reached[state]]
    assert not missing, f"seeds never reached {missing}: the simulation has gone blunt"


def test_a_wiped_node_comes_back_and_nothing_is_lost() -> None:
    recovered = 0
    for seed in range(101, 106):
        options = replace(Options.drawn(seed), nodes=3, wipes=True, crash_share=0.5)
        recovered += play(seed, options).reached["memory recovered"]
    assert recovered, "no node ever lost and regained its memory"


def _hash_of(seed: int, hash_seed: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--seed", str(seed)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return next(line for line in done.stdout.splitlines() if " hash " in line)


@pytest.mark.parametrize("seed", [4, 13, 22])
def test_a_seed_is_the_same_history_in_another_process(seed: int) -> None:
    first, second = _hash_of(seed, "1"), _hash_of(seed, "4242")
    assert first == second
    assert first == f"seed {seed} hash {play(seed).trace_hash}"
