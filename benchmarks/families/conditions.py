"""The same loads under other conditions: a slow disk, TLS between the nodes."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from benchmarks.families.lifecycles import lifecycle
from benchmarks.families.measurement import Figures, Measurement
from benchmarks.families.submitting import submit
from benchmarks.judging.calibration import Scaling
from benchmarks.judging.verdicts import Row
from benchmarks.stage import Effort, fresh
from chaos.shims import DISK, build

_CPU = Scaling.CPU
SLOW_MS: Final = 10
"""What every fsync takes longer."""
_PING_RATE: Final = 500.0


def _slow_disk(effort: Effort) -> Figures:
    with tempfile.TemporaryDirectory(prefix="tq-slow-disk-") as name:
        place = Path(name)
        (place / "slow").write_text(f"{SLOW_MS}")
        variables = {"LD_PRELOAD": str(build(DISK, place)), "DISK_FAULTS": str(place)}
        with fresh(environment=variables) as stage:
            addresses = tuple(node.client_address for node in stage.nodes)
            pings = replace(stage.order("pings", effort, rate=_PING_RATE), addresses=addresses)
            with stage.beside(pings) as load:
                seen = submit(stage, effort, window=256)
                stall_ms = load.seen().latency_ms
    return {
        "slow_disk_submit": seen.rate,
        "slow_disk_stall": stall_ms["max"],
        "stall_p99.9_ms": stall_ms["p99.9"],
        "p50_ms": seen.latency_ms["p50"],
    }


def _tls(effort: Effort) -> Figures:
    rates = {}
    for tls in (False, True):
        with fresh(tls=tls) as stage:
            rates["submit", tls] = submit(stage, effort, window=256).rate
        with fresh(tls=tls) as stage:
            rates["lifecycle", tls] = lifecycle(stage, effort).rate
    return {
        "tls_submit": rates["submit", True] / rates["submit", False],
        "tls_lifecycle": rates["lifecycle", True] / rates["lifecycle", False],
        "submit_with": rates["submit", True],
        "lifecycle_with": rates["lifecycle", True],
    }


MEASUREMENTS = (
    Measurement(
        "slow_disk",
        (
            Row(
                "slow_disk_submit",
                "fsyncs of 10 ms: submit, 256 in flight",
                "/s",
                10_000,
                20_000,
                scaling=_CPU,
            ),
            Row("slow_disk_stall", "the same: longest loop stall", "ms", 20, 5, "lower", _CPU),
        ),
        _slow_disk,
    ),
    Measurement(
        "tls",
        (
            Row("tls_submit", "mutual TLS against none: submit", "ratio", 0.85, 0.93),
            Row("tls_lifecycle", "mutual TLS against none: lifecycle", "ratio", 0.85, 0.93),
        ),
        _tls,
    ),
)
