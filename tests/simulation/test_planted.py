"""Teeth: with one rule taken out, some seed must notice."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

from cluster.engine import Engine
from tests.simulation import plants
from tests.simulation.checks import Violation
from tests.simulation.world import Options, play

pytestmark = pytest.mark.sim

SEEDS_MAX = 60
ROUGH = {"faults_per_s": 2.5, "writes_per_s": 10.0}
BUSY = {"nodes": 3, "faults_per_s": 2.5, "writes_per_s": 80.0, "crash_share": 0.15}
LATE = {"nodes": 5, "delay_s": 0.01, "slow_s": 0.3, **ROUGH}
DARK = {"power_loss": True, "sync_s": 0.05, "wipes": False}
STORM = {**DARK, **ROUGH, "nodes": 3, "crash_share": 0.5, "delay_s": 0.0005, "slow_s": 0.0}


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL + 1, logger="cluster")


def _first_violation(
    engine: type[Engine], first: int, changed: dict[str, Any], *, syncs_work: bool = True
) -> str | None:
    for seed in range(first, first + SEEDS_MAX):
        options = replace(Options.drawn(seed), **changed)
        try:
            play(seed, options, engine=engine, syncs_work=syncs_work)
        except Violation as violation:
            return str(violation)
    return None


# The first seed only saves time: it is one that notices today.
@pytest.mark.parametrize(
    ("plant", "first", "changed", "symptom"),
    [
        (plants.CountsItselfEarly, 2, STORM, "lost"),
        (plants.SpeaksEarly, 1, STORM, "lost"),
        (plants.BelievesCommitIndex, 7, BUSY, "safety"),
        (plants.ChunkMovesCommit, 7, BUSY, "safety"),
        (
            plants.CountsReplies,
            6,
            {**LATE, "duplicate_votes": True, "crash_share": 0.5},
            "election",
        ),
        (plants.ForgetsItsVote, 2, LATE, "election"),
        (plants.VotesForAnyLog, 1, {}, "lost"),
        (plants.ReadsAtOnce, 6, {}, "stale read"),
        (plants.AmnesiacVotes, 1, {"wipes": True}, "lost"),
        (plants.ForgetsCallers, 1, {}, "never answered"),
        (plants.NeverRewinds, 1, {"quiet_s": 10.0}, "stuck"),
    ],
)
def test_planted_fault_is_found(
    plant: type[Engine], first: int, changed: dict[str, Any], symptom: str
) -> None:
    found = _first_violation(plant, first, changed)
    assert found is not None, f"{plant.__name__}: none of {SEEDS_MAX} seeds noticed"
    words = {
        "lost": ("leader completeness", "safety", "is lost"),
        "election": ("election safety", "leader completeness"),
        "stuck": ("no convergence", "no leader", "never answered"),
    }.get(symptom, (symptom,))
    assert any(word in found for word in words), found


def test_planted_disk_that_never_syncs_is_found() -> None:
    assert _first_violation(Engine, 4, DARK, syncs_work=False) is not None
