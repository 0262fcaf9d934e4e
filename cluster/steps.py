"""One step of the engine: take in an event, write, apply, release what may be said.

The order is the whole point. What a step wrote is handed to the disk first; what speaks of
it is held until that write is durable; only what speaks of other nodes' durable state (a
leader's entries and heartbeats) leaves before.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any

from cluster.configuration import Configuration
from cluster.election import Election
from cluster.events import (
    ChangeMembers,
    Durable,
    Event,
    PeerConnected,
    PeerDisconnected,
    Propose,
    ReadBarrier,
    Ready,
    Received,
    Tick,
    TransferLeadership,
)
from cluster.interface import Disk, Machine, PeerStatus, Role, Status, Timing
from cluster.log import Log
from cluster.members import Members
from cluster.memory import Memory
from cluster.messages import (
    AppendEntries,
    AppendReply,
    PreVote,
    PreVoteReply,
    SnapshotChunk,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from cluster.progress import NEVER, Follower
from cluster.reads import Reads
from cluster.replication import Replication
from cluster.snapshots import Snapshots
from cluster.state import FOLLOWER, LEADER, InvariantBroken

_logger = logging.getLogger(__name__)

TERM_JUMP_MAX = 1 << 32
"""A message whose term is further ahead is dropped."""

_HEARD_FROM_ANYONE = frozenset((AppendEntries, SnapshotChunk, PreVote, VoteRequest))

_ROLES: tuple[Role, Role, Role] = ("follower", "candidate", "leader")


class Steps(Election, Replication, Members, Memory, Snapshots, Reads):
    """The engine's loop body, its start and its end."""

    def give(
        self,
        *,
        node_id: int,
        founding: Configuration,
        disk: Disk,
        machine: Machine,
        rng: random.Random,
        timing: Timing,
        cluster_id: bytes,
        amnesiac: bool,
        now: float,
    ) -> None:
        """Take what comes from outside and read the log; see `cluster.engine.Engine`."""
        self.node_id = node_id
        self.timing = timing
        self.cluster_id = cluster_id
        self.disk, self.machine, self.rng = disk, machine, rng
        self.amnesiac = amnesiac
        self.now = now
        self.ready = Ready()
        self.halted: str | None = None
        self.terms_refused = 0
        self.log = Log(disk, founding)
        self.commit_index = self.applied_index = self.log.applied_index
        self.leader_commit_index = self.commit_index
        self.heard_at = NEVER
        self.leader_id = None
        self.role = FOLLOWER
        self.term, self.voted_for = self.log.term, self.log.voted_for
        self.election_deadline = self.heartbeat_at = now
        self.followers, self.connected = {}, set()
        self.take_configuration()

    def start(self) -> None:
        """Load the machine and be ready for the first event."""
        self.machine.restore(self.disk.iterate)
        if self.voters == (self.node_id,):
            self.election_deadline = NEVER
        self._handlers: dict[type, Callable[[Any], None]] = {
            Tick: self._on_tick_event,
            PeerConnected: self._on_connected,
            PeerDisconnected: self._on_disconnected,
            Received: self._on_received,
            Propose: self.on_propose,
            ReadBarrier: self.on_read_barrier,
            Durable: self.on_durable,
            ChangeMembers: self.on_change_members,
            TransferLeadership: lambda _event: self.on_transfer(),
        }
        self._readers: dict[type, Callable[[int, Any], None]] = {
            AppendEntries: self.on_append,
            AppendReply: self.on_append_reply,
            PreVote: self.on_pre_vote,
            PreVoteReply: self.on_pre_vote_reply,
            VoteRequest: self.on_vote_request,
            VoteReply: self.on_vote_reply,
            SnapshotChunk: self.on_chunk,
            SnapshotReply: self.on_snapshot_reply,
            TimeoutNow: self.on_timeout_now,
        }

    def step(self, event: Event, now: float) -> Ready:
        """Take in one event and say what is to be done.

        Args:
            event: What happened.
            now: When, in seconds on the clock given at construction; never goes back.

        Returns:
            What is to be sent, synced and answered. Once `halted` is set it stays set and
            every further step does nothing.
        """
        if self.halted is not None:
            return self._refuse(event)
        if now > self.now:  # noqa: PLR1730 - a call less per step
            self.now = now
        self.ready = ready = Ready()
        self.apply_left_bytes = self.timing.apply_max_bytes
        role, term, leader_id = self.role, self.term, self.leader_id
        try:
            self._handlers[type(event)](event)
            self._finish_step(event)
        except Exception as error:  # noqa: BLE001  # after any of them memory and disk may disagree
            self._halt(error)
            return ready
        if role != self.role or term != self.term or leader_id != self.leader_id:
            ready.role_changed = True
        return ready

    def _refuse(self, event: Event) -> Ready:
        """Answer after the halt: nothing happens, but nobody is left waiting."""
        ready = Ready(halted=self.halted)
        if isinstance(event, Propose):
            ready.dropped.append((event.context, "NOT_LEADER"))
        elif isinstance(event, ReadBarrier):
            ready.reads.append((event.context, False))
        elif isinstance(event, ChangeMembers):
            ready.changes.append((event.context, 0, "NOT_LEADER"))
        return ready

    def _finish_step(self, event: Event) -> None:
        """Write, apply what may be applied, release what speaks of it, ask for the next tick.

        A follower whose step wrote something applies only after the sync, while its
        answer is already on the way: applying first would delay the commit.
        """
        if self.proof_wanted:
            self.prove_leadership()
        self.write_batch()
        if self.commit_index > self.applied_index and (
            self.ready.sync_needed is None or type(event) is not Received
        ):
            self.apply_committed()
            self.write_batch()
        if self.reads:
            self.check_reads()
        if self.answers:
            self._release_answers()
        if self.applied_index < self.commit_index and self.apply_left_bytes <= 0:
            self.ready.tick_at = self.now
        else:
            self.ready.tick_at = self.next_tick_at()

    def next_tick_at(self) -> float | None:
        """When an early tick is wanted; None if the steady ones do."""
        if self.role == LEADER:
            return self.spread_at
        if self.election_deadline >= self.now or self.now < self.fast_until:
            # Exactly then, and not at the next steady tick: voters that wait for the same one
            # stand at once, split the vote and cost another term and another wait.
            return self.election_deadline
        return None

    def has_work_at(self, now: float) -> bool:
        """Whether a `Tick` would do anything now: most come before anything is due."""
        if self.applied_index < self.commit_index or self.halted is not None:
            return True
        if self.role != LEADER:
            return self.election_deadline < now
        return (
            self.heartbeat_at < now
            or self.quorum_ends_at <= now
            or (self.spread_at is not None and self.spread_at <= now)
            or bool(self.marks)  # a disk that stalls shows in time alone
        )

    def _release_answers(self) -> None:
        """Send once all that was written is durable; peers go on asking while the disk hangs.

        What speaks of no write of its own is dropped then: nothing else would bound it. Of
        snapshots no more is sent than was answered, and what is not is not sent again for long.
        """
        answers, self.answers = self.answers, []
        sequence = self.written_sequence
        if sequence > self.durable_sequence:
            if self.ready.sync_needed is None and self.disk_stalled():
                answers = [one for one in answers if isinstance(one[1], SnapshotReply)]
            held = self.ready.held
            for peer, message in answers:
                held.append((sequence, peer, message))
        else:
            self.ready.messages.extend(answers)

    def _halt(self, error: Exception) -> None:
        """Say why, answer the callers, send nothing more."""
        self.halted = str(error) if isinstance(error, InvariantBroken) else f"{error!r}"
        _logger.critical("node %d halts: %s", self.node_id, self.halted, exc_info=error)
        ready = self.ready
        ready.halted = self.halted
        ready.messages, ready.held, ready.sync_needed = [], [], None
        self.take_back_answers()
        for index in sorted(self.waiting):
            ready.dropped.append((self.waiting[index][1], "UNKNOWN_OUTCOME"))
        self.waiting.clear()
        self.fail_reads()
        self.fail_change()

    def take_back_answers(self) -> None:
        """Tell nobody what this step has applied and read.

        Who is told looks at the machine, and what that has let go of for a checkpoint may be
        in no archive: the write of it is what failed.
        """
        ready = self.ready
        ready.dropped += [
            (who, "UNKNOWN_OUTCOME") for _, _, who in ready.applied if who is not None
        ]
        ready.applied = []
        ready.reads = [(who, False) for who, _ in ready.reads]

    def _on_tick_event(self, _event: Tick) -> None:
        """Act on what is due; the stock code has nothing to do before its next deadline."""
        if self.role == LEADER:
            self._lead_on()
        elif self.election_deadline < self.now:
            self.gate_election()
            self.stock_tick()

    def _lead_on(self) -> None:
        """What a leader does as time passes."""
        now = self.now
        if self.disk_stalled():
            self.become_follower(self.term)
            return
        if self.spread_at is not None and self.spread_at <= now:
            self.heartbeat()
        if self.heartbeat_at < now or self.quorum_ends_at <= now:
            self.give_up_snapshots()
            self.give_up_reads()
            self.give_up_change()
            self.stock_tick()
            self.quorum_ends_at = self._quorum_end()

    def _quorum_end(self) -> float:
        """When the stock check of the quorum would end this leadership, if nobody speaks."""
        if self.quorum == 1:
            return float("inf")
        heard = sorted(map(self.counted_at, self.electors))
        return heard[1 - self.quorum] + self.timing.check_quorum_s

    def counted_at(self, follower: Follower) -> float:
        """When a follower was last heard whose word counts towards a majority.

        A leader with nobody but amnesiacs around can commit nothing: it must not stay, or
        those who asked it for something wait for as long as it does.
        """
        return follower.heard_at if follower.counts else NEVER

    def _on_connected(self, event: PeerConnected) -> None:
        self.connected.add(event.peer)
        follower = self.followers.get(event.peer)
        if follower is None:
            return
        follower.connected = True
        self.stock_members()
        if self.role == LEADER:
            self.look_again(follower)
            self.probe(follower)

    def look_again(self, follower: Follower) -> None:
        """What was under way is lost. Go on from what is known, or from the log's end.

        Who last confirmed what the log has let go of is asked: it may have a snapshot in place
        since then, and its answer was lost with the connection. It would get the next one else.
        """
        follower.amnesiac_since = None
        follower.catching_up = follower.catching_up or follower.snapshot is not None
        known = follower.match if follower.match >= self.log.base_index else 0
        known = known or self.log.last_index
        follower.start_probing(known + 1, self.sequence)

    def _on_disconnected(self, event: PeerDisconnected) -> None:
        self.connected.discard(event.peer)
        follower = self.followers.get(event.peer)
        if follower is not None:
            follower.connected = False
            self.stock_members()
        if self.role != LEADER:
            if self.leader_id == event.peer:
                self.lost_sight_of_leader()
        elif follower is not None:
            self.look_again(follower)

    def _on_received(self, event: Received) -> None:
        """Hear a message: from a member any, from others what a newer configuration may send.

        A leader or candidate may be in a configuration that has not reached this log (Raft
        thesis 4.1). Only members are asked anything, so the answers of others mean nothing.
        """
        peer, message = event
        if message.term > self.term and not self.believes_term(message.term):
            self._refuse_term(peer, message.term)
        elif peer in self.followers or type(message) in _HEARD_FROM_ANYONE:
            self._readers[type(message)](peer, message)

    def believes_term(self, term: int) -> bool:
        """Whether elections can have led there: terms that are used up never come back."""
        return term - self.term <= TERM_JUMP_MAX

    def _refuse_term(self, peer: int, term: int) -> None:
        """Count it, and say so once."""
        if not self.terms_refused:
            _logger.error(
                "node %d: node %d speaks of term %d, this node is in term %d: the message is "
                "dropped, look at the memory and the software of node %d",
                *(self.node_id, peer, term, self.term, peer),
            )
        self.terms_refused += 1

    @property
    def status(self) -> Status:
        """The engine as it stands after the last step."""
        return Status(
            node_id=self.node_id,
            cluster_id=self.cluster_id,
            role=_ROLES[self.role],
            term=self.term,
            leader_id=self.leader_id,
            commit_index=self.commit_index,
            leader_commit_index=max(self.commit_index, self.leader_commit_index),
            applied_index=self.applied_index,
            last_index=self.log.last_index,
            first_index=self.log.base_index + 1,
            voters=self.voters,
            learners=self.configuration.learners,
            configuration_index=self.log.configuration_index,
            members=self.configuration.addresses,
            terms_refused=self.terms_refused,
            peers={peer: self._peer_status(f) for peer, f in self.followers.items()},
            leader_changes=self.leader_changes,
            snapshots_sent=self.snapshots_sent,
            snapshots_installed=self.snapshots_installed,
            fsyncs=self.fsyncs,
            amnesiac=self.amnesiac,
        )

    def _peer_status(self, follower: Follower) -> PeerStatus:
        leads = self.role == LEADER
        heard = follower.heard_at != NEVER
        return PeerStatus(
            connected=follower.connected,
            match_index=follower.match if leads else 0,
            lag=self.log.last_index - follower.match if leads else 0,
            last_seen_ms=round((self.now - follower.heard_at) * 1000) if heard else None,
            amnesiac=follower.amnesiac,
            voter=follower.voter,
        )
