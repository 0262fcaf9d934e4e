"""Read barriers (ReadIndex, Raft thesis 6.4): no stale read, no clock involved.

A read notes the highest sequence sent so far. Once a majority has answered something sent
later, this node was still the leader after the read arrived, and everything acknowledged
before it is committed at or below the index noted with it. A round is started at once when
none is under way; reads that arrive meanwhile share the next one.
"""

from __future__ import annotations

from collections import deque

from cluster.events import ReadBarrier
from cluster.progress import NEVER
from cluster.state import ANSWER_MAX_S, LEADER, State


class Reads(State):
    """Open read barriers of a leader."""

    def set_up(self) -> None:
        """Give this part's fields their first values."""
        super().set_up()
        self.reads: deque[tuple[object, int, int]] = deque()
        self.round_sequence: int | None = None
        self.reads_moved_at = NEVER

    def on_read_barrier(self, event: ReadBarrier) -> None:
        """Note a read, and start a round for it unless one is under way."""
        if self.role != LEADER:
            self.ready.reads.append((event.context, False))
            return
        # Before the no-op is committed the commit index may be older than what earlier
        # leaders acknowledged; after it, it never is.
        index = max(self.commit_index, self.noop_index)
        if not self.reads:
            self.reads_moved_at = self.now
        self.reads.append((event.context, index, self.sequence))
        if self.round_sequence is None:
            self.start_round()

    def start_round(self) -> None:
        """Send a heartbeat to all, with a sequence above every open read's."""
        self.round_sequence = self.sequence
        self.heartbeat()

    def confirmed_sequence(self) -> float:
        """What a majority, this node included, has answered up to."""
        answered = [f.answered for f in self.electors if not (f.forgot or f.amnesiac)]
        answered.sort(reverse=True)
        needed = self.quorum - 1
        if needed == 0:
            return float("inf")
        return answered[needed - 1] if len(answered) >= needed else 0

    def check_reads(self) -> None:
        """Answer the reads a majority has confirmed, in their order."""
        if not self.reads:
            return
        confirmed = self.confirmed_sequence()
        while self.reads:
            context, index, sequence = self.reads[0]
            if sequence >= confirmed or index > self.applied_index:
                break
            self.reads.popleft()
            self.reads_moved_at = self.now
            self.ready.reads.append((context, True))
        if self.round_sequence is not None and self.round_sequence < confirmed:
            self.round_sequence = None
            if self.reads and self.reads[-1][2] >= confirmed:
                self.start_round()

    def give_up_reads(self) -> None:
        """Answer with no what has waited for long: those who ask again would add up for ever."""
        if self.reads and self.now - self.reads_moved_at > ANSWER_MAX_S:
            self.fail_reads()

    def fail_reads(self) -> None:
        """Answer every open read with no."""
        self.ready.reads.extend((context, False) for context, _, _ in self.reads)
        self.reads.clear()
        self.round_sequence = None
