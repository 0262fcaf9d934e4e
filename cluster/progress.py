"""What a leader knows of each follower: how far it is, and what is on its way to it."""

from __future__ import annotations

from collections import deque
from typing import Final

from cluster.interface import SnapshotReader
from cluster.log import Log

PROBE: Final = "probe"
REPLICATE: Final = "replicate"
SNAPSHOT: Final = "snapshot"

NEVER: Final = float("-inf")


class Outgoing:
    """A snapshot on its way to one follower: the last checkpoint of this node.

    Attributes:
        snapshot_id: Unique within the leader's term.
        reader: The view it is read from.
        index: Last entry it contains.
        term: Its term.
        configuration_index: The entry that put `configuration` into force.
        configuration: Bytes of the configuration as of `index`.
        number: The next chunk to send.
        acked: Chunks the follower has.
        crc: CRC-32 over the chunks sent.
        done: The last chunk is sent.
        moved_at: Time of the follower's last sign that it moved on.
    """

    __slots__ = (
        "acked",
        "configuration",
        "configuration_index",
        "crc",
        "done",
        "index",
        "moved_at",
        "number",
        "reader",
        "snapshot_id",
        "term",
    )

    def __init__(self, snapshot_id: int, reader: SnapshotReader, log: Log, moved_at: float) -> None:
        self.snapshot_id = snapshot_id
        self.reader = reader
        self.index = log.applied_index
        self.term = log.applied_term
        self.configuration_index, configuration = log.configuration_at(self.index)
        self.configuration = configuration.to_bytes()
        self.number = 0
        self.acked = 0
        self.crc = 0
        self.done = False
        self.moved_at = moved_at


class Follower:
    """What this node knows of one other member; most of it matters only while leading.

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
        amnesiac_since: End of the leader's log when it first said so over the present
            connection; None while it has not.
        forgot: It was seen without entries it had confirmed.
        snapshot: The snapshot on its way to it.
        catching_up: It was sent a snapshot and lacks what was committed since; the log keeps
            that for it.
        voter: It votes and counts; a learner does not.
    """

    __slots__ = (
        "amnesiac",
        "amnesiac_since",
        "answered",
        "catching_up",
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
        "voter",
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
        self.amnesiac_since: int | None = None
        self.forgot = False
        self.snapshot: Outgoing | None = None
        self.catching_up = False
        self.voter = True

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
