"""Engines with one rule taken out each.

Stories show each of them end badly on a bench (`tests/unit/cluster/test_hazards_*.py`), and
the simulation finds those that a whole cluster can show (`tests.simulation.teeth`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from zlib import crc32

from cluster.engine import Engine
from cluster.events import ReadBarrier
from cluster.interface import Record, Timing
from cluster.messages import (
    AppendEntries,
    AppendReply,
    PreVote,
    SnapshotChunk,
    VoteReply,
    VoteRequest,
)
from cluster.progress import NEVER, Follower
from cluster.snapshots import Incoming
from cluster.state import CANDIDATE, LEADER


class CountsItselfEarly(Engine):
    """The leader counts its own entry before its disk has it."""

    def write_batch(self) -> None:
        super().write_batch()
        self.durable_index = self.log.last_index


class SpeaksEarly(Engine):
    """Votes and confirmations leave before what they speak of is durable."""

    def _release_answers(self) -> None:
        answers, self.answers = self.answers, []
        self.ready.messages.extend(answers)


class VotesEarly(Engine):
    """Term and vote are told before they are durable; entries are not."""

    def _release_answers(self) -> None:
        votes = [pair for pair in self.answers if isinstance(pair[1], VoteReply | VoteRequest)]
        self.answers = [pair for pair in self.answers if pair not in votes]
        self.ready.messages.extend(votes)
        super()._release_answers()


class StockTruncation(Engine):
    """Everything behind prev_index is cut, whether it conflicts or not."""

    def take_entries(self, start: int, entries: Sequence[tuple[bytes, int]]) -> None:
        if start <= self.log.last_index:
            self.log.truncate_from(start)
            self.forget_durable(start)
        super().take_entries(start, entries)


class BelievesCommitIndex(Engine):
    """The leader's commit index is taken for the whole log, not for what it verified."""

    def on_append(self, peer: int, message: AppendEntries) -> None:
        super().on_append(peer, message)
        if message.term == self.term and self.role != LEADER:
            self.commit_index = max(
                self.commit_index, min(message.commit_index, self.log.last_index)
            )


class ChunkMovesCommit(Engine):
    """A part of a snapshot moves the commit index, as in the stock engine."""

    def on_chunk(self, peer: int, message: SnapshotChunk) -> None:
        super().on_chunk(peer, message)
        if message.term == self.term:
            index = min(message.last_index, self.log.last_index)
            self.commit_index = max(self.commit_index, index)


class IgnoresReplyTerm(Engine):
    """A confirmation of an older term counts in this one."""

    def on_append_reply(self, peer: int, message: AppendReply) -> None:
        if message.term < self.term:
            message = message._replace(term=self.term)
        super().on_append_reply(peer, message)


class CountsReplies(Engine):
    """Votes are counted by the reply, not by the voter."""

    tally = (0, 0)

    def on_vote_reply(self, peer: int, message: VoteReply) -> None:
        if message.granted and self.role == CANDIDATE and message.term == self.term:
            term, count = self.tally
            self.tally = (self.term, count + 1 if term == self.term else 1)
            if 1 + self.tally[1] >= self.quorum:
                self.lead()
        else:
            super().on_vote_reply(peer, message)


class VotesForAnyLog(Engine):
    """A vote does not ask whether the candidate's log is complete."""

    def is_behind(self, last_term: int, last_index: int) -> bool:
        return False


class ForgetsItsVote(Engine):
    """The vote of a term is given again to whoever asks."""

    def on_vote_request(self, peer: int, message: VoteRequest) -> None:
        if message.term == self.term and self.role != LEADER:
            self.voted_for = self.leader_id = None
        super().on_vote_request(peer, message)


class CommitsOlderTerms(Engine):
    """Entries of earlier terms are committed by counting alone."""

    def advance_commit(self) -> None:
        held = sorted([f.match for f in self.followers.values()] + [self.durable_index])
        index = held[len(held) - self.quorum]
        if index > self.commit_index and self.log.term_at(index) is not None:
            self.commit_index = index
            self.apply_committed()
            self.check_reads()


class ReadsAtOnce(Engine):
    """A leader answers a read without asking whether it still leads."""

    def on_read_barrier(self, event: ReadBarrier) -> None:
        self.ready.reads.append((event.context, self.role == LEADER))


