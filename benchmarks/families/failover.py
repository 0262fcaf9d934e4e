"""The gap in accepted work when the leader dies or falls silent.

One submit after the other through the leader; then the fault; then the same task is offered to
the two other nodes in turn, over connections that are open already, until one accepts. What it
costs a client to notice and to connect is not in it: the gap is the cluster's.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from benchmarks.families.measurement import Figures, Measurement
from benchmarks.judging.calibration import Scaling
from benchmarks.judging.quantiles import quantile
from benchmarks.judging.verdicts import Row
from benchmarks.stage import BenchmarkError, Effort, Stage, fresh
from deploy.local.cluster import LocalNode
from tests.process.raw_client import ACK, SUBMIT_TASK, RawClient, new_task_id

TIMES: Final = 30
_STEADY_S: Final = 0.3
_PAUSE_S: Final = 0.003
_GAP_MAX_S: Final = 30.0
_CPU: Final = Scaling.CPU

Fault = Callable[[LocalNode], None]


def _accepts(client: RawClient, task_id: bytes) -> bool:
    kind, _ = client.request(SUBMIT_TASK, task_id, "bench", "noop", b"x" * 64, {})
    return kind == ACK


def _gap_s(stage: Stage, hurt: Fault) -> float:
    """Hurt the leader once; return the time from there to the next accepted submit."""
    leader = stage.cluster.wait_ready()
    others = [node for node in stage.nodes if node is not leader]
    with ExitStack() as stack:
        first = stack.enter_context(RawClient(leader.client_address))
        clients = [stack.enter_context(RawClient(node.client_address)) for node in others]
        steady_until_s = time.monotonic() + _STEADY_S
        while time.monotonic() < steady_until_s:
            if not _accepts(first, new_task_id()):
                raise BenchmarkError("the leader refused a submit before it was hurt")
        task_id = new_task_id()
        began_s = time.monotonic()
        hurt(leader)
        while time.monotonic() - began_s < _GAP_MAX_S:
            for client in clients:
                if _accepts(client, task_id):
                    return time.monotonic() - began_s
            time.sleep(_PAUSE_S)
    raise BenchmarkError(f"no node accepted anything for {_GAP_MAX_S:g} s\n{stage.cluster.tails()}")


def _kill(leader: LocalNode) -> None:
    leader.signal(signal.SIGKILL)


def _stop(leader: LocalNode) -> None:
    leader.signal(signal.SIGSTOP)


def _bury_and_start(leader: LocalNode) -> None:
    with contextlib.suppress(ProcessLookupError):
        leader.kill()
    leader.start()


def _resume(leader: LocalNode) -> None:
    leader.signal(signal.SIGCONT)


def _gaps(effort: Effort, name: str, *, hurt: Fault, heal: Fault) -> Figures:
    gaps_s = []
    with fresh() as stage:
        for _ in range(effort.count(TIMES)):
            leader = stage.cluster.wait_ready()
            try:
                gaps_s.append(_gap_s(stage, hurt))
            finally:
                heal(leader)
    return {
        f"{name}_p50": quantile(gaps_s, 50),
        f"{name}_p99": quantile(gaps_s, 99),
        "max_s": max(gaps_s),
        "times": len(gaps_s),
    }


def _killed(effort: Effort) -> Figures:
    return _gaps(effort, "killed", hurt=_kill, heal=_bury_and_start)


def _silent(effort: Effort) -> Figures:
    return _gaps(effort, "silent", hurt=_stop, heal=_resume)


MEASUREMENTS = (
    Measurement(
        "killed",
        (
            Row("killed_p50", "failover, leader killed, p50", "s", 0.15, 0.04, "lower", _CPU),
            Row("killed_p99", "failover, leader killed, p99", "s", 0.6, 0.11, "lower", _CPU),
        ),
        _killed,
        rounds_max=1,
    ),
    Measurement(
        "silent",
        (
            Row("silent_p50", "failover, leader silent, p50", "s", 1.0, 0.6, "lower"),
            Row("silent_p99", "failover, leader silent, p99", "s", 2.0, 1.2, "lower"),
        ),
        _silent,
        rounds_max=1,
    ),
)
