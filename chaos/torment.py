"""Plays a scenario: one fault after the other, each taken back, and the cluster waited for."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from chaos.cluster import ChaosCluster
from chaos.faults import FAULTS, Fault, FaultError, MissedError, Record
from chaos.logs import damages
from chaos.scenarios import Scenario

MISSED_MAX: Final = 3
"""A kind that has hit nothing so often is not tried again."""
RECOVERY_S: Final = 60.0
"""After a fault is taken back all nodes are ready within this, or the run has failed."""


@dataclass(slots=True)
class Course:
    """How a scenario went.

    Attributes:
        faults: How many of each kind were done.
        missed: How many of each kind hit nothing.
        skipped: Kinds that were not, and why.
        surprises: What nodes did that they must not, for people.
        recovery_s: How long after it was taken back all nodes were ready, by kind.
    """

    faults: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    skipped: dict[str, str] = field(default_factory=dict)
    surprises: list[str] = field(default_factory=list)
    recovery_s: dict[str, list[float]] = field(default_factory=dict)


async def torment(
    cluster: ChaosCluster,
    scenario: Scenario,
    rng: random.Random,
    faults_log: Path,
    stop: asyncio.Event,
) -> Course:
    """Hurt a cluster so many times, or until told to stop; it is whole again when this returns.

    Args:
        cluster: Running, all nodes ready.
        scenario: What is done.
        rng: Draws order, victims and times.
        faults_log: Receives a line for each fault.
        stop: Ends it; a fault that has begun is taken back.

    Raises:
        ClusterError: The cluster did not recover by itself; it is left as it is.
    """
    course = Course()
    for kind in scenario.schedule(rng):
        if scenario.times and course.faults.total() >= scenario.times:
            break
        if await _told(stop, rng.uniform(*scenario.calm_s)):
            break
        fault = FAULTS[kind]()
        why = fault.refuses(cluster)
        if not why and fault.most and course.faults[kind] >= fault.most:
            why = f"{fault.most} times are enough for one run"
        if course.missed[kind] >= MISSED_MAX:
            why = f"it hit nothing {MISSED_MAX} times"
        if why:
            course.skipped[kind] = why
            if len(course.skipped) == len(scenario.kinds):
                break
            continue
        await _whole(cluster, kind, course)
        log = _Log(faults_log, scenario.name)
        hold_s = rng.uniform(*(scenario.hold_s or fault.hold_s))
        await _inflict(cluster, fault, rng, hold_s=hold_s, log=log, stop=stop, course=course)
    return course


class _Log:
    """`faults.jsonl`: each fault when it is over, or when the harness is told to give up."""

    def __init__(self, path: Path, scenario: str) -> None:
        self._path = path
        self._scenario = scenario

    def write(self, records: list[Record]) -> None:
        with self._path.open("a", encoding="utf-8") as lines:
            for record in records:
                record.scenario = self._scenario
                lines.write(record.line() + "\n")


async def _inflict(
    cluster: ChaosCluster,
    fault: Fault,
    rng: random.Random,
    *,
    hold_s: float,
    log: _Log,
    stop: asyncio.Event,
    course: Course,
) -> None:
    """Do one fault, take it back, and wait until all is well."""
    records: list[Record] = []
    missed = False
    try:
        try:
            records = await fault.begin(cluster, rng)
            _remember_damage(cluster, records)
            await _told(stop, hold_s)
        except FaultError as error:
            missed = isinstance(error, MissedError)
            course.surprises.append(f"{fault.kind}: {error}")
        finally:
            # Of what has hit nobody there is nothing to say.
            records = [] if missed else records or fault.records
            await asyncio.shield(fault.heal())
            for record in records:
                record.to = time.monotonic_ns()
    finally:
        log.write(records)
    (course.missed if missed else course.faults)[fault.kind] += 1
    course.surprises += [f"{fault.kind}: {text}" for text in cluster.surprises()]
    await cluster.heal_all()
    began_s = time.monotonic()
    await cluster.wait_ready(timeout_s=RECOVERY_S)
    cluster.clear_quarantines()
    await _roomy(cluster)
    course.recovery_s.setdefault(fault.kind, []).append(time.monotonic() - began_s)


async def _whole(cluster: ChaosCluster, kind: str, course: Course) -> None:
    """Look at the nodes before they are hit, which would hide that one has ended by itself."""
    course.surprises += [f"before {kind}: {text}" for text in cluster.surprises()]
    if not all(node.running for node in cluster.nodes.values()):
        await cluster.heal_all()
        await cluster.wait_ready(timeout_s=RECOVERY_S)


def _remember_damage(cluster: ChaosCluster, records: list[Record]) -> None:
    """Note whose files a fault has damaged: these may find out at any later time."""
    for record in records:
        if damages(record.kind):
            for node_id in record.nodes:
                cluster.nodes[node_id].damaged = record.kind


async def _roomy(cluster: ChaosCluster) -> None:
    """Wait until no node says that it is short of room: that, too, passes by itself."""

    async def roomy() -> bool | None:
        told = await asyncio.gather(*(node.status() for node in cluster.nodes.values()))
        short = any(status is None or status.get("disk_low") for status in told)
        return None if short else True

    await cluster.wait_for(roomy, what="room on all disks", timeout_s=RECOVERY_S)


async def _told(stop: asyncio.Event, timeout_s: float) -> bool:
    """Wait until told to stop, at most so long; tell whether."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), timeout_s)
    return stop.is_set()
