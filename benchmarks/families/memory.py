"""What tasks cost that wait, and those that are done and kept; starting again; pauses."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.backlog import restart
from benchmarks.families.lifecycles import lifecycle
from benchmarks.families.measurement import Figures, Measurement
from benchmarks.judging.calibration import Scaling
from benchmarks.judging.verdicts import Row
from benchmarks.stage import Effort, Stage, fresh, resident_mb

_CPU = Scaling.CPU
_BATCH = 100
_PING_RATE = 500.0
_HUNDRED_THOUSAND = 100_000
_MILLION = 1_000_000


def fill(stage: Stage, effort: Effort, tasks: int) -> None:
    """Submit tasks nobody claims."""
    whole = -(-tasks // _BATCH) * _BATCH
    order = stage.order("submits", replace(effort, warm_s=0), window=4, batch=_BATCH, tasks=whole)
    stage.run(order)


def _pending(effort: Effort) -> Figures:
    tasks = effort.count(_HUNDRED_THOUSAND)
    with fresh() as stage:
        idle_mb = resident_mb(stage.leader)
        fill(stage, effort, tasks)
        full_mb = resident_mb(stage.leader)
    return {"pending_100k": full_mb - idle_mb, "idle_mb": idle_mb, "tasks": tasks}


def _million(effort: Effort) -> Figures:
    tasks = effort.count(_MILLION)
    with fresh() as stage:
        fill(stage, effort, tasks)
        resident = max(resident_mb(node) for node in stage.nodes)
        pause_ms = _pause_ms(stage, effort)
        seconds = restart(stage.cluster, stage.nodes)
    return {
        "pending_1m_resident": resident,
        "pending_1m_restart": seconds,
        "snapshot_pause": pause_ms,
        "tasks": tasks,
    }


def _pause_ms(stage: Stage, effort: Effort) -> float:
    """Submit on, so that checkpoints are written; return the longest answer to a ping.

    The load is light: with all of the processor taken, what is measured would be the wait for it.
    """
    addresses = tuple(node.client_address for node in stage.nodes)
    pings = replace(stage.order("pings", effort, rate=_PING_RATE), addresses=addresses)
    submits = stage.order("open-loop", effort, rate=2_000.0, seconds=effort.seconds + 1)
    with stage.beside(submits), stage.beside(pings) as load:
        return load.seen().latency_ms["max"]


def _retained(effort: Effort) -> Figures:
    tasks = effort.count(_MILLION)
    with fresh() as stage:
        idle_mb = resident_mb(stage.leader)
        seen = lifecycle(stage, effort, tasks=tasks)
        grown = max(resident_mb(node) for node in stage.nodes) - idle_mb
    return {"retained_1m": grown, "tasks": tasks, "rate": seen.rate}


MEASUREMENTS = (
    Measurement(
        "pending_100k",
        (Row("pending_100k", "100,000 pending: leader above idle", "MB", 100, 50, "lower"),),
        _pending,
    ),
    Measurement(
        "pending_1m",
        (
            Row("pending_1m_resident", "1,000,000 pending: resident", "MB", 1000, 500, "lower"),
            Row(
                "pending_1m_restart",
                "1,000,000 pending: restart of all to ready",
                "s",
                30,
                10,
                "lower",
                _CPU,
            ),
            Row(
                "snapshot_pause",
                "longest pause of a loop in checkpoints at 1,000,000 tasks",
                "ms",
                50,
                20,
                "lower",
                _CPU,
            ),
        ),
        _million,
        rounds_max=1,
    ),
    Measurement(
        "retained_1m",
        (Row("retained_1m", "1,000,000 completed: growth", "MB", 100, 50, "lower"),),
        _retained,
        rounds_max=1,
    ),
    Measurement(
        "retained_10m",
        (Row("retained_10m", "10,000,000 completed: growth", "MB", 100, 50, "lower"),),
        None,
    ),
)
