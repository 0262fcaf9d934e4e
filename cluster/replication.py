"""The log between leader and followers: append, confirm, commit.

One entry per proposal, one message for all followers in step. AppendEntries leaves before
the leader's own sync; the leader counts itself only up to what a `Durable` covered. A
reply names the message it answers, so a rejection rewinds a follower once per flight and
an old reply confirms nothing new.
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster.configuration import CONFIGURATION_MARK
from cluster.events import Durable, Propose
from cluster.log import NO_OP
from cluster.messages import AppendEntries, AppendReply
from cluster.progress import NEVER, PROBE, REPLICATE, SNAPSHOT, Follower
from cluster.state import CANDIDATE, LEADER, InvariantBroken, State

_MARK = CONFIGURATION_MARK[0]


class Replication(State):
    """Appending, on both sides."""

    def set_up(self) -> None:
        """Give this part's fields their first values."""
        super().set_up()
        self.spread_at: float | None = None

    # ------------------------------------------------------------------ leader

    def lead(self) -> None:
        """Take office: append a no-op, find out where each follower stands."""
        self.role = LEADER
        self.leader_id = self.node_id
        self.count_leader(self.node_id)
        self.forget_transfer()
        for follower in self.followers.values():
            follower.start_probing(self.log.last_index + 1, self.sequence)
            follower.match = follower.answered = 0
            follower.amnesiac = follower.forgot = follower.catching_up = False
            follower.amnesiac_since = None
            follower.heard_at = self.now
        self.noop_index = self.log.append(NO_OP, self.term)
        self.heartbeat_at = self.now + self.timing.heartbeat_s
        self.quorum_ends_at = NEVER
        self.spread_at = None
        for follower in self.followers.values():
            self.send_entries(follower)
        self.advance_commit()
        self.apply_committed()

    def on_propose(self, event: Propose) -> None:
        """Append one entry and send it to all; nothing waits for the disk."""
        if self.role != LEADER or self.transfer_until > self.now:
            self.ready.dropped.append((event.context, "NOT_LEADER"))
            return
        if not event.entry or event.entry[0] == _MARK:
            self.ready.dropped.append((event.context, "NOT_LEADER"))
            kind = "a configuration" if event.entry else "an empty entry"
            raise InvariantBroken(f"{kind} was proposed")
        index = self.log.append(event.entry, self.term)
        self.waiting[index] = (event.decoded, event.context)
        self.broadcast(index, event.entry)

    def broadcast(self, index: int, entry: bytes) -> None:
        """Send the newest entry: one message for all in step, the long way for the rest."""
        shared: AppendEntries | None = None
        size, timing, messages = len(entry), self.timing, self.ready.messages
        in_step = True
        for follower in self.followers.values():
            if (
                follower.next != index
                or follower.mode is not REPLICATE
                or not follower.connected
                or follower.amnesiac  # the shared message vouches for nothing
                or len(follower.flight) >= timing.flight_max
                or follower.flight_bytes >= timing.flight_max_bytes
            ):
                self.send_entries(follower)
                in_step = False
                continue
            if shared is None:
                self.sequence += 1
                _, prev_index, prev_term = self.log.entries[-2]
                shared = AppendEntries(
                    self.term,
                    self.sequence,
                    self.commit_index,
                    prev_index,
                    prev_term,
                    [(entry, self.term)],
                )
            messages.append((follower.peer, shared))
            follower.flight.append((shared.sequence, size))
            follower.flight_bytes += size
            follower.next = index + 1
        self.spread_at = None
        if in_step:  # everybody has just been told what a heartbeat says
            self.heartbeat_at = self.now + timing.heartbeat_s

    def send_entries(self, follower: Follower) -> None:
        """Send what a follower lacks, as far as its flight allows."""
        if not follower.connected or follower.mode is SNAPSHOT:
            return
        timing, log = self.timing, self.log
        flight_max = 1 if follower.mode is PROBE else timing.flight_max
        while (
            follower.next <= log.last_index
            and len(follower.flight) < flight_max
            and follower.flight_bytes < timing.flight_max_bytes
        ):
            prev_term = log.term_at(follower.next - 1)
            if prev_term is None:
                self.start_snapshot(follower)
                return
            entries, size = log.batch(follower.next, timing.append_max_bytes)
            self.append_to(follower, prev_term, entries)
            follower.flight.append((self.sequence, size))
            follower.flight_bytes += size
            follower.next += len(entries)

    def append_to(
        self, follower: Follower, prev_term: int, entries: list[tuple[bytes, int]]
    ) -> None:
        """Send one AppendEntries that starts at the follower's next entry."""
        self.sequence += 1
        self.send(
            follower.peer,
            AppendEntries(
                self.term,
                self.sequence,
                self.commit_index,
                follower.next - 1,
                prev_term,
                entries,
                self.vouches(follower),
            ),
        )

    def heartbeat(self) -> None:
        """Tell every follower that this leader is there, and its commit index."""
        self.spread_at = None
        self.heartbeat_at = self.now + self.timing.heartbeat_s
        shared: AppendEntries | None = None
        messages = self.ready.messages
        for follower in self.followers.values():
            if not follower.connected:
                continue
            prev_index = 0 if follower.mode is SNAPSHOT else follower.next - 1
            # While a snapshot is on its way, a heartbeat asks after nothing: index 0
            # matches every log, and the chunks say the rest.
            prev_term = 0 if follower.mode is SNAPSHOT else self.log.term_at(prev_index)
            if prev_term is None:
                self.start_snapshot(follower)
                continue
            vouched = self.vouches(follower)
            if shared is None or (shared.prev_index, shared.vouched) != (prev_index, vouched):
                self.sequence += 1
                shared = AppendEntries(
                    self.term, self.sequence, self.commit_index, prev_index, prev_term, [], vouched
                )
            messages.append((follower.peer, shared))

    def on_append_reply(self, peer: int, message: AppendReply) -> None:
        """Learn how far a follower is, or where to try again."""
        if message.term > self.term:
            self.become_follower(message.term)
        if self.role != LEADER or message.term != self.term:
            return
        follower = self.followers[peer]
        self.note_answer(follower, message.sequence, amnesiac=message.amnesiac)
        if message.success:
            self.confirm(follower, message.next_index - 1)
        elif message.sequence > follower.rewound and follower.mode is not SNAPSHOT:
            if message.last_index < follower.match:
                follower.match, follower.forgot = 0, True
            wanted = min(message.next_index, self.log.last_index + 1)
            follower.start_probing(max(follower.match + 1, wanted), self.sequence)
            self.probe(follower)
        if self.transfer_until > self.now:
            self.try_transfer()

    def note_answer(self, follower: Follower, sequence: int, *, amnesiac: bool) -> None:
        """Any answer of this term says: alive, connected, still following."""
        follower.heard_at = self.now
        if amnesiac or follower.amnesiac:
            self.note_memory(follower, amnesiac=amnesiac)
        if sequence > follower.answered:
            follower.answered = sequence if sequence < self.sequence else self.sequence
        if follower.flight:
            follower.landed(sequence)

    def confirm(self, follower: Follower, index: int) -> None:
        """A follower holds this log up to `index` durably."""
        last_index = self.log.last_index
        if index > last_index:
            return  # nobody can hold what was not sent: not an answer to believe
        if index > follower.match:
            follower.match = index
            if follower.next <= index:
                follower.next = index + 1
        if index >= self.commit_index:
            follower.forgot = follower.catching_up = False
        if follower.mode is PROBE:
            follower.mode = REPLICATE
        if follower.next <= last_index:
            self.send_entries(follower)
        if index > self.commit_index:
            self.advance_commit()

    def probe(self, follower: Follower) -> None:
        """Ask at the follower's next index, with what there is to send or with nothing."""
        if follower.next <= self.log.last_index:
            self.send_entries(follower)
            return
        prev_term = self.log.term_at(follower.next - 1)
        if prev_term is None:
            self.start_snapshot(follower)
        elif follower.connected:
            self.append_to(follower, prev_term, [])

    def advance_commit(self) -> None:
        """Commit what a majority holds durably, if it is of this term (Raft 5.4.2)."""
        # Who has forgotten does not count (`Follower.counts`); asked for every answer.
        held = [0 if f.forgot or f.amnesiac else f.match for f in self.electors]
        held.append(self.durable_index)
        held.sort(reverse=True)
        index = held[self.quorum - 1]
        if index <= self.commit_index or self.log.term_at(index) != self.term:
            return
        self.commit_index = index
        self.apply_committed()
        if self.followers and index == self.log.last_index:
            self.spread_at = self.now + self.timing.spread_s

    # ---------------------------------------------------------------- follower

    def on_append(self, peer: int, message: AppendEntries) -> None:
        """Follow the leader: check, append, confirm (Raft 5.3)."""
        term, sequence, commit_index, prev_index, prev_term, entries, vouched = message
        if term < self.term:
            self.reply(peer, sequence, success=False, next_index=0)
            return
        self.accept_leader(peer, term)
        if commit_index > self.leader_commit_index:  # noqa: PLR1730 - a call less per message
            self.leader_commit_index = commit_index
        log, start, end = self.log, prev_index + 1, prev_index + len(entries)
        if prev_index > log.last_index:
            self.reply(peer, sequence, success=False, next_index=log.last_index + 1)
            return
        if prev_index < log.base_index:
            # What lies before the boundary is applied, so it is committed and the same.
            entries, start = entries[log.base_index - prev_index :], log.base_index + 1
        elif log.entries[prev_index - log.base_index][2] != prev_term:
            self.reply(peer, sequence, success=False, next_index=self.conflict_start(prev_index))
            return
        if entries:
            self.take_entries(start, entries)
        if commit_index > self.commit_index and end > self.commit_index:
            self.commit_index = self.verified_commit(commit_index, end)
        if vouched and self.amnesiac:
            self.recover_memory(commit_index, end)
        self.reply(peer, sequence, success=True, next_index=end + 1)

    def verified_commit(self, commit_index: int, end: int) -> int:
        """How far the leader's commit index may be believed: to what it has just shown."""
        return min(commit_index, end)

    def conflict_start(self, index: int) -> int:
        """Where the term at a conflicting index begins here: all of it goes at once.

        Raises:
            InvariantBroken: The conflicting entry is committed.
        """
        if index <= self.commit_index:
            raise InvariantBroken(f"the leader contradicts the committed entry {index}")
        floor = max(self.log.base_index, self.commit_index)
        term = self.log.term_at(index)
        while index - 1 > floor and self.log.term_at(index - 1) == term:
            index -= 1
        return index

    def take_entries(self, start: int, entries: Sequence[tuple[bytes, int]]) -> None:
        """Append what is new; cut only where a term differs (Raft 5.3).

        Raises:
            InvariantBroken: The cut would remove a committed entry.
        """
        log = self.log
        if start <= log.last_index:
            known = 0
            for index, (_, term) in enumerate(entries, start):
                if log.term_at(index) != term:
                    break
                known += 1
            entries = entries[known:]
            if entries and start + known <= log.last_index:
                self.cut_from(start + known)
        for entry, term in entries:
            log.append(entry, term)
        if log.configuration is not self.configuration:
            self.adopt_configuration()

    def cut_from(self, index: int) -> None:
        """Remove a tail that conflicts with the leader's log."""
        if index <= self.commit_index:
            raise InvariantBroken(f"the leader overwrites the committed entry {index}")
        self.log.truncate_from(index)
        self.forget_durable(index)
        self.tails_cut += 1

    def reply(self, peer: int, sequence: int, *, success: bool, next_index: int) -> None:
        """Answer an AppendEntries, once what it wrote is durable."""
        last_index = self.log.last_index
        answer = AppendReply(self.term, sequence, success, next_index, last_index, self.amnesiac)
        self.answers.append((peer, answer))

    # -------------------------------------------------------------------- both

    def on_durable(self, event: Durable) -> None:
        """A sync is done: it covers this node's own entries up to some index."""
        self.fsyncs += 1
        sequence, marks = event.sequence, self.marks
        self.durable_sequence = max(self.durable_sequence, sequence)
        while marks and marks[0][0] <= sequence:
            self.durable_index = max(self.durable_index, marks.popleft()[1])
        if self.role == LEADER and self.durable_index > self.commit_index:
            self.advance_commit()  # below the commit index this node's word changes no majority
        elif self.role == CANDIDATE and self.quorum == 1:
            self.lead_alone()

    def lead_alone(self) -> None:
        """Lead on this node's own vote, once it is durable.

        What a leader says leaves before its own sync. A voter that forgot its term would
        lead the same one again, with other entries than a learner already has from it.
        """
        if self.durable_sequence >= self.written_sequence:
            self.lead()

    def disk_stalled(self) -> bool:
        """Whether a write has waited for its sync longer than a leader may."""
        return bool(self.marks) and self.now - self.marks[0][2] > self.timing.disk_stall_s
