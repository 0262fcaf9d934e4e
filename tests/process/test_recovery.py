"""Restart, snapshot install, and data directories that are not what they should be."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from pathlib import Path

import pytest

from deploy.local.cluster import LocalCluster, LocalNode
from tests.process.conftest import ClusterMaker
from tests.process.raw_client import (
    ACK,
    CLAIM_TASK,
    NACK,
    REGISTER_WORKER,
    SUBMIT_TASK,
    TASK_RESULT,
    RawClient,
    new_task_id,
)
from tests.process.replicas import equal_digests

pytestmark = pytest.mark.process

SUBMIT_BATCH = 6
SMALL_LOG = "raft:\n  log_tail: 64KiB\n"


def submit_many(cluster: LocalCluster, count: int, *, size: int = 64) -> None:
    with RawClient(cluster.wait_leader().client_address) as client:
        for first in range(0, count, 500):
            tasks = [
                [new_task_id(), "default", "x", os.urandom(size), {}]
                for _ in range(min(500, count - first))
            ]
            kind, (answers,) = client.request(SUBMIT_BATCH, tasks)
            assert ACK == kind
            assert all(answer[0] == 0 for answer in answers), answers[:3]


def run_some(cluster: LocalCluster, count: int) -> None:
    """Claim and complete `count` tasks."""
    with RawClient(cluster.wait_leader().client_address) as client:
        session = client.request(REGISTER_WORKER, new_task_id(), "w", ["default"], {})[1][0]
        done = 0
        while done < count:
            for grant in client.request(CLAIM_TASK, session, ["default"], 3, 5_000)[1][0]:
                assert ACK == client.request(TASK_RESULT, grant[0], grant[1], 0, b"ok", "")[0]
                done += 1


def follower(cluster: LocalCluster) -> LocalNode:
    leader = cluster.wait_leader()
    return next(node for node in cluster.nodes.values() if node.node_id != leader.node_id)


def test_a_node_that_missed_a_truncated_log_comes_back_by_snapshot(
    make_cluster: ClusterMaker,
) -> None:
    cluster = make_cluster(configuration=SMALL_LOG)
    cluster.start()
    absent = follower(cluster)
    submit_many(cluster, 100)
    absent.kill()
    submit_many(cluster, 8_000)
    run_some(cluster, 100)
    leader = cluster.wait_leader().status()
    assert leader is not None
    assert leader["first_index"] > 3, "the log was never truncated: nothing to test"

    absent.start()
    cluster.wait_ready()
    equal_digests(cluster)

    status = absent.status()
    assert status is not None
    assert status["snapshots_installed"] >= 1
    run_some(cluster, 50)
    equal_digests(cluster)


def test_a_node_whose_disk_was_lost_rejoins_and_is_filled_again(
    make_cluster: ClusterMaker,
) -> None:
    cluster = make_cluster(configuration=SMALL_LOG)
    cluster.start()
    submit_many(cluster, 5_000)
    lost = follower(cluster)
    lost.kill()
    shutil.rmtree(lost.data_dir)

    lost.start()
    cluster.wait_ready()

    equal_digests(cluster)
    status = lost.status()
    assert status is not None
    assert not status["amnesiac"]


def test_a_single_node_keeps_its_tasks_across_kill_and_restart(make_cluster: ClusterMaker) -> None:
    cluster = make_cluster(size=1)
    cluster.start()
    submit_many(cluster, 3_000)
    run_some(cluster, 20)
    before = equal_digests(cluster)[1]
    cluster.nodes[1].kill()

    cluster.nodes[1].start()
    cluster.wait_ready()

    assert cluster.nodes[1].status() is not None
    run_some(cluster, 20)
    assert before != equal_digests(cluster)[1]


def test_replicas_started_with_different_files_keep_equal_digests(
    make_cluster: ClusterMaker,
) -> None:
    files = {
        1: "broker:\n  queue_depth_threshold: 40\n  batch_claim_size: 3\n",
        2: "broker:\n  queue_depth_threshold: 50\n  worker_lease_timeout: 90s\n",
        3: "broker:\n  queue_depth_threshold: 55\npersistence:\n  completed_task_retention: 1d\n",
    }
    cluster = make_cluster(configuration=files)
    cluster.start()
    refused = 0
    with RawClient(cluster.wait_leader().client_address) as client:
        for _ in range(60):
            kind, answer = client.request(SUBMIT_TASK, new_task_id(), "default", "x", b"", {})
            refused += kind == NACK and answer[0] == "QUEUE_FULL"
    run_some(cluster, 20)
    old_leader = cluster.wait_leader()
    old_leader.kill()
    cluster.wait_leader()
    run_some(cluster, 10)
    old_leader.start()
    cluster.wait_ready()

    assert refused in {5, 10, 20}, "the threshold of one file is in force, whichever led first"
    equal_digests(cluster)


def test_sigterm_ends_a_node_with_exit_code_zero(make_cluster: ClusterMaker) -> None:
    cluster = make_cluster(size=1)
    node = cluster.start()

    assert 0 == node.stop(), node.output()


# ------------------------------------------------------------------ bad input


def starts_and_ends(node: LocalNode, *, timeout_s: float = 20) -> str:
    """Start a node that must refuse to run; return what it said."""
    node.start()
    code = node.wait(timeout_s=timeout_s)
    assert code not in {0, -signal.SIGKILL}, node.output()
    return node.output()


def test_a_data_directory_of_another_node_id_is_refused(make_cluster: ClusterMaker) -> None:
    cluster = make_cluster()
    cluster.start()
    first, second = cluster.nodes[1], cluster.nodes[2]
    first.kill()
    second.kill()
    mine = first.arguments.index(str(first.data_dir))
    first.arguments[mine] = str(second.data_dir)

    said = starts_and_ends(first)

    assert "node 2" in said
    assert "node 1" in said
    assert str(second.data_dir) in said


def test_a_data_directory_of_another_cluster_is_refused(make_cluster: ClusterMaker) -> None:
    ours, theirs = make_cluster(), make_cluster(name="other")
    ours.start()
    theirs.start()
    stranger = theirs.nodes[3]
    stranger.kill()
    guest = ours.nodes[3]
    guest.kill()
    shutil.rmtree(guest.data_dir)
    shutil.copytree(stranger.data_dir, guest.data_dir)
    for node in theirs.nodes.values():  # or the copy would be their node 3 again
        node.kill()

    guest.start()
    other = "one of the two has another cluster's data directory"
    ours.wait_for(
        lambda: True if other in guest.output() else None,
        what="a refusal that names the other cluster",
    )

    assert guest.http("/readyz")[0] != 200
    submit_many(ours, 10)


def test_a_port_in_use_is_named(make_cluster: ClusterMaker) -> None:
    cluster = make_cluster(size=1)
    node = cluster.nodes[1]
    with socket.create_server(("127.0.0.1", node.ports.client)):
        said = starts_and_ends(node)

    assert f"127.0.0.1:{node.ports.client}" in said
    assert "in use" in said


def test_a_directory_held_by_a_running_node_is_refused(make_cluster: ClusterMaker) -> None:
    cluster = make_cluster(size=1)
    running = cluster.start()
    second = make_cluster(size=1, name="second").nodes[1]
    own = second.arguments.index(str(second.data_dir))
    second.arguments[own] = str(running.data_dir)

    said = starts_and_ends(second)

    assert str(running.data_dir) in said
    assert "another process" in said
    submit_many(cluster, 10)


def test_a_first_start_waits_for_a_missing_peer_and_says_so(make_cluster: ClusterMaker) -> None:
    cluster = make_cluster()
    present = [cluster.nodes[1], cluster.nodes[2]]
    for node in present:
        node.start()

    cluster.wait_for(
        lambda: True if all("node 3" in node.output() for node in present) else None,
        what="both nodes naming the one they wait for",
    )
    assert all(node.http("/readyz")[0] != 200 for node in present)

    cluster.nodes[3].start()
    cluster.wait_ready()
    submit_many(cluster, 10)


def test_a_damaged_database_is_quarantined_and_the_node_is_filled_again(
    make_cluster: ClusterMaker,
) -> None:
    cluster = make_cluster(configuration=SMALL_LOG)
    cluster.start()
    submit_many(cluster, 3_000)
    hurt = follower(cluster)
    hurt.kill()
    damage(hurt.data_dir)

    hurt.start()
    cluster.wait_ready()

    equal_digests(cluster)
    assert list((hurt.data_dir / "quarantine").iterdir()), "the damaged files were not kept"


def test_a_single_node_with_a_damaged_database_refuses_to_start(
    make_cluster: ClusterMaker,
) -> None:
    cluster = make_cluster(size=1)
    cluster.start()
    submit_many(cluster, 1_000)
    cluster.nodes[1].kill()
    damage(cluster.nodes[1].data_dir)
    before = files_of(cluster.nodes[1].data_dir)

    said = starts_and_ends(cluster.nodes[1])

    assert "damaged" in said
    assert before <= files_of(cluster.nodes[1].data_dir), "files of a damaged node were removed"


def damage(data_dir: Path) -> None:
    """Overwrite the middle of the manifest, without which RocksDB cannot open."""
    [manifest, *_] = sorted(data_dir.rglob("MANIFEST-*"))
    content = bytearray(manifest.read_bytes())
    content[: len(content) // 2] = b"\xff" * (len(content) // 2)
    manifest.write_bytes(content)


def files_of(data_dir: Path) -> set[str]:
    return {path.name for path in data_dir.rglob("MANIFEST-*")}
