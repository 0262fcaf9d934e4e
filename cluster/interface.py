"""What the engine asks of the machine and the disk, and what it tells the node.

Everything here is a Protocol or a plain value, so the engine can be driven by a real
process (`cluster.replica`) and by the simulation alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from cluster.addresses import Address

Record = tuple[str, bytes, bytes | None]
"""(family, key, value); a value of None deletes the key."""

SnapshotRecord = tuple[str, bytes, bytes]
"""(family, key, value) of a snapshot: nothing is deleted in one."""

Families = Callable[[str], Iterator[tuple[bytes, bytes]]]
"""family -> its (key, value) pairs in key order."""

Role = Literal["leader", "follower", "candidate"]
DropReason = Literal["NOT_LEADER", "UNKNOWN_OUTCOME"]
"""NOT_LEADER: certainly not applied, ever. UNKNOWN_OUTCOME: it may still be applied."""

RAFT_LOG = "raft_log"
"""Family of the log: key = entry index (8 bytes, big endian)."""

RAFT_META = "raft_meta"
"""Family of what belongs to this node alone and is never replaced by a snapshot."""

VOTE_KEY = b"vote"
"""raft_meta: current term and the vote given in it (written by the engine)."""

APPLIED_KEY = b"applied"
"""raft_meta: index and term the machine's families stand at (written by the engine)."""

FIRST_KEY = b"first"
"""raft_meta: index and term of the entry before the first one kept (written by the engine)."""

CONFIGURATION_KEY = b"configuration"
"""raft_meta: the configuration as of the log's boundary (written by the engine)."""

AMNESIAC_KEY = b"amnesiac"
"""raft_meta: present while the node may have forgotten votes and entries.

Bootstrap writes it durably before the first message; the engine deletes it.
"""


class Machine(Protocol):
    """The replicated state machine. Deterministic; an exception in it ends the process."""

    @property
    def digest_chain(self) -> tuple[int, bytes]:
        """(index, hash) of the last checkpoint: equal on every replica that reached it."""

    def apply(self, index: int, entry: bytes, decoded: object | None = None) -> object:
        """Apply one committed entry.

        Args:
            index: Position in the log; strictly increasing, with gaps (the engine's own
                no-ops and configurations are not shown to the machine).
            entry: The bytes that were proposed.
            decoded: The same entry as its proposer already decoded it, or None.

        Returns:
            The outcome, opaque to the engine.
        """

    def take_changes(self) -> list[Record] | None:
        """Records changed since the last checkpoint, or None when none is due.

        Called after each apply. When it returns a list, the engine writes these
        records, the applied index and the log truncation in one atomic batch.
        """

    def restore(self, families: Families) -> None:
        """Forget everything and load the state from the durable records."""


class SnapshotReader(Protocol):
    """A consistent view of the machine's families, read chunk by chunk."""

    def next_chunk(self, max_bytes: int) -> list[SnapshotRecord]:
        """The next records, at least one unless at the end; empty at the end.

        Args:
            max_bytes: Keys and values together stay at or below this, unless a single
                record is larger.
        """

    def close(self) -> None:
        """Let go of the view. May be called twice."""


