"""`make demo`: three nodes, two workers, one killed leader, nothing lost.

Every Python file of the standard library becomes one task that counts and hashes
it. Half way the leader gets SIGKILL and is restarted a moment later. At the end
every result is compared with what `hashlib` says when asked directly, and the
cluster's own counters tell whether any task was finished twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
import sys
import sysconfig
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from deploy.local.cluster import ROOT, ClusterError, LocalCluster
from deploy.local.processes import ChildProcess
from tq import Client, Handle, TqError
from tq.examples import FileDigest, app, file_digest

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

_PACE_S: Final = 25.0
"""Seconds over which the submits are spread: long enough to watch, short enough to wait."""

_RESTART_AFTER_S: Final = 3.0
_FAILOVER_MAX_S: Final = 3.0
_WORKERS: Final = 2
_LOOK_S: Final = 0.25


@dataclass
class Progress:
    """What the run has seen so far; times are `time.monotonic()` seconds."""

    accepted: list[tuple[float, float]] = field(default_factory=list)
    """(sent, acknowledged) of every submit."""
    killed_at: float | None = None
    killed_node: int | None = None
    verdict: str = ""

    def failover_s(self) -> float | None:
        """Seconds from the kill to the first acknowledgement of a submit sent after it."""
        killed_at = self.killed_at
        if killed_at is None:
            return None
        later = [acknowledged for sent, acknowledged in self.accepted if sent > killed_at]
        return min(later) - killed_at if later else None

    def longest_gap_s(self) -> float:
        """Longest time between two accepted submits."""
        times = sorted(acknowledged for _, acknowledged in self.accepted)
        return max((later - one for one, later in itertools.pairwise(times)), default=0.0)


@dataclass(frozen=True)
class Verdict:
    """The figures of one run."""

    tasks: int
    lost: int
    doubled: int
    wrong: int
    repeated: int
    longest_gap_s: float
    failover_s: float | None

    @property
    def good(self) -> bool:
        """True when nothing was lost, doubled or wrong and a new leader came soon enough."""
        replaced = self.failover_s is not None and self.failover_s < _FAILOVER_MAX_S
        return self.lost == self.doubled == self.wrong == 0 and replaced

    def lines(self) -> list[str]:
        """Return the closing table."""
        failover = "never" if self.failover_s is None else f"{self.failover_s:.3f} s"
        return [
            f"tasks                                {self.tasks}",
            f"lost                                 {self.lost}",
            f"finished twice                       {self.doubled}",
            f"wrong result                         {self.wrong}",
            f"run more than once (at least once)   {self.repeated}",
            f"longest gap without accepted submit  {self.longest_gap_s:.3f} s",
            f"failover (kill to next accepted)     {failover}",
        ]


def source_files() -> list[Path]:
    """Return the standard library's own source files, in a fixed order."""
    root = Path(sysconfig.get_path("stdlib"))
    return sorted(p for p in root.rglob("*.py") if "site-packages" not in p.parts and p.is_file())


def digest_directly(path: Path) -> FileDigest:
    """Compute what a worker should have answered, without the queue."""
    content = path.read_bytes()
    return {
        "sha256": hashlib.sha256(content).hexdigest(),
        "lines": content.count(b"\n"),
        "bytes": len(content),
    }


async def submit_all(
    cluster: LocalCluster, files: list[Path], progress: Progress
) -> dict[Path, Handle[FileDigest]]:
    """Submit one task per file at an even pace, and kill the leader half way."""
    handles: dict[Path, Handle[FileDigest]] = {}
    started = time.monotonic()
    with _bar(len(files), "accepted", progress) as bar:

        async def submit(path: Path) -> None:
            sent = time.monotonic()
            handles[path] = await file_digest.using(deadline="30s").asend(str(path))
            progress.accepted.append((sent, time.monotonic()))
            bar.update(1)

        async with watching(cluster, progress), asyncio.TaskGroup() as group:
            for position, path in enumerate(files):
                due = started + _PACE_S * position / len(files)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                if position == len(files) // 2:
                    group.create_task(kill_leader(cluster, progress))
                group.create_task(submit(path))
    return handles


async def kill_leader(cluster: LocalCluster, progress: Progress) -> None:
    """SIGKILL the leader now, and start it again a little later."""
    leader = await asyncio.to_thread(cluster.wait_leader)
    progress.killed_node = leader.node_id
    progress.killed_at = time.monotonic()
    leader.kill()
    await asyncio.sleep(_RESTART_AFTER_S)
    leader.start()


