"""Compare the replicas of a cluster: same applied index, same digest."""

from __future__ import annotations

from deploy.local.cluster import LocalCluster
from tests.process.raw_client import ACK, NACK, RawClient

DIGEST = 0x12


def equal_digests(cluster: LocalCluster, *, timeout_s: float = 120) -> tuple[int, bytes]:
    """Wait until all running nodes stand at one applied index; return it and their one digest.

    Raises:
        AssertionError: Two nodes have other digests at the same applied index.
        ClusterError: They did not reach the same index in time.
    """

    def probe() -> tuple[int, bytes] | None:
        seen: dict[int, tuple[int, bytes]] = {}
        leader = cluster.leader()
        # The leader last: a long digest keeps it from leading, and what follows moves the rest.
        for node in sorted(cluster.nodes.values(), key=lambda node: node is leader):
            if node.running:
                digest = node_digest(node.client_address)
                if digest is None:
                    return None
                seen[node.node_id] = digest
        indexes = {index for index, _ in seen.values()}
        if len(indexes) > 1:
            return None
        digests = {digest for _, digest in seen.values()}
        assert len(digests) == 1, f"replicas differ at the same index: {seen}"
        return next(iter(seen.values()))

    return cluster.wait_for(probe, what="equal applied indexes", timeout_s=timeout_s)


def node_digest(address: str) -> tuple[int, bytes] | None:
    """Ask one node for its applied index and the digest over its whole state.

    Returns:
        None while the node rests from the last one, or has closed its port.
    """
    try:
        with RawClient(address) as client:
            kind, answer = client.request(DIGEST)
    except ConnectionError:
        return None
    if kind == NACK and answer[0] == "RATE_LIMITED":
        return None
    assert kind == ACK, answer
    index, digest = answer
    return index, digest
