"""What a node says of itself: the map of NODE_STATUS and `/status`, and figures for metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from cluster.interface import PeerStatus, Status
from node.metrics import TIERS, TaskFacts
from statemachine import Machine

_TOTALS = {
    "submitted": "submitted",
    "completed": "completed",
    "failed": "failed",
    "lost": "lost",
    "dead_letter": "dead",
    "cancelled": "cancelled",
}
"""Name of a metric's outcome -> name in the machine's statistics."""


def node_status(
    status: Status,
    machine: Machine,
    *,
    addresses: Mapping[int, tuple[str, str]],
    version: str,
    connections: int,
) -> dict[str, object]:
    """Return the map of NODE_STATUS; plain values only.

    Args:
        status: Of the consensus engine.
        machine: For its digest and log time.
        addresses: (client, HTTP) address by node, this one included.
        version: Of the server.
        connections: Open client connections.
    """
    index, chain = machine.digest_chain
    known = sorted(status.members.items())
    client_address, http_address = addresses.get(status.node_id, ("", ""))
    return {
        "node_id": status.node_id,
        "cluster_id": status.cluster_id.hex(),
        "version": version,
        "role": status.role,
        "term": status.term,
        "leader_id": status.leader_id,
        "commit_index": status.commit_index,
        "applied_index": status.applied_index,
        "first_index": status.first_index,
        "last_index": status.last_index,
        "digest": chain.hex(),
        "digest_index": index,
        "log_time_ms": machine.log_time_ms,
        "voters": list(status.voters),
        "learners": list(status.learners),
        "configuration_index": status.configuration_index,
        "members": {str(peer): f"{_host(host)}:{port}" for peer, (host, port) in known},
        "client_address": client_address,
        "http_address": http_address,
        "connections": connections,
        "leader_changes": status.leader_changes,
        "snapshots_sent": status.snapshots_sent,
        "snapshots_installed": status.snapshots_installed,
        "fsyncs": status.fsyncs,
        "amnesiac": status.amnesiac,
        "peers": [
            _peer(peer_id, peer, addresses.get(peer_id, ("", "")), leads=status.role == "leader")
            for peer_id, peer in sorted(status.peers.items())
        ],
    }


def _peer(
    peer_id: int, peer: PeerStatus, addresses: tuple[str, str], *, leads: bool
) -> dict[str, object]:
    """Return what is known of a peer; how far it is only a leader can know."""
    client_address, http_address = addresses
    known: dict[str, object] = {
        "node_id": peer_id,
        "client_address": client_address,
        "http_address": http_address,
        "connected": peer.connected,
        "last_seen_ms": peer.last_seen_ms,
        "amnesiac": peer.amnesiac,
        "voter": peer.voter,
    }
    if leads:
        known |= {"match_index": peer.match_index, "lag": peer.lag}
    return known


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def task_facts(machine: Machine) -> TaskFacts:
    """Return the machine's figures in the shape metrics take them."""
    told = cast("dict[str, Any]", machine.statistics())
    return TaskFacts(
        totals={name: told["totals"][key] for name, key in _TOTALS.items()},
        pending=told["states"]["pending"],
        in_progress=told["states"]["in_progress"],
        workers=told["workers"],
        depths=[(_label(queue), tier, queue[tier]) for queue in told["queues"] for tier in TIERS],
    )


def _label(queue: Mapping[str, Any]) -> str:
    namespace, name = queue["namespace"], queue["queue"]
    return str(name) if namespace == "default" else f"{namespace}/{name}"
