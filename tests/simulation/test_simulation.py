"""A few seeds of the whole node under faults, and the proof that a seed is a history."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.simulation.faults import BEGAN_AT, Fault
from tests.simulation.minimise import minimise
from tests.simulation.options import KINDS, Options
from tests.simulation.play import play
from tests.simulation.show import replay_command

pytestmark = pytest.mark.sim

_SEEDS = range(1, 7)
_ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("seed", _SEEDS)
def test_nothing_acknowledged_is_lost_doubled_or_read_stale(seed: int) -> None:
    played = play(seed)
    assert played.violation is None, f"{played.violation}\nreplay: {replay_command(seed)}"
    assert played.acknowledged, f"seed {seed}: the cluster did no work"


def test_a_quiet_cluster_of_three_works_everything_off() -> None:
    played = play(1, Options(kinds=()), chaos_s=10.0)
    assert played.violation is None
    assert played.acknowledged > 200
    assert not played.faults


def test_seeds_differ_in_their_options_and_every_kind_of_fault_is_drawn() -> None:
    drawn = [Options.drawn(seed) for seed in range(60)]
    kinds = Counter(kind for options in drawn for kind in options.kinds)
    assert set(kinds) == set(KINDS)
    assert {options.nodes for options in drawn} == {1, 3, 5}
    assert drawn[3] == Options.drawn(3)
    assert drawn[3] != replace(drawn[3], codec=not drawn[3].codec)


def test_a_recorded_schedule_plays_the_same_history() -> None:
    options = replace(Options.drawn(2), kinds=("kill", "cut", "isolate", "pause"))
    first = play(2, options, chaos_s=15.0)
    again = play(2, options, chaos_s=15.0, schedule=first.faults)
    assert first.faults
    assert (first.digest, first.faults) == (again.digest, again.faults)


def test_a_part_of_a_schedule_plays_these_faults_alone() -> None:
    options = replace(Options.drawn(2), kinds=("kill", "cut"))
    everything = play(2, options, chaos_s=15.0).faults
    some = everything[::2]
    assert play(2, options, chaos_s=15.0, schedule=some).faults == some


def test_minimising_finds_the_faults_that_it_takes() -> None:
    faults = [Fault(number, number / 2, "kill", (1, 1.0)) for number in range(30)]
    needed = {faults[4], faults[21]}
    kept = minimise(faults, lambda schedule: needed <= set(schedule))
    assert set(kept) == needed


def test_minimising_ends_with_nothing_where_no_fault_is_needed() -> None:
    faults = [Fault(number, number / 2, "kill", (1, 1.0)) for number in range(5)]
    assert minimise(faults, lambda _schedule: True) == []


def test_nobody_throws_the_data_of_a_node_away_because_its_disk_is_full() -> None:
    """Seed 148993649213655: it had just got well, and two of four voters were removed then."""
    schedule = [
        Fault(0, BEGAN_AT + 3.1, "wipe", (1, 0.05)),
        Fault(1, BEGAN_AT + 3.85, "full", (1, 0, 8.0)),
        Fault(2, BEGAN_AT + 3.9, "power", (1, 0.05)),
    ]
    options = Options(kinds=("wipe", "full", "power"))
    played = play(2, options, chaos_s=10.0, schedule=schedule, detail=True)
    assert played.violation is None
    refused = [line for line in played.recent if "refused to start 1" in line]
    assert len(refused) > 3
    assert played.sometimes["wiped node filled again"]
    assert not played.sometimes["damaged directory moved aside by hand"]


def test_a_cluster_is_not_well_before_every_disk_is() -> None:
    """Seed 236943443946384: a sync hung on, and what came later was missed at the end."""
    schedule = [Fault(0, BEGAN_AT + 8.0, "stall", (2, 22.0))]
    played = play(1, Options(kinds=("stall",)), chaos_s=10.0, schedule=schedule)
    assert played.violation is None
    assert played.seconds >= 30.0


def test_the_memory_of_both_who_are_left_is_not_taken_while_they_are_down() -> None:
    """Seed 195186147371718: nobody had looked since the third of them was removed."""
    schedule = [
        Fault(0, BEGAN_AT + 3.0, "member", ("remove", 2)),
        Fault(1, BEGAN_AT + 24.0, "outage", (True, 2.0, 2.0, 2.0)),
        Fault(2, BEGAN_AT + 24.5, "wipe", (3, 0.5)),
    ]
    options = Options(kinds=("member", "outage", "wipe"))
    played = play(1, options, chaos_s=26.0, schedule=schedule)
    assert played.violation is None
    assert played.answers["members ok"] == 1
    assert not played.sometimes["disk wiped"]


def test_no_disk_is_lost_while_a_cluster_starts_for_the_first_time() -> None:
    """Seed 112591374558262: one disk lost, another full since before its node had begun."""
    schedule = [
        Fault(0, BEGAN_AT + 0.02, "full", (3, 0, 6.0)),
        Fault(1, BEGAN_AT + 3.7, "wipe", (1, 0.5)),
    ]
    options = Options(kinds=("full", "wipe"), delay_s=0.01)
    assert play(1, options, chaos_s=8.0, schedule=schedule).violation is None


def _determinism(seeds: int, timeout_s: float, *, base: int = 31) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.simulation",
            "--determinism",
            str(seeds),
            "--base",
            str(base),
            "--processes",
            "1",
        ],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{seeds} seeds, 0 differ" in done.stdout


def test_a_seed_is_the_same_history_in_another_process() -> None:
    _determinism(2, 110.0)


@pytest.mark.long
@pytest.mark.parametrize("base", range(31, 56, 5))
def test_many_seeds_are_the_same_histories_in_other_processes(base: int) -> None:
    _determinism(5, 800.0, base=base)


def test_a_cluster_that_grew_out_of_one_node_outlives_the_disk_of_that_node() -> None:
    kinds = ("member", "wipe", "flip", "restart")
    assert play(4, Options(nodes=1, kinds=kinds, faults_per_s=1.0)).violation is None
