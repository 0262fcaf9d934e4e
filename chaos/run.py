"""One run: a cluster, its clients, what is done to it, and everything they leave behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shlex
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from chaos.clients import Clients
from chaos.cluster import LAUNCHER, ChaosCluster, ClusterError, Equipment
from chaos.details import details
from chaos.evidence import VERSION
from chaos.export import export
from chaos.logs import excuses
from chaos.logs import troubles as said_in_logs
from chaos.samples import Sampler
from chaos.scenarios import Scenario, find
from chaos.torment import Course
from chaos.torment import torment as torment_for_real

ROOT: Final = Path(__file__).resolve().parents[1]
WARM_UP_S: Final = 3.0
WARM_UP_MAX_S: Final = 60.0
SETTLE_S: Final = 4.0
"""Peace between two scenarios: time in which liveness is judged."""
SHARE_MIN_S: Final = 5.0
_WATCH_S: Final = 0.5

Torment = Callable[[ChaosCluster, Scenario, random.Random, Path, asyncio.Event], Awaitable[Course]]
"""Does what a scenario says, writes it down, and stops when the event is set."""


class RunFailedError(Exception):
    """The clients could not go on; the text says why, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a run is to be.

    Attributes:
        seed: Of faults and clients.
        minutes: For how long faults are done; nobody looks if `times` are given.
        times: How many faults each scenario does; 0: as many as fit into its share of the time.
        scenarios: Names, in turn.
        nodes: How many.
        directory: Of the run.
        tasks_per_s: Load.
        equipment: What the scenarios need of the nodes.
        settings: More for the checkers.
        command: That would do the same.
        tell: Is told of each scenario that begins, in a line for people.
        node_command: Starts a node, before a node's own flags; "" for the one of this tree.
    """

    seed: int
    minutes: float
    scenarios: Sequence[str]
    nodes: int
    directory: Path
    tasks_per_s: float
    times: int = 0
    equipment: Equipment = field(default_factory=Equipment)
    settings: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    node_command: str = ""
    tell: Callable[[str], None] = lambda _: None


@dataclass(slots=True)
class Report:
    """How a run went, beside its files.

    Attributes:
        troubles: What did not go as it should, other than a broken promise; each for people.
        operations: Recorded.
        drained: All work came to its end.
        skipped: Kinds of faults that were not done, and why.
    """

    troubles: list[str] = field(default_factory=list)
    operations: int = 0
    drained: bool = False
    skipped: dict[str, str] = field(default_factory=dict)


async def play(options: Options, torment: Torment = torment_for_real) -> Report:
    """Play a run, and leave its files in its directory; nothing is left running.

    Raises:
        ClusterError: The cluster did not start.
        ProxyError: The proxy did not; for example, a port is in use.
        MountError: The nodes cannot have disks of their own here.
        ShimError: A library cannot be compiled here.
    """
    report = Report()
    record = _Record(options)
    record.write()
    cluster = ChaosCluster(
        options.directory,
        size=options.nodes,
        equipment=options.equipment,
        seed=options.seed,
        launcher=shlex.split(options.node_command) or LAUNCHER,
    )
    try:
        await cluster.start()
        clients = Clients(
            options.directory,
            servers=cluster.servers,
            seed=options.seed,
            tasks_per_s=options.tasks_per_s,
            access=cluster.network.access,
        )
        try:
            await _play(options, cluster, clients, record, report, torment=torment)
        except (ClusterError, RunFailedError) as error:
            report.troubles.append(str(error))
        finally:
            clients.close()
            report.operations = clients.gather()
    finally:
        report.troubles += [f"at the end: {text}" for text in await cluster.close()]
        excused = excuses(options.directory / "faults.jsonl")
        report.troubles += said_in_logs(options.directory, excused=excused)
        record.write(ended_ns=time.monotonic_ns(), report=report)
    return report


async def _play(
    options: Options,
    cluster: ChaosCluster,
    clients: Clients,
    record: _Record,
    report: Report,
    *,
    torment: Torment,
) -> None:
    """Let clients work, hurt the cluster, and collect what is to be judged."""
    async with _sampled(cluster, options.directory / "samples.jsonl"):
        clients.start()
        cluster.workers = clients.workers
        await _warm_up(clients)
        await _torment(options, cluster, clients, torment, report)
        told, troubles = await clients.finish()
        report.troubles += troubles
        report.drained = bool(told) and not troubles
        record.settings["drained"] = report.drained
        if told.get("lease_ms"):
            record.settings["lease_ms"] = told["lease_ms"]
        if told.get("missing"):
            report.troubles.append(f"of {told['missing']} tasks nobody told how they ended")
        addresses = {node_id: node.address for node_id, node in cluster.nodes.items()}
        report.troubles += await export(
            addresses, options.directory, details=details, client=cluster.client("export")
        )


@contextlib.asynccontextmanager
async def _sampled(cluster: ChaosCluster, path: Path) -> AsyncIterator[None]:
    sampling = asyncio.create_task(Sampler(cluster.nodes.values, path).run())
    try:
        yield
    finally:
        sampling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sampling


async def _torment(
    options: Options,
    cluster: ChaosCluster,
    clients: Clients,
    torment: Torment,
    report: Report,
) -> None:
    """Do one scenario after the other, each for its share of the time or so many times."""
    rng = random.Random(options.seed)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    share_s = options.minutes * 60 / len(options.scenarios)
    for number, name in enumerate(options.scenarios, start=1):
        options.tell(f"{name} begins, {number} of {len(options.scenarios)}")
        stop = asyncio.Event()
        timer = None
        if not options.times:
            ends_s = max(began_s + number * share_s - SETTLE_S, loop.time() + SHARE_MIN_S)
            timer = loop.call_at(ends_s, stop.set)
        scenario = replace(find(name), times=options.times)
        faults_log = options.directory / "faults.jsonl"
        hurting = asyncio.ensure_future(torment(cluster, scenario, rng, faults_log, stop))
        try:
            await _watch(hurting, clients)
        finally:
            if timer is not None:
                timer.cancel()
        course = hurting.result()
        done = course.faults.total()
        if done < options.times:
            report.troubles.append(f"{name}: {done} of {options.times} faults were done")
        report.skipped |= course.skipped
        report.troubles += [f"{name}: {text}" for text in course.surprises]
        await cluster.wait_ready()
        await asyncio.sleep(SETTLE_S)


async def _warm_up(clients: Clients) -> None:
    """Wait until every process of clients is at work."""
    ends_s = time.monotonic() + WARM_UP_MAX_S
    await asyncio.sleep(WARM_UP_S)
    while idle := clients.idle():
        if trouble := clients.trouble():
            raise RunFailedError(trouble)
        if time.monotonic() > ends_s:
            raise RunFailedError(f"no calls within {WARM_UP_MAX_S:g} s from {', '.join(idle)}")
        await asyncio.sleep(_WATCH_S)


async def _watch(hurting: asyncio.Future[Course], clients: Clients) -> None:
    """Wait for the end of a scenario, or of the clients."""
    try:
        while not hurting.done():
            await asyncio.wait({hurting}, timeout=_WATCH_S)
            if trouble := clients.trouble():
                raise RunFailedError(trouble)
    finally:
        if not hurting.done():
            hurting.cancel()
            await asyncio.wait({hurting})


class _Record:
    """`run.json`."""

    def __init__(self, options: Options) -> None:
        self._path = options.directory / "run.json"
        self.settings: dict[str, Any] = {
            "nodes": options.nodes,
            "exports_min": options.nodes,
            "drained": False,
            **options.settings,
        }
        self._told: dict[str, Any] = {
            "version": VERSION,
            "seed": options.seed,
            "command": options.command,
            "scenario": ",".join(dict.fromkeys(options.scenarios)),
            "minutes": options.minutes,
            "times": options.times,
            "nodes": options.nodes,
            "tasks_per_s": options.tasks_per_s,
            "tier": "namespaces" if options.equipment.packets else "processes",
            "node_command": options.node_command,
            "commit": _commit(),
            "began": datetime.now(UTC).isoformat(timespec="seconds"),
            "began_ns": time.monotonic_ns(),
            "ended_ns": None,
        }

    def write(self, *, ended_ns: int | None = None, report: Report | None = None) -> None:
        told = report or Report()
        self._told |= {
            "ended_ns": ended_ns,
            "troubles": told.troubles,
            "skipped": told.skipped,
            "settings": self.settings,
        }
        self._path.write_text(json.dumps(self._told, indent=1) + "\n", encoding="utf-8")


def _commit() -> str:
    """Name the tree that is run; "" where there is no git or no repository."""
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
        )
    except OSError:
        return ""
    return told.stdout.strip()
