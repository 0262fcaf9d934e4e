"""Who is hit."""

from __future__ import annotations

import random
from typing import Literal

from chaos.cluster import ChaosCluster
from chaos.nodes import ChaosNode

Who = Literal["leader", "follower", "node", "minority", "majority", "all"]


async def choose(cluster: ChaosCluster, who: Who, rng: random.Random) -> list[ChaosNode]:
    """Return the nodes that are hit, in an order drawn from the stream.

    A minority or majority is as large, or as small, as it can be; the leader may be in it.

    Raises:
        ClusterError: There is no leader to tell by.
    """
    nodes = list(cluster.nodes.values())
    rng.shuffle(nodes)
    quorum = len(nodes) // 2 + 1
    if who == "all":
        return nodes
    if who == "node":
        return nodes[:1]
    if who == "minority":
        return nodes[: max(1, len(nodes) - quorum)]
    if who == "majority":
        return nodes[:quorum]
    leader = await cluster.wait_leader()
    return [leader] if who == "leader" else [node for node in nodes if node is not leader][:1]
