"""One step of the engine: take in an event, write, apply, release what may be said.

The order is the whole point. What a step wrote is handed to the disk first; what speaks of
it is held until that write is durable; only what speaks of other nodes' durable state (a
leader's entries and heartbeats) leaves before.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from typing import Any

from cluster.election import Election
from cluster.events import (
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

_ROLES: tuple[Role, Role, Role] = ("follower", "candidate", "leader")


class Steps(Election, Replication, Memory, Snapshots, Reads):
    """The engine's loop body, its start and its end."""

    def give(
        self,
        *,
        node_id: int,
        voters: Sequence[int],
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
        self.voters = tuple(sorted(set(voters)))
        self.timing = timing
        self.cluster_id = cluster_id
        self.disk, self.machine, self.rng = disk, machine, rng
        self.amnesiac = amnesiac
        self.now = now
        self.ready = Ready()
        self.halted: str | None = None
        self.followers = {peer: Follower(peer) for peer in self.voters if peer != node_id}
        self.quorum = len(self.voters) // 2 + 1
        self.log = Log(disk)
        self.commit_index = self.applied_index = self.log.applied_index
        self.leader_commit_index = self.commit_index
        self.heard_at = NEVER
        self.leader_id = None
        self.role = FOLLOWER
        self.term, self.voted_for = self.log.term, self.log.voted_for
        self.election_deadline = self.heartbeat_at = now

    def start(self) -> None:
        """Load the machine and be ready for the first event."""
        self.machine.restore(self.disk.iterate)
        if self.quorum == 1:
            self.election_deadline = NEVER
        self._handlers: dict[type, Callable[[Any], None]] = {
            Tick: self._on_tick_event,
            PeerConnected: self._on_connected,
            PeerDisconnected: self._on_disconnected,
            Received: self._on_received,
            Propose: self.on_propose,
            ReadBarrier: self.on_read_barrier,
            Durable: self.on_durable,
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
        self.now = max(now, self.now)
        self.ready = ready = Ready()
        self.apply_left_bytes = self.timing.apply_max_bytes
        before = (self.role, self.term, self.leader_id)
        try:
            self._handlers[type(event)](event)
            self._finish_step(event)
        except Exception as error:  # noqa: BLE001  # after any of them memory and disk may disagree
            self._halt(error)
            return ready
        ready.role_changed = before != (self.role, self.term, self.leader_id)
        ready.tick_at = self._tick_at()
        return ready

    def _refuse(self, event: Event) -> Ready:
        """Answer after the halt: nothing happens, but nobody is left waiting."""
        ready = Ready(halted=self.halted)
        if isinstance(event, Propose):
            ready.dropped.append((event.context, "NOT_LEADER"))
        elif isinstance(event, ReadBarrier):
            ready.reads.append((event.context, False))
        return ready

    def _finish_step(self, event: Event) -> None:
        """Write, apply what may be applied, and release what speaks of it.

        A follower whose step wrote something applies only after the sync, while its
        answer is already on the way: applying first would delay the commit.
        """
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

    def _release_answers(self) -> None:
        answers, self.answers = self.answers, []
        sequence = self.written_sequence
        if sequence > self.durable_sequence:
            self.ready.held.extend((sequence, peer, message) for peer, message in answers)
        else:
            self.ready.messages.extend(answers)

    def _halt(self, error: Exception) -> None:
        """Say why, answer the callers, send nothing more."""
        self.halted = str(error) if isinstance(error, InvariantBroken) else f"{error!r}"
        _logger.critical("node %d halts: %s", self.node_id, self.halted, exc_info=error)
        ready = self.ready
        ready.halted = self.halted
        ready.messages, ready.held, ready.sync_needed = [], [], None
        for index in sorted(self.waiting):
            ready.dropped.append((self.waiting[index][1], "UNKNOWN_OUTCOME"))
        self.waiting.clear()
        self.fail_reads()

    def _tick_at(self) -> float | None:
        if self.apply_left_bytes <= 0 and self.applied_index < self.commit_index:
            return self.now
        if self.role == LEADER:
            return self.spread_at
        return self.election_deadline if self.now < self.fast_until else None

    def _on_tick_event(self, _event: Tick) -> None:
        if self.role == LEADER:
            self._lead_on()
        self.gate_election()
        self.stock_tick()

    def _lead_on(self) -> None:
        """What a leader does as time passes, beyond the stock heartbeat."""
        if self.disk_stalled():
            self.become_follower(self.term)
            return
        self.give_up_snapshots()
        if self.spread_at is not None and self.spread_at <= self.now:
            self.heartbeat()

    def _on_connected(self, event: PeerConnected) -> None:
        follower = self.followers.get(event.peer)
        if follower is None:
            return
        follower.connected = True
        self.stock_connected(event.peer, connected=True)
        if self.role == LEADER:
            self.look_again(follower)
            self.probe(follower)

    def look_again(self, follower: Follower) -> None:
        """What was under way is lost. Go on from what is known, or from the log's end."""
        follower.amnesiac_since = None
        known = follower.match or self.log.last_index
        follower.start_probing(known + 1, self.sequence)

    def _on_disconnected(self, event: PeerDisconnected) -> None:
        follower = self.followers.get(event.peer)
        if follower is None:
            return
        follower.connected = False
        self.stock_connected(event.peer, connected=False)
        if self.role == LEADER:
            self.look_again(follower)
        elif self.leader_id == event.peer:
            self.lost_sight_of_leader()

    def _on_received(self, event: Received) -> None:
        if event.peer in self.followers:
            self._readers[type(event.message)](event.peer, event.message)

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
        )
