"""Who counts: the configuration in force, and changes of it, one node at a time.

A configuration is in force from the moment it is in the log, on the leader as on everyone,
and taken back with the entry (Raft thesis 4.1). A leader begins a change only when no other
is open and an entry of its own term is committed: otherwise two changes of two leaders could
be open at once, with majorities that do not meet. Learners are sent everything and asked
nothing.
"""

from __future__ import annotations

from cluster.configuration import (
    MEMBERS_MAX,
    VOTERS_MAX,
    AddLearner,
    Change,
    ChangeRefusal,
    Configuration,
    Promote,
)
from cluster.events import ChangeMembers
from cluster.progress import NEVER, REPLICATE, Follower
from cluster.state import ANSWER_MAX_S, LEADER, State


class Members(State):
    """The configuration in force and the leader's changes of it."""

    def set_up(self) -> None:
        """Give this part's fields their first values."""
        super().set_up()
        self.change: tuple[int, object] | None = None
        self.changed_at = NEVER

    # ---------------------------------------------------------------- everyone

    def adopt_configuration(self) -> None:
        """Follow the log: another configuration may have come into force."""
        if self.log.configuration is self.configuration:
            return
        self.take_configuration()
        self.stock_members()
        self.ready.members_changed = True

    def take_configuration(self) -> None:
        """Count with the members of the configuration in force, and with nobody else."""
        configuration = self.configuration = self.log.configuration
        known, self.followers = self.followers, {}
        for peer in configuration.members:
            if peer != self.node_id:
                follower = known.pop(peer) if peer in known else self.welcome(peer)
                follower.voter = peer in configuration.voters
                self.followers[peer] = follower
        for follower in known.values():
            follower.close_snapshot()
        self.voters, self.quorum = configuration.voters, configuration.quorum
        self.electors = tuple(f for f in self.followers.values() if f.voter)
        self.is_voter = self.node_id in self.voters
        self.quorum_ends_at = NEVER

    def welcome(self, peer: int) -> Follower:
        """Make the record of a new member; it may have been connected for long."""
        follower = Follower(peer)
        follower.connected = peer in self.connected
        if self.role == LEADER:
            follower.heard_at = self.now
            follower.start_probing(self.log.last_index + 1, self.sequence)
        return follower

    # ------------------------------------------------------------------ leader

    def on_change_members(self, event: ChangeMembers) -> None:
        """Append the configuration a change leads to, or say why not."""
        refusal = self.refuse_change(event.change)
        if refusal is not None:
            self.ready.changes.append((event.context, 0, refusal))
            return
        entry = self.changed(event.change).to_entry()
        index = self.log.append(entry, self.term)
        self.change, self.changed_at = (index, event.context), self.now
        before = self.followers
        self.adopt_configuration()
        # Not to who leaves: if it alone had the entry it would refuse all others, and never
        # stand itself. Once it is committed every node tells it (`cluster.membership`).
        self.broadcast(index, entry)
        for peer, follower in self.followers.items():
            if peer not in before:
                self.probe(follower)

    def changed(self, change: Change) -> Configuration:
        """The configuration that a change leads to.

        Raises:
            ConfigurationError: There is none.
        """
        if isinstance(change, AddLearner):
            return self.configuration.with_learner(change.node_id, change.address)
        if isinstance(change, Promote):
            return self.configuration.promoted(change.node_id)
        return self.configuration.without(change.node_id)

    def refuse_change(self, change: Change) -> ChangeRefusal | None:
        """Why a change cannot begin now, None when it can."""
        if self.role != LEADER:
            return "NOT_LEADER"
        if self.transfer_until > self.now:
            return "HANDING_OVER"
        if self.change_open():
            return "CHANGE_UNDER_WAY"
        if not self.settled():
            return "NOT_SETTLED"
        if isinstance(change, AddLearner):
            return self._refuse_learner(change)
        if isinstance(change, Promote):
            return self._refuse_promotion(change.node_id)
        return self._refuse_removal(change.node_id)

    def change_open(self) -> bool:
        """Whether a configuration in the log is not committed yet."""
        return self.log.configuration_index > self.commit_index

    def settled(self) -> bool:
        """Whether this leader has committed an entry of its own term.

        Without this, a change of an earlier leader that this one has never seen could still
        be completed, together with one begun here.
        """
        return self.commit_index >= self.noop_index

    def _refuse_learner(self, change: AddLearner) -> ChangeRefusal | None:
        if change.node_id in self.configuration.members:
            return "ALREADY"
        return "TOO_MANY" if len(self.configuration.members) >= MEMBERS_MAX else None

    def _refuse_promotion(self, node_id: int) -> ChangeRefusal | None:
        if node_id in self.voters:
            return "ALREADY"
        if node_id not in self.configuration.learners:
            return "NO_SUCH_MEMBER"
        if len(self.voters) >= VOTERS_MAX:
            return "TOO_MANY"
        if not self.caught_up(self.followers[node_id]):
            return "NOT_CAUGHT_UP"
        return None if self.can_commit(self.configuration.promoted(node_id)) else "QUORUM_AT_RISK"

    def _refuse_removal(self, node_id: int) -> ChangeRefusal | None:
        if node_id not in self.configuration.members:
            return "NO_SUCH_MEMBER"
        if node_id not in self.voters:
            return None
        if not self.can_commit(self.configuration.without(node_id)):
            return "QUORUM_AT_RISK"
        if node_id == self.node_id:
            self.on_transfer()
            return "HANDING_OVER"
        return None

    def caught_up(self, follower: Follower) -> bool:
        """Whether a member could be counted on at once: it lacks no more than is under way."""
        return (
            follower.connected
            and follower.counts
            and follower.mode is REPLICATE
            and self.commit_index - follower.match <= self.timing.flight_max
            and self.now - follower.heard_at < self.timing.check_quorum_s
        )

    def can_commit(self, configuration: Configuration) -> bool:
        """Whether a majority of these voters is there and caught up."""
        ready = sum(
            voter == self.node_id or self.caught_up(self.followers[voter])
            for voter in configuration.voters
        )
        return ready >= configuration.quorum

    def answer_change(self, index: int) -> None:
        """An entry with a configuration was applied: its caller may hear of it."""
        if self.change is not None and self.change[0] == index:
            self.ready.changes.append((self.change[1], index, None))
            self.change = None

    def give_up_change(self) -> None:
        """Answer an open change that could not be committed for long; it stays in the log."""
        if self.change is not None and self.now - self.changed_at > ANSWER_MAX_S:
            self.fail_change()

    def fail_change(self) -> None:
        """Others decide now what becomes of the open change."""
        if self.change is not None:
            index, context = self.change
            self.ready.changes.append((context, index, "UNKNOWN_OUTCOME"))
            self.change = None
