"""Members that come and go on real processes under load: nothing accepted is lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.handover import handed_over
from cluster.certificates import node_uri
from deploy.local.cluster import LocalCluster, LocalNode
from node.certificates import certificates as commands
from tests.process.commands import tq_node
from tests.process.conftest import ClusterMaker
from tests.process.load import Load, wait_all_completed
from tests.process.replicas import equal_digests
from tests.support.ports import free_ports
from tq import ChangeRefused, Client

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

DEADLINE_S = 90.0
STEADY = 100
"""So many more tasks are accepted between two events: the service goes on after each."""

log = logging.getLogger(__name__)
"""`--log-cli-level=info` shows the figures of a run."""


def a_load(cluster: LocalCluster) -> Load:
    """A load that goes on until it is told that it is enough."""
    return Load(cluster.servers, total=200_000, seconds=800.0, workers=20, hold_s=0.2, producers=3)


async def until(condition: Callable[[], object], cluster: LocalCluster, what: str) -> None:
    """Wait until something is so, and leave the event loop to the load meanwhile."""
    await asyncio.to_thread(
        cluster.wait_for, lambda: condition() or None, what=what, timeout_s=DEADLINE_S
    )


async def persist(change: Callable[[], Awaitable[int]]) -> int:
    """Ask for a change until it is done; return how often it was refused for now."""
    refusals = 0
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                await change()
            except ChangeRefused as refusal:
                if refusal.code not in {"NOT_CAUGHT_UP", "QUORUM_AT_RISK"}:
                    raise
                refusals += 1
                await asyncio.sleep(0.1)
            else:
                return refusals


async def let_in(cluster: LocalCluster, node_id: int) -> LocalNode:
    """Start one more node, add it while it waits, and promote it."""
    node = cluster.join(node_id)
    await until(lambda: "is not a member yet" in node.output(), cluster, "word that it must wait")
    async with Client(cluster.servers, deadline=DEADLINE_S) as client:
        await client.add_node(node_id, node.peer_address)
        refusals = await persist(lambda: client.promote_node(node_id))
    await until(lambda: node.http("/readyz")[0] == 200, cluster, "readiness of the new node")
    log.info("node %d is a voter; it had not caught up %d times before", node_id, refusals)
    return node


async def refuse_a_node_that_is_not_there(cluster: LocalCluster) -> None:
    """Ask for one at an address where nobody listens: it does not become a hole in the cluster."""
    nowhere = f"127.0.0.1:{free_ports(1)[0]}"
    async with Client(cluster.servers, deadline=DEADLINE_S) as client:
        with pytest.raises(ChangeRefused, match=f"node 4 does not answer at {nowhere}") as refused:
            await client.add_node(4, nowhere)
    assert refused.value.code == "NOT_WAITING"


async def remove(cluster: LocalCluster, node: LocalNode) -> None:
    """Remove a node, the leader or another."""
    started_at = time.monotonic()
    async with Client(cluster.servers, deadline=DEADLINE_S) as client:
        await persist(lambda: client.remove_node(node.node_id))
    log.info("node %d removed in %.3f s", node.node_id, time.monotonic() - started_at)


@contextlib.asynccontextmanager
async def workers(load: Load) -> AsyncIterator[None]:
    """Run the load's workers as long as the block lasts."""
    running = asyncio.create_task(load.work())
    try:
        yield
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def run(cluster: LocalCluster, load: Load, nemesis: Callable[[], Awaitable[None]]) -> None:
    """Have a load for as long as a nemesis is at work, then check what was promised."""

    async def trouble() -> None:
        await load.more(STEADY)
        await nemesis()
        await load.more(STEADY)
        load.enough.set()

    async with workers(load):
        await asyncio.gather(load.produce(), trouble())
        other = await wait_all_completed(cluster.servers, load.accepted)
    assert load.offered == len(load.accepted) < load.total
    assert {} == other
    assert {} == {task_id: n for task_id, n in load.completed.items() if n != 1}
    async with Client(cluster.servers) as client:
        totals = (await client.stats())["totals"]
    assert (load.offered, load.offered) == (totals["submitted"], totals["completed"])
    index, digest = await asyncio.to_thread(equal_digests, cluster)
    log.info("%d tasks, digest %s at index %d", load.offered, digest.hex()[:16], index)


def members(cluster: LocalCluster, node_id: int) -> tuple[list[int], list[int]] | None:
    """Return voters and learners as a node knows them."""
    status = cluster.nodes[node_id].status()
    return None if status is None else (status["voters"], status["learners"])


# --------------------------------------------------------------------- certificates


def certify(directory: Path) -> None:
    """Make an authority and the certificates of three nodes, by the commands."""
    asked: list[tuple[str, ...]] = [("authority", str(directory))]
    asked += [("issue", str(directory), "--id", str(node_id)) for node_id in (1, 2, 3)]
    for arguments in asked:
        done = CliRunner().invoke(commands, arguments)
        assert done.exit_code == 0, done.output


