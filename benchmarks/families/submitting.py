"""Submits of single tasks and of batches, closed loop, on one connection or many."""

from __future__ import annotations

from benchmarks.families.measurement import Figures, Measurement
from benchmarks.generator.order import Seen
from benchmarks.judging.calibration import Scaling
from benchmarks.judging.verdicts import Row
from benchmarks.stage import Effort, Stage, fresh

_CPU = Scaling.CPU
_TIME = Scaling.CPU_TIME
_BOTH = Scaling.CPU_AND_DISK


def cpu_parts(seen: Seen) -> dict[str, float]:
    """Return who spent the processor time of one task, microseconds."""
    leader, *followers, generator = seen.cpu_us
    return {
        "cpu_leader_us": leader,
        "cpu_followers_us": sum(followers),
        "cpu_generator_us": generator,
    }


def submit(stage: Stage, effort: Effort, *, window: int = 1, connections: int = 1) -> Seen:
    """Run single submits to the end of the measured part."""
    return stage.run(stage.order("submits", effort, window=window, connections=connections))


def _one(effort: Effort) -> Figures:
    with fresh() as stage:
        seen = submit(stage, effort)
    latency = seen.latency_ms
    return {
        "submit_1_p50": latency["p50"],
        "submit_1_p99": latency["p99"],
        "rate": seen.rate,
        "p99.9_ms": latency["p99.9"],
    }


def _sixteen(effort: Effort) -> Figures:
    with fresh() as stage:
        seen = submit(stage, effort, window=16)
    return {"submit_16": seen.rate, "p50_ms": seen.latency_ms["p50"]}


def _full(effort: Effort) -> Figures:
    with fresh() as stage:
        before = stage.fsyncs()
        seen = submit(stage, effort, window=256)
        fsyncs = stage.fsyncs() - before
    return {
        "submit_256": seen.rate,
        "submit_fsyncs": fsyncs / seen.done_in_all * 1000,
        "submit_cpu": sum(seen.cpu_us),
        "p50_ms": seen.latency_ms["p50"],
        "p99_ms": seen.latency_ms["p99"],
        **cpu_parts(seen),
    }


def _many_connections(effort: Effort) -> Figures:
    with fresh() as stage:
        seen = submit(stage, effort, connections=256)
    return {"connections_256": seen.rate, "p50_ms": seen.latency_ms["p50"], **cpu_parts(seen)}


def _batches(effort: Effort) -> Figures:
    with fresh() as stage:
        seen = stage.run(stage.order("submits", effort, window=4, batch=100))
    return {"submit_batch": seen.rate, "p50_ms": seen.latency_ms["p50"], **cpu_parts(seen)}


MEASUREMENTS = (
    Measurement(
        "submit_1",
        (
            Row("submit_1_p50", "submit, 1 in flight, p50", "ms", 0.6, 0.25, "lower", _BOTH),
            Row("submit_1_p99", "submit, 1 in flight, p99", "ms", 4, 1.5, "lower", _BOTH),
        ),
        _one,
    ),
    Measurement("submit_16", (Row("submit_16", "submit, 16 in flight", "/s"),), _sixteen),
    Measurement(
        "submit_256",
        (
            Row("submit_256", "submit, 256 in flight", "/s", 40_000, 90_000, "higher", _CPU),
            Row(
                "submit_fsyncs", "fsyncs of all nodes per 1,000 submits", "fsyncs", 40, 12, "lower"
            ),
            Row("submit_cpu", "CPU of four processes per submit", "us", 25, 14, "lower", _TIME),
        ),
        _full,
    ),
    Measurement(
        "connections_256",
        (
            Row(
                "connections_256",
                "submit, 256 connections, 1 in flight each",
                "/s",
                20_000,
                50_000,
                scaling=_CPU,
            ),
        ),
        _many_connections,
    ),
    Measurement(
        "submit_batch",
        (
            Row(
                "submit_batch",
                "submit_many of 100, 4 frames in flight",
                "/s",
                60_000,
                130_000,
                scaling=_CPU,
            ),
        ),
        _batches,
    ),
)
