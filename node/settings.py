"""The configuration in the words of each part that is given a piece of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cluster.disk import RocksDisk
from cluster.interface import Timing
from cluster.replica import Replica, ReplicaConfig
from cluster.space import SpaceLimits
from cluster.tls import PeerTls, TlsFiles, today
from node.addresses import Address, is_any_address, is_loopback
from node.config import Config
from node.peer_facts import PeerFacts
from node.session import Limits
from node.surroundings import Rules
from statemachine import FAMILIES


def rules(config: Config) -> Rules:
    """Return what the broker is told; the seed holds every replicated setting of the file."""
    broker, persistence = config.broker, config.persistence
    return Rules(
        node_id=config.node_id,
        payload_max_bytes=broker.payload_max.bytes,
        compaction_s=persistence.compaction_interval.ms / 1000,
        seed={
            "queue_depth_threshold": broker.queue_depth_threshold,
            "retention_ms": persistence.completed_task_retention.ms,
            "claim_max": broker.batch_claim_size,
            "lease_ms": broker.worker_lease_timeout.ms,
            "checkpoint_entries_max": config.raft.snapshot_interval,
        },
    )


def worker_defaults(config: Config) -> dict[str, int]:
    """Return what HELLO tells workers that were told nothing themselves."""
    worker = config.worker
    return {
        "concurrency": worker.concurrency,
        "heartbeat_ms": worker.heartbeat_interval.ms,
        "shutdown_ms": worker.shutdown_timeout.ms,
    }


def limits(config: Config) -> Limits:
    """Return the bounds of the client port."""
    return Limits(
        connections_max=config.broker.max_connections,
        frame_max_bytes=config.broker.frame_max.bytes,
    )


def peer_tls(config: Config) -> PeerTls | None:
    """Return the certificates for the connections between nodes, None to speak in the clear.

    Raises:
        CertificateError: One of them cannot be used.
    """
    files = config.raft.tls
    if files is None:
        return None
    return PeerTls(config.node_id, TlsFiles(*files), now=today())


def advertised_http(config: Config, bound: Address) -> Address:
    """Return where others reach the HTTP listener; a client address that is told helps out."""
    known = config.broker.advertised_address
    if known is not None and is_any_address(bound.host):
        return Address(known.host, bound.port)
    return bound


def peer_facts(replica: Replica, *, ends_s: Sequence[float] = ()) -> PeerFacts:
    """Return what metrics tell of a replica's peers.

    Args:
        replica: It knows them.
        ends_s: Until when the certificates of other ports are good, seconds since the epoch.
    """
    tls = replica.tls
    ends_s = [*ends_s, *([] if tls is None else [tls.ends.timestamp()])]
    return PeerFacts(
        refusals=replica.refusal_counts(),
        terms_refused=replica.status().terms_refused,
        alarms=replica.alarms(),
        certificate_ends_s=min(ends_s, default=None),
    )


def replica_config(config: Config, *, client_address: str, http_address: str) -> ReplicaConfig:
    """Return who and where the replica is.

    Args:
        config: Of the node.
        client_address: Where clients reach the node.
        http_address: Where its HTTP listener is bound.
    """
    shortest, longest = config.raft.election_timeout
    own = config.raft_listen or Address("127.0.0.1", 0)
    return ReplicaConfig(
        node_id=config.node_id,
        addresses=config.raft.join or config.raft.peers or {config.node_id: own},
        data_dir=config.data_dir,
        families=FAMILIES,
        joins=config.joins,
        peer_addresses=config.raft.peer_addresses,
        bind=own,
        client_address=client_address,
        http_address=http_address,
        tls=peer_tls(config),
        timing=Timing(
            election_min_s=shortest.ms / 1000,
            election_max_s=longest.ms / 1000,
            heartbeat_s=config.raft.heartbeat_interval.ms / 1000,
            log_tail_bytes=config.raft.log_tail.bytes,
        ),
        space=space_limits(config),
    )


def unreachable(config: Config, address: Address) -> str:
    """Say why this node and a peer at an address could not reach each other, "" if they could."""
    if config.raft_listen is None:
        return (
            f"node {config.node_id} listens to no peers: start it again with --peers "
            f"{config.node_id}=HOST:PORT"
        )
    if not config.persistence.sync:
        return (
            f"node {config.node_id} runs with persistence.sync: false, which only a single node "
            "may: start it again without"
        )
    if config.raft.tls is None and not is_loopback(address.host):
        return (
            f"{address} is beyond this host, and node {config.node_id} has no certificates: "
            "between hosts nodes speak TLS (raft.tls)"
        )
    return ""


def space_limits(config: Config) -> SpaceLimits:
    """Return what is kept free on the disk."""
    low = config.persistence.disk_low
    return SpaceLimits(
        ballast_bytes=config.persistence.ballast.bytes,
        low_bytes=None if low is None else low.bytes,
    )


class _UnsyncedDisk(RocksDisk):
    """A database that leaves the time of its syncs to the operating system.

    It survives the end of this process, not a power cut: for throw-away nodes only.
    """

    def sync(self) -> int:
        """Claim that everything written is durable."""
        return self.sequence


def open_disk(path: Path, families: Sequence[str], *, sync: bool) -> RocksDisk:
    """Open the database of a node.

    Args:
        path: Its directory.
        families: The machine's families.
        sync: Whether an answer waits for the disk.
    """
    return RocksDisk(path, families) if sync else _UnsyncedDisk(path, families)
