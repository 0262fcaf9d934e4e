"""Amnesia: a node that may have forgotten what it confirmed, and how it is filled up again.

An amnesiac neither votes nor counts. A leader that vouches for its commit index ends that:
everything the amnesiac ever confirmed is then committed at or below it, or was never
committed, and can be had from the leader's log; and no vote it ever gave can elect anybody.
"""

from __future__ import annotations

from cluster.interface import AMNESIAC_KEY, RAFT_META
from cluster.log import NO_OP
from cluster.progress import Follower
from cluster.state import LEADER, State


class Memory(State):
    """Both sides of an amnesia."""

    def set_up(self) -> None:
        """Give this part's fields their first values."""
        super().set_up()
        self.memories_recovered = 0
        self.proof_wanted = False

    def note_memory(self, follower: Follower, *, amnesiac: bool) -> None:
        """A follower says whether it may have forgotten; if so, it holds nothing for sure."""
        if amnesiac and not follower.amnesiac:
            follower.match = 0
        follower.amnesiac = amnesiac
        if not amnesiac:
            follower.amnesiac_since = None
        elif follower.amnesiac_since is None:
            follower.amnesiac_since = self.log.last_index
            self.proof_wanted = True

    def vouches(self, follower: Follower) -> bool:
        """Whether this leader's commit index covers all that an amnesiac may have confirmed.

        A leader may be deposed and not know it; then the amnesiac may have confirmed, and
        forgotten, entries of its successor, or have voted for a candidate that is still
        counting. So the leader appends an entry after the amnesiac spoke. Any majority with
        the amnesiac in it shares a node with those who are asked to hold that entry: it would
        have answered with a newer term, or from now on votes for no log without the entry.
        A successor is elected by these voters only if their configuration is committed:
        nobody votes for a log without that either.
        """
        since = follower.amnesiac_since
        if since is None or self.log.configuration_index > self.commit_index:
            return False
        needed = len(self.voters) - self.quorum
        holders = sum(other.counts and other.match > since for other in self.electors)
        return self.durable_index > since and holders >= needed

    def prove_leadership(self) -> None:
        """Append an entry that only a leader's followers will hold."""
        self.proof_wanted = False
        if self.role == LEADER:
            self.broadcast(self.log.append(NO_OP, self.term), NO_OP)

    def recover_memory(self, commit_index: int, end: int) -> None:
        """Stop being amnesiac once everything this node may have confirmed is back.

        The leader's commit index covers that only when the leader vouches for it and the
        entry at it is of its own term. The vote of this term goes to the leader, whom this
        node may have elected.
        """
        if end >= commit_index and self.log.term_at(commit_index) == self.term:
            self.amnesiac = False
            self.memories_recovered += 1
            self.disk.delete(RAFT_META, AMNESIAC_KEY)
            self.set_term(self.term, self.leader_id)
