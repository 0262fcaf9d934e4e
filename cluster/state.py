"""What the parts of the engine share: its fields, and the moves all of them make.

`Election`, `Replication`, `Snapshots` and `Reads` extend this class and meet again in
`cluster.engine.Engine`. None of them imports PySyncObj, and none has a clock: `now` is the
time of the step being taken.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Final

from cluster.events import Ready
from cluster.interface import Disk, Machine, Record, SnapshotReader, Timing
from cluster.log import NO_OP, Log
from cluster.messages import Message

FOLLOWER: Final = 0
CANDIDATE: Final = 1
LEADER: Final = 2

PROBE: Final = "probe"
REPLICATE: Final = "replicate"
SNAPSHOT: Final = "snapshot"

NEVER: Final = float("-inf")


class InvariantBroken(Exception):  # noqa: N818  # it names what was found, not an act
    """What must hold does not: memory, disk and the cluster may disagree. The node halts."""


class Outgoing:
    """A snapshot on its way to one follower.

    Attributes:
        snapshot_id: Unique within the leader's term.
        reader: The view it is read from.
        index: Last entry it contains.
        term: Its term.
        number: The next chunk to send.
        acked: Chunks the follower has.
        crc: CRC-32 over the chunks sent.
        done: The last chunk is sent.
    """

    __slots__ = ("acked", "crc", "done", "index", "number", "reader", "snapshot_id", "term")

    def __init__(self, snapshot_id: int, reader: SnapshotReader, index: int, term: int) -> None:
        self.snapshot_id = snapshot_id
        self.reader = reader
        self.index = index
        self.term = term
        self.number = 0
        self.acked = 0
        self.crc = 0
        self.done = False


class Follower:
    """What this node knows of one other voter; most of it matters only while leading.

    Attributes:
        peer: Its node id.
        connected: A connection is open.
        heard_at: Time of its last message, NEVER before the first.
        mode: PROBE (one message at a time until one matches), REPLICATE or SNAPSHOT.
        match: Highest entry it confirmed as durable.
        next: Next entry to send.
        flight: (sequence, bytes) of unanswered messages with entries.
        flight_bytes: Their bytes.
        answered: Highest sequence it answered in this term.
        rewound: Rejections of messages up to this sequence are old news.
        amnesiac: It says it may have forgotten.
        forgot: It was seen without entries it had confirmed.
        snapshot: The snapshot on its way to it.
    """

    __slots__ = (
        "amnesiac",
        "answered",
        "connected",
        "flight",
        "flight_bytes",
        "forgot",
        "heard_at",
        "match",
        "mode",
        "next",
        "peer",
        "rewound",
        "snapshot",
    )

    def __init__(self, peer: int) -> None:
        self.peer = peer
        self.connected = False
        self.heard_at = NEVER
        self.mode = PROBE
        self.match = 0
        self.next = 1
        self.flight: deque[tuple[int, int]] = deque()
        self.flight_bytes = 0
        self.answered = 0
        self.rewound = 0
        self.amnesiac = False
        self.forgot = False
        self.snapshot: Outgoing | None = None

    @property
    def counts(self) -> bool:
        """Its word may be counted: nothing says it has forgotten."""
        return not (self.amnesiac or self.forgot)

    def start_probing(self, next_index: int, sequence: int) -> None:
        """Forget the flight and find out from `next_index` on where the logs agree."""
        self.mode = PROBE
        self.next = next_index
        self.rewound = sequence
        self.flight.clear()
        self.flight_bytes = 0
        self.close_snapshot()

    def landed(self, sequence: int) -> None:
        """Take what was answered up to `sequence` out of the flight."""
        flight = self.flight
        while flight and flight[0][0] <= sequence:
            self.flight_bytes -= flight.popleft()[1]

    def close_snapshot(self) -> None:
        """Let go of the snapshot on its way, if there is one."""
        if self.snapshot is not None:
            self.snapshot.reader.close()
            self.snapshot = None


class State:
    """The engine's fields and the transitions every part needs."""

    node_id: int
    timing: Timing
    disk: Disk
    machine: Machine
    rng: random.Random
    log: Log
    now: float
    ready: Ready

    role: int
    term: int
    voted_for: int | None
    leader_id: int | None
    commit_index: int
    applied_index: int
    amnesiac: bool
    followers: dict[int, Follower]
    quorum: int
    reads: deque[tuple[object, int, int]]

    voters: tuple[int, ...]
    cluster_id: bytes
    spread_at: float | None
    pre_vote_won: bool
    transfer_until: float
    fast_until: float
    election_deadline: float
    heard_at: float
    heartbeat_at: float

    def set_up(self) -> None:
        """Give every field that does not come from outside its first value."""
        self.durable_index = self.log.last_index
        self.durable_sequence = 0
        self.written_sequence = 0
        self.marks: deque[tuple[int, int, float]] = deque()
        self.answers: list[tuple[int, Message]] = []
        self.sequence = 0
        self.noop_index = 0
        self.waiting: dict[int, tuple[object | None, object]] = {}
        self.leader_changes = 0
        self.snapshots_sent = 0
        self.snapshots_installed = 0
        self.fsyncs = 0
        self.tails_cut = 0
        self.deposed_with_entries = 0
        self.memories_recovered = 0

    def send(self, peer: int, message: Message) -> None:
        """Send now: the message speaks only of what others have made durable."""
        self.ready.messages.append((peer, message))

    def answer(self, peer: int, message: Message) -> None:
        """Send once everything written up to the end of this step is durable."""
        self.answers.append((peer, message))

    def set_term(self, term: int, voted_for: int | None) -> None:
        """Enter a term, or give the vote in it; on disk before anyone hears of it."""
        self.term, self.voted_for = term, voted_for
        self.log.save_vote(term, voted_for)
        self.forget_election()

    def become_follower(self, term: int) -> None:
        """Stop leading or standing, and enter `term` if it is newer."""
        if term > self.term:
            self.set_term(term, None)
        if self.role == LEADER:
            self.lose_leadership()
        self.role = FOLLOWER
        self.leader_id = None

    def lose_leadership(self) -> None:
        """Answer every caller: from now on others decide what becomes of the entries."""
        if self.log.last_index > self.commit_index:
            self.deposed_with_entries += 1
        for index in sorted(self.waiting):
            self.ready.dropped.append((self.waiting[index][1], "UNKNOWN_OUTCOME"))
        self.waiting.clear()
        self.fail_reads()
        for follower in self.followers.values():
            follower.close_snapshot()
            follower.mode = PROBE
        self.reset_deadline()

    def forget_durable(self, index: int) -> None:
        """Note that entries from `index` on are gone: no older sync covers what follows."""
        self.durable_index = min(self.durable_index, index - 1)
        self.marks = deque((seq, min(last, index - 1), at) for seq, last, at in self.marks)

    def write_batch(self) -> None:
        """Hand the pending batch to the disk and note what its sync will cover."""
        sequence = self.disk.write()
        if sequence is not None:
            self.written_sequence = sequence
            self.marks.append((sequence, self.log.last_index, self.now))
            self.ready.sync_needed = sequence

    def apply_committed(self) -> None:
        """Show the machine what is committed, in order, each entry once.

        Raises:
            InvariantBroken: The machine raised; what it holds can no longer be trusted.
        """
        log, machine, applied = self.log, self.machine, self.ready.applied
        while self.applied_index < self.commit_index:
            index = self.applied_index + 1
            entry, _, term = log.entries[index - log.base_index]
            decoded, context = self.waiting.pop(index, (None, None))
            self.applied_index = index
            if entry == NO_OP:
                applied.append((index, None, context))
                continue
            try:
                outcome = machine.apply(index, entry, decoded)
                changes = machine.take_changes()
            except Exception as error:
                raise InvariantBroken(f"the machine raised at index {index}: {error!r}") from error
            applied.append((index, outcome, context))
            if changes is not None:
                self.save_checkpoint(index, term, changes)
                self.write_batch()  # the next entry may read what the machine has let go of

    # What the parts owe each other.

    def forget_election(self) -> None:
        """Votes and pre-votes of another term mean nothing."""
        raise NotImplementedError

    def reset_deadline(self) -> None:
        """Wait a full random election timeout from now."""
        raise NotImplementedError

    def fail_reads(self) -> None:
        """Answer every open read barrier with no."""
        raise NotImplementedError

    def check_reads(self) -> None:
        """Answer the read barriers that have become safe."""
        raise NotImplementedError

    def save_checkpoint(self, index: int, term: int, changes: list[Record]) -> None:
        """Put a checkpoint and the truncation it allows into the pending batch."""
        raise NotImplementedError

    def start_snapshot(self, follower: Follower) -> None:
        """Begin to send a follower what the log no longer holds."""
        raise NotImplementedError

    def heartbeat(self) -> None:
        """Tell every follower that this leader is there, and its commit index."""
        raise NotImplementedError

    def send_entries(self, follower: Follower) -> None:
        """Send what a follower lacks, within its flight."""
        raise NotImplementedError

    def lead(self) -> None:
        """Take office: the log's end is noted, a no-op appended and sent."""
        raise NotImplementedError

    def accept_leader(self, peer: int, term: int) -> None:
        """A leader of this or a newer term has spoken."""
        raise NotImplementedError

    def count_leader(self, leader_id: int) -> None:
        """Note who leads this term."""
        raise NotImplementedError

    def note_answer(self, follower: Follower, sequence: int, *, amnesiac: bool) -> None:
        """A follower answered a message of this term."""
        raise NotImplementedError

    def confirm(self, follower: Follower, index: int) -> None:
        """A follower holds this log durably up to `index`."""
        raise NotImplementedError

    def probe(self, follower: Follower) -> None:
        """Find out where a follower's log and this one agree."""
        raise NotImplementedError

    def lost_sight_of_leader(self) -> None:
        """The connection to the leader has closed."""
        raise NotImplementedError

    def gate_election(self) -> None:
        """Let the stock election start only with a majority's consent."""
        raise NotImplementedError

    def try_transfer(self) -> None:
        """Ask a follower that lacks nothing to stand for election."""
        raise NotImplementedError

    def disk_stalled(self) -> bool:
        """Whether this node's own disk has been silent for too long."""
        raise NotImplementedError

    def stock_tick(self) -> None:
        """Run the stock code once."""
        raise NotImplementedError

    def stock_connected(self, peer: int, *, connected: bool) -> None:
        """Tell the stock code of a connection."""
        raise NotImplementedError
