"""No bytes from the network or the disk are ever unpickled."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.local.cluster import ROOT, LocalCluster
from deploy.local.processes import ChildProcess
from tests.process.conftest import GUARDED
from tests.process.guarded_node import EXIT_CODE
from tests.process.raw_client import ACK, SUBMIT_TASK, RawClient, new_task_id
from tests.process.replicas import equal_digests
from tests.support.ports import free_ports

pytestmark = pytest.mark.process


def test_the_guard_ends_a_stock_syncobj(tmp_path: Path) -> None:
    first, second = (f"127.0.0.1:{port}" for port in free_ports(2))
    nodes = [
        ChildProcess(
            [sys.executable, "-m", "tests.process.stock_pair", own, other],
            log_path=tmp_path / f"{own.rsplit(':', 1)[1]}.log",
            directory=ROOT,
        )
        for own, other in ((first, second), (second, first))
    ]
    try:
        for node in nodes:
            node.start()
        codes = [node.wait(timeout_s=20) for node in nodes]
    finally:
        for node in nodes:
            node.kill()

    assert EXIT_CODE in codes, [node.output() for node in nodes]


def test_three_guarded_nodes_elect_replicate_restart_and_agree(cluster: LocalCluster) -> None:
    assert all(set(GUARDED) <= set(node.arguments) for node in cluster.nodes.values())
    submit(cluster, 50)
    leader = cluster.wait_leader()
    leader.kill()
    cluster.wait_leader()
    submit(cluster, 50)
    leader.start()
    cluster.wait_ready()

    equal_digests(cluster)
    assert all(node.running for node in cluster.nodes.values()), cluster.tails()


def submit(cluster: LocalCluster, count: int) -> None:
    with RawClient(cluster.wait_leader().client_address) as client:
        for _ in range(count):
            request: tuple[Any, ...] = (SUBMIT_TASK, new_task_id(), "default", "x", b"p", {})
            assert ACK == client.request(*request)[0]


def test_the_guard_ends_this_very_call() -> None:
    code = (
        "from tests.process.guarded_node import forbid_unpickling;"
        "import pickle; data = pickle.dumps([1]); forbid_unpickling(); pickle.loads(data)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=30)
    assert EXIT_CODE == done.returncode
