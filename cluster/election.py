"""Elections: PreVote with stickiness, votes as a set, a fast start when the leader goes.

The stock engine starts the election itself (a new term, a vote for itself, requests to
all) once `election_deadline` has passed. The gate in front of it is here: the deadline
first buys a round of PreVote, and only a majority of that lets the stock code run.
"""

from __future__ import annotations

from cluster.messages import PreVote, PreVoteReply, TimeoutNow, VoteReply, VoteRequest
from cluster.progress import NEVER
from cluster.state import CANDIDATE, FOLLOWER, LEADER, InvariantBroken, State

TRANSFER_MAX_S = 1.0
"""A handover that nobody takes refuses proposals for so long, however patient elections are."""


class Election(State):
    """The voter's and the candidate's side."""

    def set_up(self) -> None:
        """Give this part's fields their first values."""
        super().set_up()
        self.votes: set[int] = set()
        self.pre_votes: set[int] = set()
        self.pre_vote_round = 0
        self.pre_vote_won = False
        self.encouraged: tuple[int, float] = (self.node_id, NEVER)
        self.fast_until = NEVER
        self.counted_leader = (0, 0)
        self.transfer_until = NEVER
        self.transfer_asked: int | None = None
        self.transfer_passed: set[int] = set()
        self.handed_over = False

    def election_wait_s(self) -> float:
        """How long to wait for a leader this time, drawn anew each time."""
        timing = self.timing
        if self.now < self.fast_until:
            return self.rng.uniform(timing.fast_max_s / 2, timing.fast_max_s * 2)
        return self.rng.uniform(timing.election_min_s, timing.election_max_s)

    def reset_deadline(self) -> None:
        """Wait a full random election timeout from now."""
        self.election_deadline = self.now + self.election_wait_s()
        self.pre_vote_won = False

    def forget_election(self) -> None:
        """Votes and pre-votes of another term mean nothing."""
        self.votes = set()
        self.pre_votes = set()
        self.pre_vote_round += 1
        self.pre_vote_won = False

    def gate_election(self) -> None:
        """Stand between the deadline and the stock election: a majority must agree first."""
        if self.role == LEADER or self.election_deadline >= self.now or self.pre_vote_won:
            return
        self.reset_deadline()
        if self.amnesiac or not self.is_voter:
            return
        if self.quorum == 1 and self.role == CANDIDATE:
            # Its vote is on the way to the disk. Another term would need another vote, which a
            # slow disk would not make durable before the next deadline either.
            self.lead_alone()
            return
        self.pre_votes = set()
        self.pre_vote_round += 1
        self.encouraged = (self.node_id, self.now)
        if self.quorum == 1:
            self.win_pre_vote()
            return
        request = PreVote(
            self.term + 1, self.pre_vote_round, self.log.last_index, self.log.last_term
        )
        for follower in self.electors:
            if follower.connected:
                self.answer(follower.peer, request)

    def win_pre_vote(self) -> None:
        """Let the stock code start the election at its next tick."""
        self.pre_vote_won = True
        self.election_deadline = NEVER

    def campaign(self) -> None:
        """Run the stock election start at once instead of at the next tick."""
        self.stock_tick()
        if self.pre_vote_won:
            self.reset_deadline()

    def is_behind(self, last_term: int, last_index: int) -> bool:
        """Whether a candidate's log lacks something this one has (Raft 5.4.1)."""
        return (last_term, last_index) < (self.log.last_term, self.log.last_index)

    def hears_leader(self) -> bool:
        """Whether this node leads, or has heard its leader just now (Raft thesis 4.2.3)."""
        return self.role == LEADER or self.now - self.heard_at < self.timing.election_min_s

    def on_pre_vote(self, peer: int, message: PreVote) -> None:
        """Would this node vote? Not while it hears a leader, or is one."""
        granted = (
            not self.hears_leader()
            and not self.amnesiac
            and message.term > self.term
            and not self.is_behind(message.last_term, message.last_index)
            and not self.prefers_another(peer, message)
        )
        if granted:
            self.encouraged = (peer, self.now)
        self.answer(peer, PreVoteReply(self.term, message.round, granted))

    def prefers_another(self, peer: int, message: PreVote) -> bool:
        """Whether this node has just encouraged somebody else, or wants to stand itself.

        Two that stand at once split the vote: another term, and another wait. Of this node
        and a peer that both want to, the one with more in its log stands, or the higher id.
        """
        chosen, at = self.encouraged
        if chosen == peer or self.now - at >= self.timing.heartbeat_s:
            return False
        if chosen != self.node_id:
            return True
        own = (self.log.last_term, self.log.last_index, self.node_id)
        return (message.last_term, message.last_index, peer) < own

    def on_pre_vote_reply(self, peer: int, message: PreVoteReply) -> None:
        """Count who would vote; a majority starts the election at once."""
        if message.term > self.term:
            self.become_follower(message.term)
        elif (
            message.granted
            and self.followers[peer].voter
            and self.role != LEADER
            and message.round == self.pre_vote_round
            and not self.pre_vote_won
            and not self.amnesiac
        ):
            self.pre_votes.add(peer)
            if 1 + len(self.pre_votes) >= self.quorum:
                self.win_pre_vote()
                self.campaign()

    def on_vote_request(self, peer: int, message: VoteRequest) -> None:
        """Vote once per term, for a log at least as complete, never when amnesiac.

        Who hears a leader does not even look at the term: a node that was removed, or was
        away, must not end a leadership that works. Only a request made at the leader's own
        wish passes. A learner may vote, for it may have been promoted without knowing.
        """
        if message.term > self.term and self.hears_leader() and not message.handed_over:
            return
        if message.term > self.term:
            self.become_follower(message.term)
        granted = (
            message.term == self.term
            and self.role != LEADER
            and not self.amnesiac
            and self.voted_for in {None, peer}
            and self.leader_id in {None, peer}
            and not self.is_behind(message.last_term, message.last_index)
        )
        if granted:
            if self.voted_for is None:
                self.set_term(self.term, peer)
            self.reset_deadline()
        self.answer(peer, VoteReply(self.term, granted))

    def on_vote_reply(self, peer: int, message: VoteReply) -> None:
        """Count voters, not replies: a repeated one changes nothing."""
        if message.term > self.term:
            self.become_follower(message.term)
        elif (
            message.granted
            and self.followers[peer].voter
            and self.role == CANDIDATE
            and message.term == self.term
        ):
            self.votes.add(peer)
            if 1 + len(self.votes) >= self.quorum:
                self.lead()

    def on_timeout_now(self, peer: int, message: TimeoutNow) -> None:
        """The leader itself asks for a successor: no PreVote, no waiting."""
        if (
            message.term == self.term
            and peer == self.leader_id
            and self.is_voter
            and not self.amnesiac
        ):
            self.win_pre_vote()
            self.handed_over = True
            self.campaign()
            self.handed_over = False

    def on_transfer(self) -> None:
        """Stop taking proposals and look for a successor."""
        if self.role == LEADER and self.electors:
            self.transfer_until = self.now + min(self.timing.election_max_s, TRANSFER_MAX_S)
            if self.transfer_asked is not None:  # in vain, or this node would not lead
                self.transfer_passed.add(self.transfer_asked)
                self.transfer_asked = None
            self.try_transfer()

    def try_transfer(self) -> None:
        """Ask a voter to stand, once it lacks nothing.

        Not everyone who is asked stands: a clock may be wrong there, a disk may hang. Whoever
        has not is passed over until all others have been asked too.
        """
        ready = [
            f for f in self.electors if f.connected and f.counts and f.match == self.log.last_index
        ]
        if ready and self.transfer_asked is None:
            fresh = [f for f in ready if f.peer not in self.transfer_passed]
            if not fresh:
                self.transfer_passed.clear()
            self.transfer_asked = (fresh or ready)[0].peer
            self.send(self.transfer_asked, TimeoutNow(self.term))

    def forget_transfer(self) -> None:
        """Begin an office with nobody asked to follow in it."""
        self.transfer_until = NEVER
        self.transfer_asked = None
        self.transfer_passed.clear()

    def accept_leader(self, peer: int, term: int) -> None:
        """Follow the sender of a message only a leader sends.

        Raises:
            InvariantBroken: This term has another leader already.
        """
        if term > self.term:
            self.become_follower(term)
        if self.leader_id is None:
            self.leader_id = peer
            self.count_leader(peer)
        elif self.leader_id != peer:
            raise InvariantBroken(f"two leaders in term {term}: {self.leader_id} and {peer}")
        now = self.now
        self.role = FOLLOWER
        self.pre_vote_round += 1
        self.heard_at = now
        follower = self.followers.get(peer)
        if follower is not None:  # a leader may be newer than what this log says of members
            follower.heard_at = now
        self.fast_until = NEVER
        self.pre_vote_won = False
        # A deadline still further off than the shortest wait is as good as a new one.
        if self.election_deadline < now + self.timing.election_min_s:
            self.reset_deadline()

    def count_leader(self, leader_id: int) -> None:
        """Count changes of leader, not the times one was lost from sight and found again."""
        if self.counted_leader != (self.term, leader_id):
            self.counted_leader = (self.term, leader_id)
            self.leader_changes += 1

    def lost_sight_of_leader(self) -> None:
        """The connection to the leader has closed: ask around at once.

        Its process may be gone, so this voter's stickiness is off. If it is not gone, the
        voters that still hear it refuse, and nothing is disturbed.
        """
        self.leader_id = None
        self.heard_at = NEVER
        self.fast_until = self.now + self.timing.fast_window_s
        wait_s = self.rng.uniform(self.timing.fast_min_s, self.timing.fast_max_s)
        self.election_deadline = min(self.election_deadline, self.now + wait_s)
        self.pre_vote_won = False