def shown(node: LocalNode, directory: Path, *, as_node: int | None) -> str:
    """Connect to the peer port of a node and return whom its certificate names.

    Args:
        node: To talk to.
        directory: Where the certificates are.
        as_node: Whose certificate to show; none at all if None.

    Raises:
        ssl.SSLError: It hangs up on whom it does not trust.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # a certificate names a node, not a place
    context.load_verify_locations(directory / "ca.pem")
    if as_node is not None:
        context.load_cert_chain(
            directory / f"node-{as_node}.pem", directory / f"node-{as_node}.key"
        )
    with (
        socket.create_connection(("127.0.0.1", node.ports.raft), timeout=DEADLINE_S) as plain,
        context.wrap_socket(plain) as link,
    ):
        assert link.version() == "TLSv1.3"
        certificate: dict[str, Any] | None = link.getpeercert()
        assert certificate is not None
        if as_node is None:
            link.recv(1)  # what it thinks of the missing certificate comes after the handshake
    names = dict(certificate["subjectAltName"])
    assert list(names) == ["URI"]
    return str(names["URI"])


def assert_mutual_tls(cluster: LocalCluster, directory: Path) -> None:
    """Show that every node proves who it is, and talks to nobody who does not."""
    for node_id, node in cluster.nodes.items():
        other = next(known for known in cluster.nodes if known != node_id)
        assert shown(node, directory, as_node=other) == node_uri(node_id)
        with pytest.raises(ssl.SSLError, match="certificate required"):
            shown(node, directory, as_node=None)


# --------------------------------------------------------------------------- the tests


async def test_with_mutual_tls_leadership_is_handed_over_a_node_joins_and_the_leader_is_removed(
    tmp_path: Path, make_cluster: ClusterMaker
) -> None:
    certificates = tmp_path / "cluster" / "certificates"
    certify(certificates)
    cluster = make_cluster(tls=True)
    await asyncio.to_thread(cluster.start)
    load = a_load(cluster)
    gone: list[LocalNode] = []

    async def nemesis() -> None:
        stopped = await asyncio.to_thread(cluster.wait_leader)
        assert await asyncio.to_thread(stopped.stop) == 0
        successor = await asyncio.to_thread(cluster.wait_leader)
        took_ms = handed_over(stopped.output(), to=successor.node_id)
        assert took_ms is not None, cluster.tails()
        log.info("node %d handed over in %.1f ms", stopped.node_id, took_ms)
        await load.more(STEADY)
        stopped.start()
        await refuse_a_node_that_is_not_there(cluster)
        fourth = ("certificates", "issue", str(certificates), "--id", "4")
        issued = await asyncio.to_thread(tq_node, *fourth)
        assert issued.returncode == 0, issued.stderr
        await let_in(cluster, 4)
        await asyncio.to_thread(cluster.wait_ready)
        assert_mutual_tls(cluster, certificates)
        await load.more(STEADY)
        leader = await asyncio.to_thread(cluster.wait_leader)
        await remove(cluster, leader)
        assert await asyncio.to_thread(leader.wait, timeout_s=DEADLINE_S) == 0
        gone.append(leader)

    await run(cluster, load, nemesis)

    [removed] = gone
    assert '"event": "node_removed"' in removed.output()
    left = sorted({1, 2, 3, 4} - {removed.node_id})
    assert [(left, [])] * 3 == [members(cluster, node_id) for node_id in left]

    removed.start()
    assert await asyncio.to_thread(removed.wait, timeout_s=DEADLINE_S) == 1
    assert f"node {removed.node_id} was removed from cluster" in removed.output()


async def test_a_dead_node_whose_disk_is_lost_is_replaced_under_load(
    make_cluster: ClusterMaker,
) -> None:
    # Few entries are kept, so the new node is sent a snapshot; and in the clear, as on one host.
    cluster = make_cluster(configuration="raft: {snapshot_interval: 100, log_tail: 64KiB}\n")
    await asyncio.to_thread(cluster.start)
    load = a_load(cluster)

    async def nemesis() -> None:
        leader = await asyncio.to_thread(cluster.wait_leader)
        await until(lambda: log_begins(leader) > 1, cluster, "a log without its beginning")
        dead = next(node for node in cluster.nodes.values() if node is not leader)
        dead.kill()
        shutil.rmtree(dead.data_dir)
        await remove(cluster, dead)
        del cluster.nodes[dead.node_id]
        await let_in(cluster, 4)

    await run(cluster, load, nemesis)

    voters = sorted(cluster.nodes)
    assert 4 in voters
    assert [(voters, [])] * 3 == [members(cluster, node_id) for node_id in voters]
    status = cluster.nodes[4].status()
    assert status is not None
    assert (status["amnesiac"], status["snapshots_installed"] > 0) == (False, True)


def log_begins(node: LocalNode) -> int:
    """Return the index of the first entry that a node keeps."""
    status = node.status()
    return 0 if status is None else int(status["first_index"])
