"""What the parts of the engine share: its fields, and the moves all of them make.

`Election`, `Replication`, `Snapshots` and `Reads` extend this class and meet again in
`cluster.engine.Engine`. None of them imports PySyncObj, and none has a clock: `now` is the
time of the step being taken.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Final

from cluster.configuration import CONFIGURATION_MARK, Configuration
from cluster.events import Ready
from cluster.interface import Disk, Machine, Record, Timing
from cluster.log import Log
from cluster.messages import Message
from cluster.progress import PROBE, Follower

FOLLOWER: Final = 0
CANDIDATE: Final = 1
LEADER: Final = 2

_MARK: Final = CONFIGURATION_MARK[0]

_ENTRY_COST_BYTES: Final = 100
"""What applying the smallest entry counts as in the bound of a step."""


ANSWER_MAX_S: Final = 5.0
"""For so long a leader that can commit nothing keeps those waiting who ask it for something.

It stays in office while it fills the follower that makes its majority: that may take minutes.
"""

_NOBODY: Final = (None, None)
"""Waits for the entry of another node's proposal."""


class InvariantBroken(Exception):  # noqa: N818  # it names what was found, not an act
    """What must hold does not: memory, disk and the cluster may disagree. The node halts."""


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
    leader_commit_index: int
    applied_index: int
    amnesiac: bool
    configuration: Configuration
    followers: dict[int, Follower]
    electors: tuple[Follower, ...]
    connected: set[int]
    is_voter: bool
    quorum: int
    reads: deque[tuple[object, int, int]]

    voters: tuple[int, ...]
    cluster_id: bytes
    spread_at: float | None
    quorum_ends_at: float
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
        self.apply_left_bytes = self.timing.apply_max_bytes
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
        self.fail_change()
        for follower in self.followers.values():
            follower.close_snapshot()
            follower.catching_up = False  # else the log would be kept for it here too
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

        What exceeds the bound of one step is left to the next ones.

        Raises:
            InvariantBroken: The machine raised; what it holds can no longer be trusted.
        """
        log, waiting, applied = self.log, self.waiting, self.ready.applied
        apply, take_changes = self.machine.apply, self.machine.take_changes
        index, commit_index = self.applied_index, self.commit_index
        while index < commit_index and self.apply_left_bytes > 0:
            index += 1
            entry, _, term = log.entries[index - log.base_index]
            decoded, context = waiting.pop(index, _NOBODY) if waiting else _NOBODY
            self.applied_index = index
            self.apply_left_bytes -= len(entry) + _ENTRY_COST_BYTES
            if not entry or entry[0] == _MARK:
                applied.append((index, None, context))
                if entry:
                    self.answer_change(index)
                continue
            try:
                outcome = apply(index, entry, decoded)
                changes = take_changes()
            except Exception as error:
                # It is committed and will raise on every node; nobody knows what it did.
                if context is not None:
                    self.ready.dropped.append((context, "UNKNOWN_OUTCOME"))
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

    def fail_change(self) -> None:
        """Answer an open change of the members: its outcome is unknown."""
        raise NotImplementedError

    def answer_change(self, index: int) -> None:
        """Answer the change that was committed as this entry."""
        raise NotImplementedError

    def adopt_configuration(self) -> None:
        """Follow the log: another configuration may have come into force."""
        raise NotImplementedError

    def save_checkpoint(self, index: int, term: int, changes: list[Record]) -> None:
        """Put a checkpoint and the truncation it allows into the pending batch."""
        raise NotImplementedError

    def start_snapshot(self, follower: Follower) -> None:
        """Begin to send a follower what the log no longer holds."""
        raise NotImplementedError

    def broadcast(self, index: int, entry: bytes) -> None:
        """Send the newest entry to all."""
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

    def note_memory(self, follower: Follower, *, amnesiac: bool) -> None:
        """A follower said whether it may have forgotten."""
        raise NotImplementedError

    def vouches(self, follower: Follower) -> bool:
        """Whether what a follower may have forgotten is covered by the commit index."""
        raise NotImplementedError

    def prove_leadership(self) -> None:
        """Append an entry that only a leader's followers will hold."""
        raise NotImplementedError

    def recover_memory(self, commit_index: int, end: int) -> None:
        """The leader vouches for its commit index: stop being amnesiac below it."""
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

    def on_transfer(self) -> None:
        """Stop taking proposals and look for a successor."""
        raise NotImplementedError

    def try_transfer(self) -> None:
        """Ask a follower that lacks nothing to stand for election."""
        raise NotImplementedError

    def forget_transfer(self) -> None:
        """Nobody has been asked to follow this leader."""
        raise NotImplementedError

    def lead_alone(self) -> None:
        """Lead on this node's own vote, if it is durable."""
        raise NotImplementedError

    def disk_stalled(self) -> bool:
        """Whether this node's own disk has been silent for too long."""
        raise NotImplementedError

    def stock_tick(self) -> None:
        """Run the stock code once."""
        raise NotImplementedError

    def stock_members(self) -> None:
        """Tell the stock code who votes and who of them is connected."""
        raise NotImplementedError
