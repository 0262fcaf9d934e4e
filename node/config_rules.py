"""What configuration values must not say together.

Each rule is one function from a `Config` to conflicts. A conflict names every key that
takes part, so that a rule stays silent while one of its values is already known to be
wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from cluster.interface import Timing
from node.addresses import Address, is_any_address, is_loopback
from node.config import Config
from node.quantities import Duration

Key = tuple[str, str]

_FRAME_ROOM_BYTES = 64 * 2**10

HEARTBEAT_MAX = Duration(400)
"""With it a leader has asked three times before it counts who has answered."""
_QUORUM_CHECK_S = Timing().check_quorum_s


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
_JOIN: Key = ("raft", "join")
_TOKENS: Key = ("auth", "tokens_file")


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
    if count and count % 2 == 0:
        found.append(
            f"raft.peers: {count} voters bear the loss of {(count - 1) // 2}, no more than "
            f"{count - 1} would: use an odd number"
        )
    if not config.persistence.sync:
        found.append(
            "persistence.sync: false: a power failure or a crash of the system loses tasks "
            "that were accepted"
        )
    if config.raft_listen is None:
        found += [
            f"raft.{key}: has no effect on a single node (raft.peers names no other)"
            for key in ("host", "port", "peer_addresses")
            if ("raft", key) in given
        ]
    return found


def _membership(config: Config, *, given: Collection[Key]) -> Iterator[Conflict]:
    peers, listing = config.listed, _listing(config)
    name = ".".join(listing)
    ids = ", ".join(str(peer) for peer in sorted(peers))
    if config.raft.join and config.raft.peers:
        yield Conflict(
            (_JOIN, _PEERS),
            "raft.join is for a node that comes into a running cluster, raft.peers for the nodes "
            "that found one: give one of the two",
        )
    if set(config.raft.join) == {config.node_id}:
        yield Conflict((_JOIN,), "names this node alone: which members is it to reach?")
    if peers and _NODE_ID not in given:
        yield Conflict((_NODE_ID, listing), f"is missing: which of the peers {ids} is this node?")
    elif peers and config.node_id not in peers:
        yield Conflict((_NODE_ID, listing), f"is {config.node_id}, but {name} lists only {ids}")
    for peer in sorted(set(config.raft.peer_addresses) - set(peers)):
        # Members that came later are in no list.
        if peers and not config.joins:
            text = f"names node {peer}, but raft.peers lists only {ids}"
            yield Conflict((("raft", "peer_addresses"), _PEERS), text)
    seen: dict[tuple[str, int], int] = {}
    for peer, address in sorted(peers.items()):
        other = seen.setdefault(address.key, peer)
        if other != peer:
            yield Conflict((listing,), f"nodes {other} and {peer} have the same address {address}")
    if len(peers) > 1 and not config.persistence.sync:
        yield Conflict(
            (("persistence", "sync"), listing),
            "must be true with more than one node: a node that forgets what it acknowledged or "
            "whom it voted for can lose tasks the whole cluster accepted",
        )


def _listing(config: Config) -> Key:
    """The key whose list of nodes counts."""
    return _JOIN if config.joins else _PEERS


def _loopback(config: Config) -> Iterator[Conflict]:
    for section, listener, host, tls in (
        ("broker", "client", config.broker.host, config.broker.tls),
        ("api", "HTTP", config.api.host, config.api.tls),
    ):
        if is_loopback(host):
            continue
        keys: list[Key] = [(section, "host")]
        missing = []
        if tls is None:
            keys.append((section, "tls"))
            missing.append(
                f"a certificate in {section}.tls ('tq-node certificates issue DIR --id "
                f"{config.node_id} --address HOST' makes one)"
            )
        if config.auth.tokens_file is None:
            keys.append(_TOKENS)
            missing.append(
                "a file of tokens in auth.tokens_file ('tq-node tokens new PRINCIPAL --file FILE' "
                "makes one)"
            )
        if missing:
            yield Conflict(
                tuple(keys),
                f"the {listener} listener would be on {host}, which other machines may reach; that "
                f"needs {' and '.join(missing)}, or use 127.0.0.1, ::1 or localhost",
            )
    yield from _unreachable_answers(config)
    yield from _peers_in_the_clear(config)


def _unreachable_answers(config: Config) -> Iterator[Conflict]:
    """A redirect must name an address that a client can dial."""
    broker = config.broker
    if broker.advertised_address is None and is_any_address(broker.host):
        yield Conflict(
            (("broker", "host"), ("broker", "advertised_address")),
            f"is {broker.host}, every address of this host, and other nodes must tell clients one: "
            "set broker.advertised_address to the HOST:PORT by which clients reach this node",
        )


def _peers_in_the_clear(config: Config) -> Iterator[Conflict]:
    if config.raft.tls is not None:
        return
    listing, node_id = _listing(config), config.node_id
    hosts: list[tuple[tuple[Key, ...], str]] = []
    if config.raft.host is not None:
        hosts.append(((("raft", "host"),), config.raft.host))
    for peer, address in sorted(config.listed.items()):
        # Where the own address is overridden it is for the others to reach.
        if peer != node_id or config.raft.host is None:
            hosts.append(((listing, _NODE_ID), address.host))
    hosts += [
        ((("raft", "peer_addresses"),), address.host)
        for _, address in sorted(config.raft.peer_addresses.items())
    ]
    for keys, host in hosts:
        if not is_loopback(host):
            yield Conflict(
                (*keys, ("raft", "tls")),
                f"names {host}, which is beyond this host, and between hosts nodes must speak "
                "TLS: make certificates with 'tq-node certificates authority DIR' and 'tq-node "
                f"certificates issue DIR --id {node_id}', and name them in raft.tls",
            )
            return  # one is enough to say what is missing


def _ports(config: Config) -> Iterator[Conflict]:
    listeners: list[tuple[tuple[Key, ...], str, Address]] = []
    raft, listing = config.raft_listen, _listing(config)
    if raft is not None:
        keys: tuple[Key, ...] = (("raft", "port"), ("raft", "host"), listing)
        listeners.append((keys, "the Raft listener", raft))
    for peer, address in sorted(config.listed.items()):
        if peer != config.node_id:
            listeners.append(((listing,), f"node {peer}", address))
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
        if other != name and not (keys == other_keys == (listing,)):
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
    if raft.heartbeat_interval > HEARTBEAT_MAX:
        yield Conflict(
            (("raft", "heartbeat_interval"),),
            f"is {raft.heartbeat_interval}, which must be at most {HEARTBEAT_MAX}: a leader that a "
            f"majority has not answered for {_QUORUM_CHECK_S:g}s steps down, so it has to ask more "
            "often than that",
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
