"""Real nodes that speak TLS with each other, and real nodes that must not get in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from cluster.certificates import issue, make_authority, read_facts
from cluster.tls import today
from deploy.local.cluster import LocalCluster, LocalNode
from tests.process.commands import tq_node

pytestmark = pytest.mark.process


def refusals(node: LocalNode) -> dict[str, float]:
    """Refused connections of a node by reason, where there were any."""
    _, text = node.http("/metrics")
    found = {}
    for line in text.splitlines():
        if line.startswith("tq_peer_refusals_total{"):
            reason, value = line.split('"')[1], float(line.split()[-1])
            if value:
                found[reason] = value
    return found


def replace_flag(arguments: Sequence[str], flag: str, value: str) -> list[str]:
    changed = list(arguments)
    changed[changed.index(flag) + 1] = value
    return changed


def test_three_nodes_with_certificates_survive_their_leader_and_refuse_a_stranger(
    tmp_path: Path,
) -> None:
    with LocalCluster(tmp_path, tls=True) as cluster:
        leader = cluster.start()
        for node in cluster.nodes.values():
            assert refusals(node) == {}
            assert "tq_certificate_expiry_timestamp_seconds" in node.http("/metrics")[1]
        leader.kill()
        follower = cluster.wait_leader()
        assert follower is not leader
        leader.start()
        cluster.wait_ready()

        # The same node, with a certificate that another authority has issued.
        stranger = tmp_path / "stranger"
        make_authority(stranger, now=today())
        files = issue(stranger, 3, days=5, now=today())
        ours = tmp_path / "certificates" / "ca.pem"
        three = cluster.nodes[3]
        three.kill()
        good = three.arguments
        three.arguments = replace_flag(
            good, "--tls", f"ca={ours},certificate={files.certificate},key={files.key}"
        )
        three.start()
        text = f"refuses this node's certificate {files.certificate}"
        cluster.wait_for(lambda: text in three.output() or None, what="the reason at node 3")
        cluster.wait_leader()
        one = cluster.nodes[1]
        cluster.wait_for(lambda: "certificate" in refusals(one) or None, what="a count at node 1")
        assert "shows a certificate that no authority in" in one.output()
        three.kill()
        three.arguments = good
        three.start()
        cluster.wait_ready()


def test_a_node_without_certificates_is_told_how_to_get_them(tmp_path: Path) -> None:
    done = tq_node(
        *("--id", "1", "--data", str(tmp_path / "data")),
        *("--peers", "1=10.1.1.1:7400,2=10.1.1.2:7400,3=10.1.1.3:7400"),
    )
    assert done.returncode == 2
    assert "raft.peers: names 10.1.1.1, which is beyond this host" in done.stderr
    assert "tq-node certificates authority DIR" in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_node_with_an_expired_certificate_does_not_start(tmp_path: Path) -> None:
    ca = tmp_path / "ca"
    made = tq_node("certificates", "authority", str(ca))
    assert made.returncode == 0, made.stderr
    files = issue(ca, 1, days=0, now=today())
    ends = read_facts(files.certificate).ends
    done = tq_node(
        *("--id", "1", "--data", str(tmp_path / "data"), "--peers", "1=127.0.0.1:9,2=127.0.0.1:10"),
        *("--tls", f"ca={ca / 'ca.pem'},certificate={files.certificate},key={files.key}"),
        *("--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"),
    )
    assert done.returncode == 1
    assert f"{files.certificate} has expired on {ends:%Y-%m-%d %H:%M} UTC" in done.stderr


def test_certificates_are_made_on_the_command_line_and_never_twice(tmp_path: Path) -> None:
    ca = str(tmp_path / "ca")
    early = tq_node("certificates", "issue", ca, "--id", "3")
    assert early.returncode != 0
    assert f"make one first with 'tq-node certificates authority {ca}'" in early.stderr
    assert tq_node("certificates", "authority", ca).returncode == 0
    done = tq_node("certificates", "issue", ca, "--id", "3", "--address", "node3.example")
    assert done.returncode == 0
    assert "node-3.pem: good until" in done.stdout
    again = tq_node("certificates", "issue", ca, "--id", "3")
    assert again.returncode != 0
    assert "node-3.pem is there already: move it aside first" in again.stderr
    assert "ca.pem is there already" in tq_node("certificates", "authority", ca).stderr
