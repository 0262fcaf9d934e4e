"""What the broker is given: consensus, clocks, figures to count, rules of the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cluster.addresses import Address
from cluster.configuration import AddLearner, Change, Configuration
from cluster.interface import LogHashes, Status
from node.gate import Gate
from node.lookout import Seen


class Consensus(Protocol):
    """What the broker asks of the replica."""

    def propose(self, entry: bytes, decoded: object, context: object) -> object:
        """Append an entry."""

    def read_barrier(self, context: object) -> object:
        """Prove that this node leads."""

    def change_members(self, change: Change, context: object) -> object:
        """Add, promote or remove a member of the cluster."""


class Observer(Protocol):
    """Where figures go that can only be seen as they happen (`node.metrics.Metrics`)."""

    def count_request(self, type_name: str, code: str) -> None:
        """Count one answer."""

    def observe_run(self, run_ms: int) -> None:
        """Count the time of one attempt."""


@dataclass(frozen=True)
class Surroundings:
    """What the broker is told of the world around it.

    Attributes:
        now_s: The monotonic clock, seconds.
        wall_ms: The wall clock, milliseconds since the Unix epoch; 0 while it is not known.
        schedule: Runs a callback soon in the event loop.
        client_address: The client address of a node, "" if unknown.
        node_status: The map of NODE_STATUS.
        welcome: What HELLO is told besides the leader, the claim bound and the sizes.
        applied_index: Where the machine stands.
        log_hashes: Checksums of the log: (from index, how many) -> a piece of it.
        role_changed: Told when the role, the term or the known leader changed.
        peer_addresses: Peer address by member of the cluster.
        reachable: Says why nodes cannot reach each other at a peer address, "" if they can.
        look: Looks whether a node waits where it is said to; calls back.
        members_changed: Told of the configuration in force and the index of its entry.
        removed: Told, once, of the entry that has removed this node from its cluster.
        disk_low: Says whether the disk has no room for new tasks.
        fatal: Ends the process.
        gate: Lets clients in; everybody unless given.
    """

    now_s: Callable[[], float]
    wall_ms: Callable[[], int]
    schedule: Callable[[Callable[[], None]], object]
    client_address: Callable[[int], str]
    node_status: Callable[[], Mapping[str, object]]
    welcome: Callable[[], Mapping[str, object]]
    applied_index: Callable[[], int]
    role_changed: Callable[[Status], None]
    fatal: Callable[[str], None]
    members_changed: Callable[[Configuration, int], None] = lambda _configuration, _index: None
    removed: Callable[[int], None] = lambda _index: None
    peer_addresses: Callable[[], Mapping[int, Address]] = dict
    reachable: Callable[[Address], str] = lambda _address: ""
    look: Callable[[AddLearner, Seen], None] = lambda _change, seen: seen(None)
    disk_low: Callable[[], bool] = lambda: False
    log_hashes: Callable[[int, int], LogHashes] = lambda _start, _limit: LogHashes(1, 0, [])
    gate: Gate = field(default_factory=Gate)


@dataclass(frozen=True)
class Rules:
    """What the file says of the broker; times in seconds.

    Attributes:
        node_id: This node.
        payload_max_bytes: Largest payload or result.
        compaction_s: Time between two retention sweeps.
        seed: Replicated settings for a new cluster.
    """

    node_id: int
    payload_max_bytes: int = 10 * 1024 * 1024
    compaction_s: float = 3600.0
    seed: dict[str, int] = field(default_factory=dict)
