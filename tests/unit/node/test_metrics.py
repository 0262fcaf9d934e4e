"""Every metric is there, documented, bounded and right."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from cluster.checkup import Alarms
from cluster.refusals import Reason
from node.gate import REASONS
from node.metrics import (
    DEFINITIONS,
    OUTCOMES,
    QUEUE_LABELS_MAX,
    Metrics,
    Sources,
    TaskFacts,
)
from node.peer_facts import PeerFacts

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"


@dataclass
class Raft:
    role: str = "follower"
    term: int = 3
    commit_index: int = 50
    applied_index: int = 48
    leader_changes: int = 2


TASKS = TaskFacts(
    totals={name: number for number, name in enumerate(OUTCOMES, start=10)},
    pending=4,
    in_progress=5,
    workers=6,
    depths=[("default", "high", 1), ("default", "low", 2), ("tenant/mail", "normal", 3)],
)


PEERS = PeerFacts(
    refusals={"certificate": 3, "term_jump": 1},
    terms_refused=4,
    alarms=Alarms(skew_ms=-1500, far_off=False, disagreement="", low_disks=()),
    certificate_ends_s=1_800_000_000.0,
)


@dataclass
class Node:
    """A node as metrics see it, to be changed by a test."""

    raft: Raft | None = field(default_factory=Raft)
    tasks: TaskFacts | None = TASKS
    connections: int = 7
    peers: PeerFacts | None = PEERS
    metrics: Metrics = field(init=False)

    def __post_init__(self) -> None:
        sources = Sources(
            raft=lambda: self.raft,
            tasks=lambda: self.tasks,
            connections=lambda: self.connections,
            peers=lambda: self.peers,
        )
        self.metrics = Metrics(sources, version="1.2.3")

    def text(self) -> str:
        return self.metrics.render()[0].decode()

    def value(self, name: str, **labels: str) -> float | None:
        for family in text_string_to_metric_families(self.text()):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return float(sample.value)
        return None


def test_what_is_scraped_is_what_is_defined() -> None:
    node = Node()
    node.metrics.count_request("SUBMIT_TASK", "ACK")
    families = {
        family.name: family
        for family in text_string_to_metric_families(node.text())
        if family.name.startswith("tq_")
    }

    assert {re.sub("_total$", "", definition.name) for definition in DEFINITIONS} == set(families)
    for definition in DEFINITIONS:
        family = families[re.sub("_total$", "", definition.name)]
        assert (definition.kind, definition.text) == (family.type, family.documentation)
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert set(definition.labels) == labels, definition.name


def test_refusals_clocks_and_states_are_told_once_there_are_peers() -> None:
    node = Node()
    assert node.value("tq_peer_refusals_total", reason="certificate") == 3
    assert node.value("tq_peer_refusals_total", reason="term_jump") == 5
    assert node.value("tq_peer_refusals_total", reason="foreign_cluster") == 0
    assert node.value("tq_clock_skew_seconds") == -1.5
    assert node.value("tq_state_divergence") == 0
    assert node.value("tq_certificate_expiry_timestamp_seconds") == 1_800_000_000
    alarms = PEERS.alarms._replace(disagreement="node 2 and node 3 ...")
    node.peers = replace(PEERS, alarms=alarms, certificate_ends_s=None)
    assert node.value("tq_state_divergence") == 1
    assert node.value("tq_certificate_expiry_timestamp_seconds") is None
    node.peers = None
    assert node.value("tq_peer_refusals_total", reason="certificate") is None


@pytest.mark.parametrize(("who", "reasons"), [("peer", tuple(Reason)), ("client", REASONS)])
def test_every_reason_of_a_refusal_is_documented(who: str, reasons: tuple[str, ...]) -> None:
    text = DOCUMENT.read_text(encoding="utf-8").partition(f"## Why a {who} is refused")[2]
    rows = re.findall(r"^\| `(\w+)` \|", text.partition("\n## ")[0], re.MULTILINE)
    assert sorted(rows) == sorted(str(reason) for reason in reasons)


def test_every_metric_is_documented_with_its_type_and_labels() -> None:
    rows = re.findall(
        r"^\| `(tq_\w+)` \| (\w+) \| ([^|]*)\| (?:cluster|node) \| \S",
        DOCUMENT.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    documented = [
        (name, kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows
    ]

    assert [(d.name, d.kind, d.labels) for d in DEFINITIONS] == documented


def test_every_metric_a_document_queries_exists() -> None:
    names = set(re.findall(r"\btq_[a-z_]+\b", DOCUMENT.read_text(encoding="utf-8")))
    known = {definition.name for definition in DEFINITIONS}

    assert set() == {re.sub("_bucket$", "", name) for name in names} - known


def test_figures_are_read_when_somebody_scrapes() -> None:
    node = Node()
    assert node.value("tq_raft_term") == 3

    node.raft = Raft(role="leader", term=4)
    node.connections = 8

    assert node.value("tq_raft_term") == 4
    assert node.value("tq_broker_connections") == 8


def test_the_machines_totals_are_counted_by_outcome() -> None:
    node = Node()

    for outcome in OUTCOMES:
        assert TASKS.totals[outcome] == node.value("tq_tasks_total", outcome=outcome)
    assert (4, 5, 6) == (
        node.value("tq_tasks_pending"),
        node.value("tq_tasks_in_progress"),
        node.value("tq_workers_connected"),
    )


def test_the_role_is_one_of_three() -> None:
    node = Node()
    assert (0, 1, 0) == tuple(
        node.value("tq_raft_role", role=role) for role in ("leader", "follower", "candidate")
    )
    assert node.value("tq_raft_is_leader") == 0

    node.raft = Raft(role="leader")

    assert node.value("tq_raft_role", role="leader") == 1
    assert node.value("tq_raft_is_leader") == 1


def test_lag_is_what_is_committed_and_not_applied() -> None:
    node = Node()
    assert node.value("tq_raft_apply_lag_entries") == 2

    node.raft = Raft(commit_index=10, applied_index=48)
    assert node.value("tq_raft_apply_lag_entries") == 0


def test_depth_is_by_queue_and_tier_and_never_without_data() -> None:
    node = Node()
    assert node.value("tq_broker_queue_depth", queue="default", tier="high") == 1
    assert node.value("tq_broker_queue_depth", queue="default", tier="normal") == 0
    assert node.value("tq_broker_queue_depth", queue="tenant/mail", tier="normal") == 3

    node.tasks = replace(TASKS, depths=[])
    assert node.value("tq_broker_queue_depth", queue="default", tier="low") == 0


def test_queues_beyond_the_cap_share_one_label() -> None:
    node = Node()
    count = QUEUE_LABELS_MAX + 10
    depths = [(f"q{number}", "normal", 1) for number in range(count)]
    node.tasks = replace(TASKS, depths=depths)

    assert node.value("tq_broker_queue_depth", queue="_other") == 10
    assert node.value("tq_broker_queue_depth", queue="q0", tier="normal") == 1

    # Who has a label keeps it, whatever the others do.
    node.tasks = replace(TASKS, depths=depths[::-1])
    assert node.value("tq_broker_queue_depth", queue="q0", tier="normal") == 1
    assert node.value("tq_broker_queue_depth", queue="_other") == 10


def test_a_queue_named_like_the_rest_does_not_break_the_scrape() -> None:
    node = Node()
    node.tasks = replace(TASKS, depths=[("_other", "low", 1)])
    assert node.text().count('queue="_other",tier="low"') == 1


def test_requests_are_counted_by_type_and_code() -> None:
    node = Node()
    node.metrics.count_request("SUBMIT_TASK", "ACK")
    node.metrics.count_request("SUBMIT_TASK", "ACK")
    node.metrics.count_request("CLAIM_TASK", "REDIRECT")

    assert node.value("tq_requests_total", type="SUBMIT_TASK", code="ACK") == 2
    assert node.value("tq_requests_total", type="CLAIM_TASK", code="REDIRECT") == 1


@pytest.mark.parametrize(
    ("run_ms", "bucket"), [(0, "0.005"), (5, "0.005"), (6, "0.01"), (300_000, "300.0")]
)
def test_a_run_falls_into_the_smallest_bucket_that_holds_it(run_ms: int, bucket: str) -> None:
    node = Node()
    node.metrics.observe_run(run_ms)
    name = "tq_task_processing_duration_seconds"
    counts = {
        sample.labels["le"]: sample.value
        for family in text_string_to_metric_families(node.text())
        for sample in family.samples
        if sample.name == f"{name}_bucket"
    }

    first = next(bound for bound, count in counts.items() if count)
    assert bucket == first
    assert all(count in {0, 1} for count in counts.values())
    assert counts["+Inf"] == 1
    assert node.value(f"{name}_sum") == run_ms / 1000
    assert node.value(f"{name}_count") == 1


def test_a_run_longer_than_every_bucket_is_counted() -> None:
    node = Node()
    node.metrics.observe_run(301_000)
    name = "tq_task_processing_duration_seconds_bucket"

    assert node.value(name, le="300.0") == 0
    assert node.value(name, le="+Inf") == 1


def test_syncs_have_a_histogram_of_their_own() -> None:
    node = Node()
    node.metrics.observe_fsync(0.0003)

    assert node.value("tq_fsync_seconds_bucket", le="0.00025") == 0
    assert node.value("tq_fsync_seconds_bucket", le="0.0005") == 1
    assert node.value("tq_task_processing_duration_seconds_count") == 0


def test_a_node_that_starts_can_be_scraped() -> None:
    node = Node(raft=None, tasks=None)

    assert node.value("tq_build_info", version="1.2.3") == 1
    assert node.value("tq_raft_term") is None


def test_two_nodes_in_one_process_do_not_share() -> None:
    one, two = Node(), Node()
    one.metrics.count_request("HELLO", "ACK")

    assert one.value("tq_requests_total", type="HELLO") == 1
    assert two.value("tq_requests_total", type="HELLO") is None


def test_openmetrics_is_given_to_those_who_ask() -> None:
    node = Node()
    text, content_type = node.metrics.render("application/openmetrics-text;version=1.0.0,*/*")

    assert content_type.startswith("application/openmetrics-text")
    # prometheus_client leaves this one function without annotations.
    families = openmetrics.text_string_to_metric_families(text.decode())  # type: ignore[no-untyped-call]
    assert "tq_tasks" in {family.name for family in families}
    assert node.metrics.render("*/*")[1].startswith("text/plain")
