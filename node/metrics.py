"""Every metric of a node, named and described in one place.

Gauges and totals are read from the machine and the consensus engine when somebody scrapes,
so that no request pays for them. What can only be seen as it happens (answers, run times,
disk syncs) costs a few integer additions on the event loop.

Metrics of tasks describe replicated state: every node exports the same values, so a
dashboard takes ``max by``, never ``sum``. ``docs/metrics.md`` says what each one is for.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from prometheus_client import CollectorRegistry, ProcessCollector, exposition
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from node.gate import REASONS
from node.histogram import Histogram
from node.peer_facts import PeerFacts, peer_samples

QUEUE_LABELS_MAX = 200
OTHER_QUEUES = "_other"
TIERS = ("high", "normal", "low")
OUTCOMES = ("submitted", "completed", "failed", "lost", "dead_letter", "cancelled")
ROLES = ("leader", "follower", "candidate")

_RUN_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_FSYNC_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0)

Kind = Literal["counter", "gauge", "histogram"]
Samples = Iterable[tuple[Sequence[str], float]]


class RaftFacts(Protocol):
    """What metrics read of the consensus engine's status."""

    @property
    def role(self) -> str:
        """``leader``, ``follower`` or ``candidate``."""

    @property
    def term(self) -> int:
        """The current term."""

    @property
    def commit_index(self) -> int:
        """Highest index known to be on a quorum."""

    @property
    def applied_index(self) -> int:
        """Highest index the machine has executed."""

    @property
    def leader_changes(self) -> int:
        """How often this node saw a new leader since it started."""


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What metrics read of the machine.

    Attributes:
        totals: Count of tasks or attempts since the cluster began, by outcome (`OUTCOMES`).
        pending: Tasks that could be claimed now.
        in_progress: Tasks under a lease.
        workers: Registered workers.
        depths: (queue label, tier, waiting tasks); a queue of another namespace than
            ``default`` is labelled ``namespace/queue``.
    """

    totals: Mapping[str, int]
    pending: int
    in_progress: int
    workers: int
    depths: Sequence[tuple[str, str, int]] = ()


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the figures come from, asked once a scrape.

    Attributes:
        raft: The engine's status; None while there is none.
        tasks: The machine's figures; None while there are none.
        connections: Open client connections.
        peers: What the connections to other nodes have brought up; None while there are
            none.
        disk: Free bytes, and whether new tasks are refused for want of them; None while the
            disk is not open.
        refusals: How many clients were not let in, by reason (`node.gate.REASONS`).
    """

    raft: Callable[[], RaftFacts | None]
    tasks: Callable[[], TaskFacts | None]
    connections: Callable[[], int]
    peers: Callable[[], PeerFacts | None] = lambda: None
    disk: Callable[[], tuple[int, bool] | None] = lambda: None
    refusals: Callable[[], Mapping[str, int]] = dict


