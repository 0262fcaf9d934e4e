"""A node that computes otherwise than the others stops, and keeps its files (S7)."""

from __future__ import annotations

import pytest

from deploy.local.cluster import LocalCluster, LocalNode
from node.server import EXIT_FATAL
from tests.process.conftest import ClusterMaker
from tests.process.replicas import equal_digests
from tq import SyncClient

pytestmark = pytest.mark.process

INTERVAL = 100


def test_a_node_that_differs_stops_keeps_its_files_and_comes_back_empty(
    make_cluster: ClusterMaker,
) -> None:
    cluster = make_cluster(configuration=f"raft: {{snapshot_interval: {INTERVAL}}}")
    wrong = cluster.nodes[3]
    sound = list(wrong.arguments)
    wrong.arguments = [
        "tests.process.differing_node" if word == "tests.process.guarded_node" else word
        for word in sound
    ]
    assert wrong.arguments != sound
    cluster.start()
    submit(cluster, INTERVAL + 20)

    assert wrong.wait(timeout_s=30) == EXIT_FATAL
    said = "the state of node 3 at entry"
    assert said in wrong.output()
    assert (wrong.data_dir / "diverged").exists()
    submit(cluster, 10)  # the others go on

    wrong.arguments = sound
    before = len(wrong.output())
    wrong.start()
    assert wrong.wait(timeout_s=30) != 0
    assert said in wrong.output()[before:]

    evidence = wrong.data_dir.with_name("evidence")
    wrong.data_dir.rename(evidence)
    wrong.start()
    cluster.wait_ready()
    equal_digests(cluster)
    assert (evidence / "diverged").exists()
    assert sorted(running(cluster)) == [1, 2, 3]


def running(cluster: LocalCluster) -> list[int]:
    nodes: list[LocalNode] = list(cluster.nodes.values())
    return [node.node_id for node in nodes if node.running]


def submit(cluster: LocalCluster, count: int) -> None:
    """One entry for each task; the node that differs may lead, and stop meanwhile."""
    servers = ",".join(node.client_address for node in cluster.nodes.values())
    with SyncClient(servers) as client:
        for _ in range(count):
            client.submit("work", b"p")
