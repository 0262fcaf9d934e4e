"""Amnesia: a node that may have forgotten what it confirmed, and how it is filled up again.

An amnesiac neither votes nor counts. A leader that vouches for its commit index ends that:
everything the amnesiac ever confirmed is then committed at or below it, or was never
committed, and can be had from the leader's log.
"""

from __future__ import annotations

from cluster.interface import AMNESIAC_KEY, RAFT_META
from cluster.progress import Follower
from cluster.state import State


class Memory(State):
    """Both sides of an amnesia."""

    def set_up(self) -> None:
        """Give this part's fields their first values."""
        super().set_up()
        self.memories_recovered = 0

    def note_memory(self, follower: Follower, *, amnesiac: bool) -> None:
        """A follower says whether it may have forgotten; if so, it holds nothing for sure."""
        if amnesiac and not follower.amnesiac:
            follower.match = 0
        follower.amnesiac = amnesiac
        if not amnesiac:
            follower.amnesiac_since = None
        elif follower.amnesiac_since is None:
            follower.amnesiac_since = self.sequence

    def vouches(self, follower: Follower) -> bool:
        """Whether this leader's commit index covers all that an amnesiac may have confirmed.

        A leader may be deposed and not know it; then the amnesiac may have confirmed, and
        forgotten, entries of its successor. Any majority with the amnesiac in it shares a
        node with as many others as are asked here, and that node would answer with the
        newer term. Only what was sent after the amnesiac spoke can prove it.
        """
        since = follower.amnesiac_since
        needed = len(self.voters) - self.quorum
        return since is not None and self.confirmed_sequence(needed) > since

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
