"""A disk that fills up: new tasks are refused first, what is there goes on, and it heals.

Every node has a small file system of its own in memory, which takes a mount and so root.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from deploy.local.cluster import LocalCluster, LocalNode
from tests.process.conftest import GUARDED
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
from tests.support.ports import free_ports

pytestmark = pytest.mark.process

MIB = 1 << 20
DISK_MIB, LOW_MIB, BALLAST_MIB = 128, 32, 16
ROUNDS = 4
KEPT = f"persistence:\n  disk_low: {LOW_MIB}MiB\n  ballast: {BALLAST_MIB}MiB\n"

Clusters = Callable[[int], "SmallDisks"]


class SmallDisks(LocalCluster):
    """A cluster whose nodes have little room each."""

    def disk(self, node: LocalNode) -> Path:
        """Where the node's file system is mounted."""
        return node.data_dir

    def fill(self, node: LocalNode, *, leave_mib: int, name: str = "lost+found") -> None:
        """Write a file of somebody else's that leaves so much room; none, and it leaves zero."""
        path = self.disk(node) / name
        path.unlink(missing_ok=True)
        found = os.statvfs(self.disk(node))
        left = found.f_bavail * found.f_frsize - leave_mib * MIB
        with path.open("wb", buffering=0) as file, suppress(OSError):
            while left > 0:  # or until the node has taken the rest
                left -= file.write(bytes(min(left, MIB)))

    def free(self, node: LocalNode) -> None:
        """Remove what somebody else has written."""
        for name in ("lost+found", "lost+more"):
            (self.disk(node) / name).unlink(missing_ok=True)

    def ballast_mib(self, node: LocalNode) -> int:
        """How much ballast there is."""
        path = self.disk(node) / "ballast"
        return path.stat().st_size // MIB if path.exists() else 0

    def wait_ballast(self, *nodes: LocalNode, mib: int = BALLAST_MIB) -> None:
        """Wait until all ballast is there, or none."""
        self.wait_for(
            lambda: all(self.ballast_mib(node) == mib for node in nodes) or None,
            what=f"ballast of {mib} MiB",
        )

    def wait_low(self, node: LocalNode, *, low: bool = True) -> None:
        """Wait until a node says that new tasks are refused, or that they are not."""

        def says() -> bool | None:
            status = node.status()
            return True if status is not None and status["disk_low"] is low else None

        self.wait_for(says, what=f"disk_low {low} on node {node.node_id}")


@pytest.fixture
def make_disks(tmp_path: Path) -> Iterator[Clusters]:
    """Make clusters of a size on small disks, not yet started."""
    with ExitStack() as stack:

        def make(size: int) -> SmallDisks:
            cluster = SmallDisks(
                tmp_path,
                size=size,
                launcher=GUARDED,
                ports=free_ports(3 * size),
                configuration=KEPT,
                environment={},
            )
            for node in cluster.nodes.values():
                mount(cluster.disk(node), stack)
            return stack.enter_context(cluster)

        yield make


def mount(path: Path, stack: ExitStack) -> None:
    path.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=0700", "tmpfs", str(path)]
    try:
        subprocess.run(["mount", *options], check=True, capture_output=True, timeout=20)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"a disk of its own takes a mount, and that is refused: {error}")
    stack.callback(subprocess.run, ["umount", str(path)], check=True, timeout=20)


def submit(client: RawClient) -> str:
    """Submit a task; return "" or the code of the refusal."""
    kind, answer = client.request(SUBMIT_TASK, new_task_id(), "default", "x", b"x" * 100, {})
    if kind == NACK:
        assert answer[2] is not None, "a refusal that passes says when to try again"
    return "" if kind == ACK else str(answer[0])


def register(client: RawClient) -> int:
    session: int = client.request(REGISTER_WORKER, new_task_id(), "w", ["default"], {})[1][0]
    return session


def run_one(client: RawClient, session: int) -> None:
    """Claim and complete a task."""
    [[grant]] = client.request(CLAIM_TASK, session, ["default"], 1, 5_000)[1]
    assert client.request(TASK_RESULT, grant[0], grant[1], 0, b"ok", "")[0] == ACK


