"""Who a replica is, where it keeps its data and where it meets its peers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cluster.interface import Timing
from cluster.link import Limits
from cluster.space import NOTHING_KEPT, SpaceLimits
from cluster.tls import PeerTls
from cluster.transport import Address


@dataclass(frozen=True)
class ReplicaConfig:
    """Who a replica is and where.

    Attributes:
        node_id: This node; a key of `addresses`.
        addresses: Where each voter of a new cluster listens for peers, as the cluster knows
            it; with `joins`, where members of a running cluster do, and this node. A cluster
            of one starts alone at once.
        data_dir: The node's directory.
        families: The machine's families.
        peer_addresses: Where this node reaches some of them instead (proxies, NAT).
        bind: Where this node listens, its entry of `addresses` unless given.
        client_address: Told to the peers: where this node's clients connect (host:port).
        http_address: Told to the peers: where its HTTP interface listens (host:port).
        timing: Durations of the engine.
        limits: Bounds of the connections.
        joins: Wait to be let into a running cluster, rather than found one.
        space: What is kept free on the disk.
        loopback_only: See `cluster.transport.PeerTransport`.
        tls: Certificates for the connections with the peers; None speaks in the clear.
    """

    node_id: int
    addresses: Mapping[int, Address]
    data_dir: Path
    families: Sequence[str]
    peer_addresses: Mapping[int, Address] = field(default_factory=dict)
    bind: Address | None = None
    client_address: str = ""
    http_address: str = ""
    timing: Timing = field(default_factory=Timing)
    limits: Limits = field(default_factory=Limits)
    joins: bool = False
    space: SpaceLimits = NOTHING_KEPT
    loopback_only: bool = True
    tls: PeerTls | None = None

    @property
    def voters(self) -> tuple[int, ...]:
        """Ids of those who found the cluster, ascending; none where this node joins one."""
        return () if self.joins else tuple(sorted(self.addresses))