class Definition(NamedTuple):
    """One metric as it is documented.

    Attributes:
        name: As it is scraped; counters end in ``_total``.
        kind: What Prometheus calls its type.
        labels: Label names.
        text: One sentence.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    text: str


DEFINITIONS = (
    Definition(
        "tq_tasks_total",
        "counter",
        ("outcome",),
        "Tasks by outcome; failed and lost count attempts.",
    ),
    Definition("tq_tasks_pending", "gauge", (), "Tasks that could be claimed now."),
    Definition("tq_tasks_in_progress", "gauge", (), "Tasks held by a worker under a lease."),
    Definition(
        "tq_task_processing_duration_seconds",
        "histogram",
        (),
        "Time from claim to result of the results this node recorded as leader.",
    ),
    Definition("tq_workers_connected", "gauge", (), "Registered workers."),
    Definition(
        "tq_broker_queue_depth",
        "gauge",
        ("queue", "tier"),
        "Tasks of a queue that wait, by priority tier.",
    ),
    Definition("tq_broker_connections", "gauge", (), "Open client connections of this node."),
    Definition(
        "tq_requests_total", "counter", ("type", "code"), "Requests this node answered, by code."
    ),
    Definition(
        "tq_client_refusals_total",
        "counter",
        ("reason",),
        "Clients and readers of HTTP that were not let in.",
    ),
    Definition("tq_raft_term", "gauge", (), "Current term."),
    Definition("tq_raft_is_leader", "gauge", (), "1 on the leader, 0 elsewhere."),
    Definition("tq_raft_role", "gauge", ("role",), "1 for the role this node has."),
    Definition("tq_raft_commit_index", "gauge", (), "Highest log index known to be on a quorum."),
    Definition("tq_raft_applied_index", "gauge", (), "Highest log index this node has executed."),
    Definition(
        "tq_raft_apply_lag_entries", "gauge", (), "Entries committed but not yet executed here."
    ),
    Definition(
        "tq_raft_leader_changes_total",
        "counter",
        (),
        "New leaders this node has seen since it started.",
    ),
    Definition(
        "tq_peer_refusals_total",
        "counter",
        ("reason",),
        "Connections between nodes, and messages over them, that were refused.",
    ),
    Definition(
        "tq_clock_skew_seconds",
        "gauge",
        (),
        "How far this node's wall clock is ahead of the time it stamps with.",
    ),
    Definition(
        "tq_state_divergence", "gauge", (), "1 while this node knows of nodes whose states differ."
    ),
    Definition(
        "tq_certificate_expiry_timestamp_seconds",
        "gauge",
        (),
        "Until when the certificates of this node are good, the first to expire; absent without.",
    ),
    Definition("tq_fsync_seconds", "histogram", (), "Time one sync of the log to disk takes."),
    Definition("tq_disk_free_bytes", "gauge", (), "Free space on the disk of the data directory."),
    Definition("tq_disk_low", "gauge", (), "1 while new tasks are refused for want of disk space."),
    Definition("tq_build_info", "gauge", ("version", "python"), "Always 1; labels tell the build."),
)
"""Every metric with the prefix ``tq_``."""


class Metrics:
    """The metrics of one node, in a registry of their own.

    Args:
        sources: Where gauges and totals are read.
        version: Of this program, for ``tq_build_info``.
    """

    def __init__(self, sources: Sources, *, version: str) -> None:
        self._sources = sources
        self._version = version
        self._requests: Counter[tuple[str, str]] = Counter()
        self._run = Histogram(_RUN_BUCKETS_S)
        self._fsync = Histogram(_FSYNC_BUCKETS_S)
        self._queue_labels: set[str] = set()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Collector(self))
        ProcessCollector(registry=self._registry)

    def count_request(self, type_name: str, code: str) -> None:
        """Count one answer.

        Args:
            type_name: Name of the request's type, from a closed set; never client text.
            code: ``ACK``, ``REDIRECT`` or the code of a NACK.
        """
        self._requests[type_name, code] += 1

    def observe_run(self, run_ms: int) -> None:
        """Count the time of one attempt, from its claim to its result."""
        self._run.observe(run_ms / 1000)

    def observe_fsync(self, seconds: float) -> None:
        """Count one sync of the log to disk."""
        self._fsync.observe(seconds)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics as text.

        Args:
            accept: The scraper's ``Accept`` header; OpenMetrics is given when it asks for it.

        Returns:
            The text and its content type.
        """
        if "application/openmetrics-text" in accept:
            # prometheus_client leaves this one function without annotations.
            text: bytes = openmetrics.generate_latest(self._registry)  # type: ignore[no-untyped-call]
            return text, openmetrics.CONTENT_TYPE_LATEST
        return exposition.generate_latest(self._registry), exposition.CONTENT_TYPE_PLAIN_0_0_4

    def collect(self) -> Iterator[Metric]:
        """One family for each definition, read now."""
        samples = {
            **self._task_samples(),
            **self._raft_samples(),
            **peer_samples(self._sources.peers()),
            **self._own_samples(),
        }
        histograms = {
            "tq_task_processing_duration_seconds": self._run,
            "tq_fsync_seconds": self._fsync,
        }
        for definition in DEFINITIONS:
            if definition.kind == "histogram":
                histogram = histograms[definition.name]
                yield HistogramMetricFamily(
                    definition.name,
                    definition.text,
                    buckets=histogram.buckets(),
                    sum_value=histogram.sum_s,
                )
            else:
                yield _family(definition, samples.get(definition.name, ()))

    def _own_samples(self) -> dict[str, Samples]:
        disk, refusals = self._sources.disk(), self._sources.refusals()
        return {
            "tq_broker_connections": [((), self._sources.connections())],
            "tq_requests_total": list(self._requests.items()),
            "tq_client_refusals_total": [
                ((reason,), refusals.get(reason, 0)) for reason in REASONS
            ],
            "tq_disk_free_bytes": [] if disk is None else [((), disk[0])],
            "tq_disk_low": [] if disk is None else [((), disk[1])],
            "tq_build_info": [((self._version, platform.python_version()), 1)],
        }

    def _task_samples(self) -> dict[str, Samples]:
        tasks = self._sources.tasks()
        if tasks is None:
            return {}
        return {
            "tq_tasks_total": [((name,), tasks.totals.get(name, 0)) for name in OUTCOMES],
            "tq_tasks_pending": [((), tasks.pending)],
            "tq_tasks_in_progress": [((), tasks.in_progress)],
            "tq_workers_connected": [((), tasks.workers)],
            "tq_broker_queue_depth": list(self._depths(tasks).items()),
        }

    def _raft_samples(self) -> dict[str, Samples]:
        raft = self._sources.raft()
        if raft is None:
            return {}
        return {
            "tq_raft_term": [((), raft.term)],
            "tq_raft_is_leader": [((), raft.role == "leader")],
            "tq_raft_role": [((role,), raft.role == role) for role in ROLES],
            "tq_raft_commit_index": [((), raft.commit_index)],
            "tq_raft_applied_index": [((), raft.applied_index)],
            "tq_raft_apply_lag_entries": [((), max(0, raft.commit_index - raft.applied_index))],
            "tq_raft_leader_changes_total": [((), raft.leader_changes)],
        }

    def _depths(self, tasks: TaskFacts) -> dict[tuple[str, str], int]:
        # A fresh cluster shows zeros rather than "no data".
        depths = {("default", tier): 0 for tier in TIERS}
        for queue, tier, depth in tasks.depths:
            key = (self._queue_label(queue), tier)
            depths[key] = depths.get(key, 0) + depth
        return depths

    def _queue_label(self, queue: str) -> str:
        # First come, first named: a choice by depth would move queues in and out of _other.
        if queue in self._queue_labels:
            return queue
        if len(self._queue_labels) >= QUEUE_LABELS_MAX:
            return OTHER_QUEUES
        self._queue_labels.add(queue)
        return queue


class _Collector(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics.collect()


def _family(definition: Definition, samples: Samples) -> Metric:
    family: CounterMetricFamily | GaugeMetricFamily
    if definition.kind == "counter":
        family = CounterMetricFamily(definition.name, definition.text, labels=definition.labels)
    else:
        family = GaugeMetricFamily(definition.name, definition.text, labels=definition.labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family
