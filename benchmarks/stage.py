"""A fresh cluster of three real nodes with the fsync on, and loads that are run against it."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.generator.ledger import cpu_s
from benchmarks.generator.order import Order, Seen
from deploy.local.cluster import ROOT, LocalCluster, LocalNode
from deploy.local.processes import ChildProcess

_CONFIGURATION: Final = """\
broker:
  queue_depth_threshold: 100000000
  batch_claim_size: 1000
"""
_ENVIRONMENT: Final[Mapping[str, str]] = {
    "TQ_PERSISTENCE__BALLAST": "0B",
    # An installed node does not compile its sources at each start.
    "PYTHONDONTWRITEBYTECODE": "",
}
_FSYNCS: Final = re.compile(r"^tq_fsync_seconds_count(?:\{[^}]*\})? ([0-9.e+]+)$", re.MULTILINE)
_OVERTIME_S: Final = 600


class BenchmarkError(Exception):
    """A run is no measurement: something was refused, or the generator failed."""


@dataclass(frozen=True)
class Effort:
    """How much is spent on a measurement.

    Attributes:
        seconds: Length of the measured part of a load.
        warm_s: Before it.
        quick: Counts are a fiftieth: to see that everything runs, not to learn figures.
    """

    seconds: float = 5.0
    warm_s: float = 1.0
    quick: bool = False

    def count(self, full: int) -> int:
        """Return how many tasks or faults to take where the full measurement takes `full`."""
        return max(full // 50, 3) if self.quick else full


class Load:
    """A generator process that runs beside others.

    Args:
        order: What it does.
        directory: For its output.
    """

    def __init__(self, order: Order, directory: Path) -> None:
        self._order = order
        with tempfile.NamedTemporaryFile(dir=directory, suffix=".load", delete=False) as file:
            path = Path(file.name)
        self._process = ChildProcess(
            [sys.executable, "-m", "benchmarks.generator", order.to_json()],
            log_path=path,
            directory=ROOT,
        )
        self._process.start()

    def seen(self) -> Seen:
        """Wait for its end.

        Raises:
            BenchmarkError: It failed, or requests were refused.
        """
        order = self._order
        try:
            code = self._process.wait(timeout_s=order.warm_s + order.seconds + _OVERTIME_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = -1
        output = self._process.output()
        if code:
            raise BenchmarkError(f"the generator ended with {code}: {output[-2000:]}")
        seen = Seen.from_json(output.splitlines()[-1])
        if seen.refused:
            raise BenchmarkError(f"requests were refused: {seen.refused}")
        return seen

    def stop(self) -> None:
        """End it at once, if it runs."""
        if self._process.running:
            self._process.kill()


class Stage:
    """A running cluster.

    Args:
        cluster: The nodes.
        leader: Who leads them.
    """

    def __init__(self, cluster: LocalCluster, leader: LocalNode) -> None:
        self.cluster = cluster
        self.leader = leader

    @property
    def nodes(self) -> list[LocalNode]:
        """The leader first."""
        others = [node for node in self.cluster.nodes.values() if node is not self.leader]
        return [self.leader, *others]

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the nodes, the leader's first."""
        return tuple(node.pid for node in self.nodes)

    @contextmanager
    def beside(self, order: Order) -> Iterator[Load]:
        """Run a load next to what the block does; it is ended with the block at the latest."""
        load = Load(replace(order, pids=self.pids), self.cluster.directory)
        try:
            yield load
        finally:
            load.stop()

    def run(self, order: Order) -> Seen:
        """Run a load to its end."""
        with self.beside(order) as load:
            return load.seen()

    def order(self, kind: Any, effort: Effort, **fields: Any) -> Order:
        """Make an order against the leader; `fields` as in `Order`."""
        given = {"seconds": effort.seconds, "warm_s": effort.warm_s, **fields}
        return Order(kind, (self.leader.client_address,), **given)

    def fsyncs(self) -> float:
        """Return how many syncs of the log all nodes have done, as their metrics tell."""
        return sum(_fsyncs_of(node) for node in self.nodes)

    def cpu_s(self) -> float:
        """Return the processor time of all nodes."""
        return sum(cpu_s(pid) for pid in self.pids)


def _fsyncs_of(node: LocalNode) -> float:
    code, page = node.http("/metrics", timeout_s=10)
    found = _FSYNCS.search(page)
    if code != 200 or found is None:
        raise BenchmarkError(f"node {node.node_id} tells no fsyncs: {code} {page[:200]}")
    return float(found.group(1))


@contextmanager
def fresh(
    *,
    tls: bool = False,
    environment: Mapping[str, str] | None = None,
    launcher: Sequence[str] = (sys.executable, "-m", "node"),
    profiles: str = "",
) -> Iterator[Stage]:
    """Start three nodes in a directory of their own; end them and remove it afterwards.

    Args:
        tls: Mutual TLS between the nodes.
        environment: More variables of the nodes.
        launcher: Starts a node.
        profiles: Variable that tells the nodes the cluster's directory; none if empty.
    """
    with tempfile.TemporaryDirectory(prefix="tq-benchmark-") as directory:
        told = {profiles: directory} if profiles else {}
        with LocalCluster(
            Path(directory),
            configuration=_CONFIGURATION,
            tls=tls,
            environment={**_ENVIRONMENT, **told, **(environment or {})},
            launcher=launcher,
        ) as cluster:
            yield Stage(cluster, cluster.start())


def resident_mb(node: LocalNode) -> float:
    """Return a node's resident memory, in units of 1,000,000 bytes."""
    return float(psutil.Process(node.pid).memory_info().rss) / 1e6