def test_a_single_node_on_a_full_disk_finishes_what_it_has(make_disks: Clusters) -> None:
    cluster = make_disks(1)
    node = cluster.start()
    cluster.wait_ballast(node)
    with RawClient(node.client_address) as client:
        session = register(client)
        assert {submit(client) for _ in range(50)} == {""}
        run_one(client, session)

        cluster.fill(node, leave_mib=LOW_MIB - 8)
        cluster.wait_low(node)
        assert submit(client) == "DISK_FULL"
        run_one(client, session)
        assert cluster.ballast_mib(node) == BALLAST_MIB

        cluster.fill(node, leave_mib=0)
        run_one(client, session)
        assert cluster.ballast_mib(node) == 0, "nothing made room for the result"
        assert submit(client) == "DISK_FULL"
        for _ in range(20):
            run_one(client, session)

        cluster.free(node)
        cluster.wait_low(node, low=False)
        assert submit(client) == ""
        cluster.wait_ballast(node)
        for _ in range(28):
            run_one(client, session)


def test_a_node_starts_on_a_full_disk_for_as_long_as_it_has_ballast(make_disks: Clusters) -> None:
    cluster = make_disks(1)
    node = cluster.start()
    cluster.wait_ballast(node)
    with RawClient(node.client_address) as client:
        assert {submit(client) for _ in range(5)} == {""}
    node.kill()
    cluster.fill(node, leave_mib=0)
    cluster.start()
    with RawClient(node.client_address) as client:
        assert submit(client) == "DISK_FULL"
        run_one(client, register(client))
    node.kill()
    cluster.fill(node, leave_mib=0)
    node.start()
    assert node.wait(timeout_s=20) == 1
    assert "no space left" in node.output()
    cluster.free(node)
    cluster.start()
    with RawClient(node.client_address) as client:
        assert submit(client) == ""
        session = register(client)
        for _ in range(5):
            run_one(client, session)


def test_three_nodes_refuse_new_tasks_when_the_leader_or_most_disks_are_full(
    make_disks: Clusters,
) -> None:
    cluster = make_disks(3)
    leader = cluster.start()
    others = [node for node in cluster.nodes.values() if node is not leader]
    cluster.wait_ballast(leader, *others)
    with RawClient(leader.client_address) as client:
        session = register(client)
        assert {submit(client) for _ in range(30)} == {""}

        cluster.fill(others[0], leave_mib=0)
        run_one(client, session)
        assert submit(client) == "", "one of three is full, and not the leader"
        cluster.fill(others[1], leave_mib=0)
        cluster.wait_low(leader)
        assert submit(client) == "DISK_FULL"
        run_one(client, session)
        cluster.fill(leader, leave_mib=0)
        for _ in range(5):
            run_one(client, session)
        assert submit(client) == "DISK_FULL"

        for node in cluster.nodes.values():
            cluster.free(node)
        for node in cluster.nodes.values():
            cluster.wait_low(node, low=False)
        assert submit(client) == ""
        for _ in range(24):
            run_one(client, session)
    cluster.wait_ballast(leader, *others)
    equal_digests(cluster)


@pytest.mark.parametrize("size", [1, 3])
def test_a_disk_that_is_full_all_at_once_ends_no_node_while_there_is_ballast(
    make_disks: Clusters, size: int
) -> None:
    """The last of the room goes at once, between two looks, while marks and results are written."""
    cluster = make_disks(size)
    leader = cluster.start()
    nodes = list(cluster.nodes.values())
    with RawClient(leader.client_address) as client:
        session = register(client)
        for number in range(ROUNDS):
            cluster.wait_ballast(*nodes)
            assert {submit(client) for _ in range(3)} == {""}
            for node in nodes:
                cluster.fill(node, leave_mib=BALLAST_MIB // 2 + 4)
            for node in nodes:
                cluster.fill(node, leave_mib=0, name="lost+more")
            if number % 2:
                cluster.wait_ballast(*nodes, mib=0)  # nothing is written but marks
            for _ in range(3):
                run_one(client, session)
            cluster.wait_ballast(*nodes, mib=0)
            for node in nodes:
                cluster.free(node)
            for node in nodes:
                cluster.wait_low(node, low=False)
            cluster.wait_for(lambda: submit(client) == "" or None, what="new tasks taken")
            run_one(client, session)
    equal_digests(cluster)
