"""What configuration values must not say together.

Each rule is one function from a `Config` to conflicts. A conflict names every key that
takes part, so that a rule stays silent while one of its values is already known to be
wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from node.addresses import Address, is_loopback
from node.config import Config

Key = tuple[str, str]

_FRAME_ROOM_BYTES = 64 * 2**10


class Conflict(NamedTuple):
    """One broken rule.

    Attributes:
        keys: The values that take part; the first is the one to point at.
        text: A sentence that says what is wrong and what would be right.
    """

    keys: tuple[Key, ...]
    text: str


_NODE_ID: Key = ("raft", "node_id")
_PEERS: Key = ("raft", "peers")


def conflicts(config: Config, *, given: Collection[Key]) -> list[Conflict]:
    """Every rule the configuration breaks.

    Args:
        config: Its values are each valid by themselves.
        given: The keys that were set by anyone; the others hold defaults.
    """
    found = [
        *_membership(config, given=given),
        *_loopback(config),
        *_timing(config),
        *_limits(config),
    ]
    # Addresses mean nothing before this node knows which peer it is.
    if not any(_NODE_ID in conflict.keys for conflict in found):
        found += _ports(config)
    return found


def warnings(config: Config, *, given: Collection[Key]) -> list[str]:
    """What is allowed and probably not meant."""
    found = []
    count = len(config.voters)
    if count % 2 == 0:
        found.append(
            f"raft.peers: {count} voters bear the loss of {(count - 1) // 2}, no more than "
            f"{count - 1} would: use an odd number"
        )
    if not config.persistence.sync:
        found.append(
            "persistence.sync: false: a power failure or a crash of the system loses tasks "
            "that were accepted"
        )
    if config.is_single_node:
        found += [
            f"raft.{key}: has no effect on a single node (raft.peers names no other)"
            for key in ("host", "port", "peer_addresses")
            if ("raft", key) in given
        ]
    return found


def _membership(config: Config, *, given: Collection[Key]) -> Iterator[Conflict]:
    peers = config.raft.peers
    ids = ", ".join(str(peer) for peer in sorted(peers))
    if peers and _NODE_ID not in given:
        yield Conflict((_NODE_ID, _PEERS), f"is missing: which of the peers {ids} is this node?")
    elif peers and config.node_id not in peers:
        yield Conflict((_NODE_ID, _PEERS), f"is {config.node_id}, but raft.peers lists only {ids}")
    for peer in sorted(set(config.raft.peer_addresses) - set(peers)):
        if peers:
            text = f"names node {peer}, but raft.peers lists only {ids}"
            yield Conflict((("raft", "peer_addresses"), _PEERS), text)
    seen: dict[tuple[str, int], int] = {}
    for peer, address in sorted(peers.items()):
        other = seen.setdefault(address.key, peer)
        if other != peer:
            yield Conflict((_PEERS,), f"nodes {other} and {peer} have the same address {address}")
    if len(peers) > 1 and not config.persistence.sync:
        yield Conflict(
            (("persistence", "sync"), _PEERS),
            "must be true with more than one node: a node that forgets what it acknowledged or "
            "whom it voted for can lose tasks the whole cluster accepted",
        )


def _loopback(config: Config) -> Iterator[Conflict]:
    hosts: list[tuple[tuple[Key, ...], str]] = [
        ((("broker", "host"),), config.broker.host),
        ((("api", "host"),), config.api.host),
    ]
    if config.raft.host is not None:
        hosts.append(((("raft", "host"),), config.raft.host))
    elif config.node_id in config.raft.peers and not config.is_single_node:
        hosts.append(((_PEERS, _NODE_ID), config.raft.peers[config.node_id].host))
    for keys, host in hosts:
        if not is_loopback(host):
            yield Conflict(
                keys,
                f"this node would listen on {host}, which other machines may reach, and this "
                "version has neither TLS nor authentication: use 127.0.0.1, ::1 or localhost",
            )
    if config.auth.enabled:
        yield Conflict(
            (("auth", "enabled"),),
            "this version has no authentication: it must be false, or clients would believe in "
            "a protection that is not there",
        )


def _ports(config: Config) -> Iterator[Conflict]:
    listeners: list[tuple[tuple[Key, ...], str, Address]] = []
    raft = config.raft_listen
    if raft is not None:
        keys: tuple[Key, ...] = (("raft", "port"), ("raft", "host"), _PEERS)
        listeners.append((keys, "the Raft listener", raft))
    for peer, address in sorted(config.raft.peers.items()):
        if peer != config.node_id:
            listeners.append(((_PEERS,), f"node {peer}", address))
    listeners.append(
        ((("broker", "port"), ("broker", "host")), "the client listener", config.client_listen)
    )
    listeners.append(((("api", "port"), ("api", "host")), "the HTTP listener", config.http_listen))
    seen: dict[tuple[str, int], tuple[str, tuple[Key, ...]]] = {}
    for keys, name, address in listeners:
        if address.port == 0:
            continue
        other, other_keys = seen.setdefault(address.key, (name, keys))
        # Peers among themselves are a rule of their own.
        if other != name and not (keys == other_keys == (_PEERS,)):
            yield Conflict(
                (*keys, *other_keys), f"{address} is used twice: by {other} and by {name}"
            )


def _timing(config: Config) -> Iterator[Conflict]:
    raft = config.raft
    patience = raft.election_timeout[0]
    if patience.ms <= 3 * raft.heartbeat_interval.ms:
        yield Conflict(
            (("raft", "election_timeout"), ("raft", "heartbeat_interval")),
            f"starts at {patience}, which must be more than three times raft.heartbeat_interval "
            f"({raft.heartbeat_interval}): late heartbeats would depose a healthy leader",
        )
    lease, beat = config.broker.worker_lease_timeout, config.worker.heartbeat_interval
    if lease.ms < 2 * beat.ms:
        yield Conflict(
            (("broker", "worker_lease_timeout"), ("worker", "heartbeat_interval")),
            f"is {lease}, which must be at least twice worker.heartbeat_interval ({beat}): one "
            "late heartbeat would cost a healthy worker its tasks",
        )


def _limits(config: Config) -> Iterator[Conflict]:
    broker = config.broker
    if broker.payload_max.bytes + _FRAME_ROOM_BYTES > broker.frame_max.bytes:
        yield Conflict(
            (("broker", "payload_max"), ("broker", "frame_max")),
            f"is {broker.payload_max}, which must leave 64KiB of broker.frame_max "
            f"({broker.frame_max}) for everything around it",
        )