class AmnesiacVotes(Engine):
    """A node that may have forgotten votes and counts like any other."""

    def start(self) -> None:
        super().start()
        self.amnesiac = False


class VouchesAtOnce(Engine):
    """A leader vouches for its commit index without asking whether it still leads."""

    def vouches(self, follower: Follower) -> bool:
        return True


class ForgetsCallers(Engine):
    """Losing leadership answers nobody."""

    def lose_leadership(self) -> None:
        self.waiting.clear()
        super().lose_leadership()


class KeepsWrongSuffix(Engine):
    """An install keeps the log behind the snapshot without looking at the term there."""

    def install(self, message: SnapshotChunk) -> None:
        if message.last_index <= self.log.last_index:
            at = message.last_index - self.log.base_index
            entry, index, _ = self.log.entries[at]
            self.log.entries[at] = (entry, index, message.last_term)
        super().install(message)


class NeverRewinds(Engine):
    """A rejection is not followed by a step back."""

    def on_append_reply(self, peer: int, message: AppendReply) -> None:
        if message.success or message.term != self.term:
            super().on_append_reply(peer, message)
        elif self.role == LEADER:
            follower = self.followers[peer]
            self.note_answer(follower, message.sequence, amnesiac=message.amnesiac)


class StepsBackByOne(Engine):
    """A conflict costs one round trip per entry."""

    def conflict_start(self, index: int) -> int:
        return index


class HonoursEveryRejection(Engine):
    """Each rejection of one flight rewinds anew."""

    def on_append_reply(self, peer: int, message: AppendReply) -> None:
        self.followers[peer].rewound = 0
        super().on_append_reply(peer, message)


class TrustsCommitIndex(Engine):
    """After a restart everything in the log is taken for committed."""

    def start(self) -> None:
        super().start()
        self.commit_index = self.log.last_index


class InstallsAnything(Engine):
    """A snapshot behind the applied state is installed all the same."""

    def on_chunk(self, peer: int, message: SnapshotChunk) -> None:
        applied, self.applied_index = self.applied_index, -1
        super().on_chunk(peer, message)
        if self.applied_index == -1:
            self.applied_index = applied


class AcceptsAnyChunk(Engine):
    """A lost part of a snapshot is not missed."""

    def receive(self, peer: int, message: SnapshotChunk) -> Incoming | None:
        if self.incoming is not None and message.number:
            self.incoming.number = message.number
            message = message._replace(total_crc=crc32(message.data, self.incoming.crc))
        return super().receive(peer, message)


class NoPreVote(Engine):
    """The deadline alone starts an election."""

    def gate_election(self) -> None:
        if self.role != LEADER and self.election_deadline < self.now:
            self.win_pre_vote()


class NoStickiness(Engine):
    """A voter that hears its leader would vote for another all the same."""

    def on_pre_vote(self, peer: int, message: PreVote) -> None:
        self.heard_at = NEVER
        super().on_pre_vote(peer, message)


class StaysInOffice(Engine):
    """The stock patience: half a minute without a majority."""

    def __init__(self, **given: Any) -> None:
        timing = replace(given.pop("timing", None) or Timing(), check_quorum_s=30.0)
        super().__init__(**given, timing=timing)


class IgnoresItsDisk(Engine):
    """A leader whose disk hangs goes on beating."""

    def disk_stalled(self) -> bool:
        return False


class ReadsBeforeItsNoOp(Engine):
    """A new leader trusts the commit index it came with."""

    def on_read_barrier(self, event: ReadBarrier) -> None:
        self.noop_index = 0
        super().on_read_barrier(event)


class SplitsCheckpoint(Engine):
    """The truncation reaches the disk in a batch before the records."""

    def save_checkpoint(self, index: int, term: int, changes: list[Record]) -> None:
        self.cut_log(index)
        self.write_batch()
        super().save_checkpoint(index, term, changes)


class SkipsWhatRaises(Engine):
    """An exception in the machine is written down, and the entry counts as applied."""

    def start(self) -> None:
        super().start()
        apply = self.machine.apply

        def careless(index: int, entry: bytes, decoded: object | None = None) -> object:
            try:
                return apply(index, entry, decoded)
            except MemoryError:
                return None

        self.machine.apply = careless  # type: ignore[method-assign]  # the plant


class CountsRepliesOfAny(CountsReplies, NoPreVote):
    """Votes are counted by the reply, and nothing keeps a minority from standing."""