class Disk(Protocol):
    """Durable families of opaque records, as the engine sees them.

    Changes are collected in one pending batch. `write` hands it over atomically; it is
    durable only when the event `Durable` names its sequence number (or a later one).
    After a power loss the disk holds a prefix of the written batches that includes every
    durable one. Any error ends the process: no call may be retried.
    """

    def put(self, family: str, key: bytes, value: bytes) -> None:
        """Add one record to the pending batch."""

    def delete(self, family: str, key: bytes) -> None:
        """Add the removal of one record to the pending batch."""

    def delete_range(self, family: str, start: bytes, end: bytes) -> None:
        """Add the removal of all keys in [start, end) to the pending batch."""

    def write(self) -> int | None:
        """Hand the pending batch to the operating system, unsynced.

        Returns:
            Its sequence number (1, 2, 3, ...), or None when the batch was empty.
        """

    def get(self, family: str, key: bytes) -> bytes | None:
        """The value as of the last written batch."""

    def iterate(self, family: str, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Pairs from `start` on in key order, as of the last written batch."""

    def scan(self, family: str, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Up to `limit` such pairs of a machine's family; soon, whatever was deleted there."""

    def open_snapshot(self) -> SnapshotReader:
        """A view of the machine's families as of the last written batch."""

    def begin_install(self) -> None:
        """Start a new generation of the machine's families; an older attempt is dropped."""

    def add_install(self, records: Sequence[SnapshotRecord]) -> None:
        """Store records in the generation being installed (needs no durability yet).

        Raises:
            KeyError: A family is not one of this node's; nothing was stored.
        """

    def finish_install(self) -> None:
        """Add the switch to the new generation to the pending batch.

        From the next `write` on, `get`, `iterate` and `open_snapshot` see the new
        generation. The records added before are durable no later than that batch.
        """

    def abort_install(self) -> None:
        """Drop a generation that was begun and not finished. Harmless without one."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Durations of the engine in seconds, and the bounds of its buffers in bytes.

    Attributes:
        election_min_s: Shortest silence of the leader before a voter asks for an election.
        election_max_s: Longest one; each wait is drawn between the two.
        heartbeat_s: Interval of empty AppendEntries; below a third of `election_min_s` and of
            `check_quorum_s`.
        check_quorum_s: A leader that a majority has not answered for so long steps down.
        disk_stall_s: A leader whose own disk has not synced for so long steps down.
        fast_min_s: Shortest wait before asking after the leader's connection closed.
        fast_max_s: Longest one.
        fast_window_s: For so long after that close the waits stay short.
        spread_s: How soon an idle leader tells the followers a new commit index.
        append_max_bytes: Entries in one AppendEntries (one larger entry travels alone).
        flight_max_bytes: Unanswered entry bytes per follower.
        flight_max: Unanswered AppendEntries with entries per follower.
        chunk_max_bytes: Records in one snapshot chunk.
        chunk_flight_max: Unanswered snapshot chunks per follower.
        snapshot_stall_s: A snapshot whose follower has not moved on for so long is given
            up and begun anew, so that its view does not keep old files for ever.
        apply_max_bytes: Committed entries shown to the machine in one step, so that a
            backlog does not keep heartbeats waiting (one larger entry is applied alone).
        log_tail_bytes: Applied entries kept for followers that lag a little.
        log_pin_bytes: Entries kept while a snapshot is on its way to a follower.

    Raises:
        ValueError: A leader would count answers it has hardly asked for.
    """

    election_min_s: float = 0.4
    election_max_s: float = 0.8
    heartbeat_s: float = 0.1
    check_quorum_s: float = 1.4
    disk_stall_s: float = 2.0
    fast_min_s: float = 0.010
    fast_max_s: float = 0.060
    fast_window_s: float = 0.6
    spread_s: float = 0.005
    append_max_bytes: int = 4 << 20
    flight_max_bytes: int = 16 << 20
    flight_max: int = 256
    chunk_max_bytes: int = 1 << 20
    chunk_flight_max: int = 2
    snapshot_stall_s: float = 30.0
    apply_max_bytes: int = 256 << 10
    log_tail_bytes: int = 64 << 20
    log_pin_bytes: int = 256 << 20

    def __post_init__(self) -> None:
        """Refuse what would let an idle leader depose itself."""
        if 3 * self.heartbeat_s >= self.check_quorum_s:
            raise ValueError(
                f"heartbeat_s is {self.heartbeat_s}, which must be below a third of "
                f"check_quorum_s ({self.check_quorum_s})"
            )


class LogHashes(NamedTuple):
    """A piece of a log that all nodes must have alike.

    Attributes:
        first_index: First entry still kept.
        last_index: Last entry this node knows to be committed.
        entries: (index, term, CRC-32) of entries between the two, without a gap.
    """

    first_index: int
    last_index: int
    entries: list[tuple[int, int, int]]


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """One other member as this node sees it.

    Attributes:
        connected: A connection to it is open.
        match_index: Highest entry known to be durable there (0 when this node does not lead).
        lag: Entries between it and the end of this log (0 when this node does not lead).
        last_seen_ms: Milliseconds since its last message, None before the first.
        amnesiac: It said it may have forgotten votes and entries.
        voter: It votes and counts; a learner does not.
    """

    connected: bool
    match_index: int
    lag: int
    last_seen_ms: int | None
    amnesiac: bool = False
    voter: bool = True


@dataclass(frozen=True, slots=True)
class Status:
    """The engine at one moment.

    Attributes:
        node_id: This node.
        cluster_id: Identity of the cluster, as given at construction.
        role: What this node is in its current term.
        term: Current term.
        leader_id: Leader of the term, None when unknown.
        commit_index: Highest entry known to be committed.
        leader_commit_index: Highest commit index a leader has told since the start, even
            where this node's log does not reach yet; its own on the leader.
        applied_index: Highest entry applied to the machine.
        last_index: Last entry of the log.
        first_index: First entry still kept.
        voters: All voters of the configuration in force, ascending.
        peers: The other members by id.
        leader_changes: Times a new leader was seen since start.
        snapshots_sent: Snapshots a follower confirmed.
        snapshots_installed: Snapshots installed here.
        fsyncs: Durable reports of the disk.
        amnesiac: This node may have forgotten; it neither votes nor counts.
        learners: Members that do not vote, ascending.
        configuration_index: The entry that put the configuration into force, 0 while it is
            the founding one.
        members: Peer address by member, as the configuration says.
        terms_refused: Messages whose term was too far ahead to be believed.
    """

    node_id: int
    cluster_id: bytes
    role: Role
    term: int
    leader_id: int | None
    commit_index: int
    applied_index: int
    last_index: int
    first_index: int
    voters: tuple[int, ...]
    peers: Mapping[int, PeerStatus] = field(default_factory=dict)
    leader_changes: int = 0
    snapshots_sent: int = 0
    snapshots_installed: int = 0
    fsyncs: int = 0
    amnesiac: bool = False
    leader_commit_index: int = 0
    learners: tuple[int, ...] = ()
    configuration_index: int = 0
    members: Mapping[int, Address] = field(default_factory=dict)
    terms_refused: int = 0


class Listener(Protocol):
    """What the node wants to hear of the replica. Must not raise and not block."""

    def applied(self, index: int, outcome: object, context: object | None) -> None:
        """An entry was applied; called for every one, in order.

        A leader's no-op and a configuration arrive too, with outcome None. Indexes jump when
        a snapshot was installed.

        Args:
            index: Its position.
            outcome: What the machine returned.
            context: The proposer's own, or None when the entry is not this node's proposal.
        """

    def dropped(self, context: object, reason: DropReason) -> None:
        """A proposal will get no outcome here. Each context is answered exactly once."""

    def role_changed(self, status: Status) -> None:
        """Role, term or known leader changed."""

    def fatal(self, text: str) -> None:
        """An invariant is broken; the process must end now."""
