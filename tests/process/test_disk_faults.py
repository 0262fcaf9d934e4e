"""An fsync that fails, and one that never returns, on a real node."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.power import COMPILER, NO_COMPILER, Power
from cluster.syncer import STOP_MAX_S
from deploy.local.cluster import LocalCluster
from node.server import EXIT_FATAL
from tests.process.conftest import GUARDED
from tests.process.raw_client import ACK, QUERY_STATUS, SUBMIT_TASK, RawClient, new_task_id
from tests.support.ports import free_ports

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(COMPILER is None, reason=NO_COMPILER),
]


class FaultyDisk(LocalCluster):
    """One node, whose fsyncs can be told to go wrong."""

    def __init__(self, directory: Path) -> None:
        self.power = Power(directory / "disks", directory / "power")
        launcher = self.power.launcher(GUARDED)
        super().__init__(self.power.root, size=1, launcher=launcher, ports=free_ports(3))


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[FaultyDisk]:
    """One running node."""
    with FaultyDisk(tmp_path) as cluster:
        cluster.start()
        yield cluster
        cluster.power.repair()


def test_an_fsync_that_fails_ends_the_process_and_acknowledges_nothing(faulty: FaultyDisk) -> None:
    node = faulty.nodes[1]
    with RawClient(node.client_address) as client:
        kept, lost = new_task_id(), new_task_id()
        assert client.request(SUBMIT_TASK, kept, "default", "x", b"", {})[0] == ACK
        faulty.power.order("error")
        with pytest.raises(ConnectionError):
            client.request(SUBMIT_TASK, lost, "default", "x", b"", {})
    assert node.wait(timeout_s=5) == EXIT_FATAL
    assert "Input/output error" in node.output()
    faulty.power.repair()
    faulty.start()
    with RawClient(node.client_address) as client:
        assert client.request(QUERY_STATUS, kept)[0] == ACK


def test_a_node_whose_fsync_never_returns_can_be_stopped(faulty: FaultyDisk) -> None:
    node = faulty.nodes[1]
    with RawClient(node.client_address) as client:
        faulty.power.order("hang")
        client.ask(SUBMIT_TASK, new_task_id(), "default", "x", b"", {})
        began = time.monotonic()
        assert node.stop(timeout_s=30) == EXIT_FATAL
    assert time.monotonic() - began < STOP_MAX_S + 10
    assert "hangs" in node.output()