@contextlib.asynccontextmanager
async def watching(cluster: LocalCluster, progress: Progress) -> AsyncIterator[None]:
    """Keep the cluster's verdict up to date while the body runs."""

    async def look() -> None:
        while True:
            progress.verdict = await asyncio.to_thread(verdict, cluster)
            await asyncio.sleep(_LOOK_S)

    looking = asyncio.create_task(look())
    try:
        yield
    finally:
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking


def verdict(cluster: LocalCluster) -> str:
    """Say how the cluster is, from what its nodes answer now."""
    answers = [node.status() for node in cluster.nodes.values() if node.running]
    up = [answer for answer in answers if answer is not None]
    leader = next((answer["node_id"] for answer in up if answer["role"] == "leader"), None)
    if leader is None:
        return f"NO LEADER  {len(up)}/{len(cluster.nodes)} nodes up"
    word = "HEALTHY" if len(up) == len(cluster.nodes) else "DEGRADED"
    return f"{word}  {len(up)}/{len(cluster.nodes)} nodes up, node {leader} leads"


async def collect(
    cluster: LocalCluster, handles: dict[Path, Handle[FileDigest]], progress: Progress
) -> Verdict:
    """Wait for every result and compare it with the file itself."""
    lost = wrong = repeated = 0
    with _bar(len(handles), "results ", progress) as bar:
        for path, handle in handles.items():
            try:
                result = await handle.aresult(timeout="60s")
            except TqError as error:
                click.echo(f"lost: {path}: {error}", err=True)
                lost += 1
                continue
            wrong += result != digest_directly(path)
            repeated += (await handle.astatus()).attempt > 1
            bar.update(1)
    async with Client(cluster.servers) as client:
        completed = int((await client.stats())["totals"]["completed"])
    return Verdict(
        tasks=len(handles),
        lost=lost,
        doubled=completed - (len(handles) - lost),
        wrong=wrong,
        repeated=repeated,
        longest_gap_s=progress.longest_gap_s(),
        failover_s=progress.failover_s(),
    )


@contextlib.contextmanager
def workers(cluster: LocalCluster) -> Iterator[None]:
    """Run worker processes while the body runs."""
    arguments = [sys.executable, "-m", "tq.worker_cli", "tq.examples:app"]
    started = [
        ChildProcess(
            [*arguments, "--servers", cluster.servers],
            log_path=cluster.directory / f"worker{number}.log",
            directory=ROOT,
        )
        for number in range(1, _WORKERS + 1)
    ]
    try:
        for worker in started:
            worker.start()
        yield
    finally:
        for worker in started:
            worker.stop()


async def run(cluster: LocalCluster) -> Verdict:
    """Submit, kill, collect."""
    files = source_files()
    progress = Progress()
    click.echo(
        f"{len(files)} files of the standard library, one task each; the leader dies half way"
    )
    try:
        handles = await submit_all(cluster, files, progress)
        click.echo(f"node {progress.killed_node} led and was killed with SIGKILL, then restarted")
        return await collect(cluster, handles, progress)
    finally:
        await asyncio.to_thread(app.close)


def main() -> int:
    """Run the demo; return 0 when nothing was lost, doubled or wrong."""
    with (
        tempfile.TemporaryDirectory(prefix="tq-demo-") as directory,
        LocalCluster(Path(directory)) as cluster,
    ):
        os.environ["TQ_SERVERS"] = cluster.servers
        try:
            leader = cluster.start()
        except ClusterError as failure:
            click.echo(f"error: {failure}", err=True)
            return 1
        click.echo(f"three nodes and {_WORKERS} workers are up, node {leader.node_id} leads")
        with workers(cluster):
            outcome = asyncio.run(run(cluster))
    click.echo("\n".join(outcome.lines()))
    click.echo("nothing lost" if outcome.good else "FAILED: see the figures above")
    return 0 if outcome.good else 1


def _bar(length: int, label: str, progress: Progress) -> ProgressBar[int]:
    return click.progressbar(
        length=length, label=label, item_show_func=lambda _: progress.verdict, update_min_steps=10
    )


if __name__ == "__main__":
    sys.exit(main())
