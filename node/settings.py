"""The configuration in the words of each part that is given a piece of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cluster.disk import RocksDisk
from cluster.interface import Timing
from cluster.replica import ReplicaConfig
from node.addresses import Address
from node.config import Config
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
        addresses=config.raft.peers or {config.node_id: own},
        data_dir=config.data_dir,
        families=FAMILIES,
        peer_addresses=config.raft.peer_addresses,
        bind=own,
        client_address=client_address,
        http_address=http_address,
        timing=Timing(
            election_min_s=shortest.ms / 1000,
            election_max_s=longest.ms / 1000,
            heartbeat_s=config.raft.heartbeat_interval.ms / 1000,
            log_tail_bytes=config.raft.log_tail.bytes,
        ),
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
