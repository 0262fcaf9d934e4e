"""Elections while members come and go: newcomers are heard, leavers disturb nobody.

Stories as described in `tests.support.stories`.
"""

from __future__ import annotations

import logging

import pytest

from cluster.configuration import AddLearner, Promote, Remove
from cluster.engine import Engine
from cluster.events import PeerConnected, PeerDisconnected, Received, Tick, TransferLeadership
from cluster.interface import AMNESIAC_KEY, RAFT_META
from cluster.messages import AppendEntries, Message, PreVote, TimeoutNow, VoteReply, VoteRequest
from cluster.progress import NEVER, Follower
from cluster.state import FOLLOWER, LEADER
from cluster.steps import TERM_JUMP_MAX
from tests.support.sim_bench import Bench
from tests.support.stories import Story, name_of


class HearsAnyCandidate(Engine):
    """A request with a newer term counts, whoever leads."""

    def on_vote_request(self, peer: int, message: VoteRequest) -> None:
        super().on_vote_request(peer, message._replace(handed_over=True))


def removed_node_ends_no_leadership(engine: type[Engine]) -> None:
    bench = Bench(4, engine=engine)
    leader = bench.elect(1)
    bench.advance(0.1)
    bench.isolate(4)
    bench.change(1, Remove(4), "remove 4")
    bench.advance(0.2)
    assert bench.answers["remove 4"] == "changed"
    bench.heal()
    term = leader.term
    removed = bench.engines[4]
    assert removed.is_voter  # it was not there to learn it
    for _ in range(20):
        removed.heard_at = removed.election_deadline = NEVER
        bench.advance(0.1)
    for node in (1, 2, 3):
        request = VoteRequest(term + 1, 99, term + 1)
        bench.step(node, Received(4, request))
    bench.advance(0.1)
    assert leader.role == LEADER
    assert {bench.engines[node].term for node in (1, 2, 3)} == {term}


class AsksTheRemoved(Engine):
    """The answers of who is not a member count like anybody's."""

    def _on_received(self, event: Received) -> None:
        known = event.peer in self.followers
        self.followers.setdefault(event.peer, Follower(event.peer))
        super()._on_received(event)
        if not known:
            self.followers.pop(event.peer, None)


def answers_of_a_removed_node_count_for_nothing(engine: type[Engine]) -> None:
    bench = Bench(4, engine=engine)
    leader = bench.elect(1)
    bench.advance(0.1)
    bench.isolate(4)
    bench.change(1, Remove(4), "remove 4")
    bench.advance(0.2)
    bench.step(1, Received(4, VoteReply(leader.term + 3, False)))
    assert leader.role == LEADER


class HandsOverLikeAnyone(Engine):
    """A successor does not say that the leader asked it."""

    def on_vote_request(self, peer: int, message: VoteRequest) -> None:
        super().on_vote_request(peer, message._replace(handed_over=False))


def successor_is_elected_by_those_who_hear_the_leader(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    old = bench.elect(1)
    bench.advance(0.1)
    bench.step(1, TransferLeadership())
    bench.settle()
    assert old.role == FOLLOWER
    assert LEADER in {bench.engines[2].role, bench.engines[3].role}


class TransfersToAnyone(Engine):
    """Whoever has everything may succeed, learners too."""

    def try_transfer(self) -> None:
        electors, self.electors = self.electors, tuple(self.followers.values())[::-1]
        super().try_transfer()
        self.electors = electors


def learner_is_no_successor(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    bench.elect(1)
    bench.advance(0.1)
    bench.add_learner(1, 4)
    bench.step(1, TransferLeadership())
    asked = [to for _, to, message in bench.transit if isinstance(message, TimeoutNow)]
    assert asked in ([2], [3])


class HearsMembersOnly(Engine):
    """Who is not in this node's log is not heard."""

    def _on_received(self, event: Received) -> None:
        if event.peer in self.followers or not self.voters:
            super()._on_received(event)


def _grown_without_3(engine: type[Engine]) -> Bench:
    """Node 4 became a voter while 3 was away."""
    bench = Bench(engine=engine)
    bench.elect(1)
    bench.advance(0.1)
    bench.isolate(3)
    bench.cut |= {(3, 4), (4, 3)}
    bench.add_voter(1, 4)
    return bench


def leader_that_a_log_does_not_know_is_followed(engine: type[Engine]) -> None:
    bench = _grown_without_3(engine)
    bench.engines[1].become_follower(bench.engines[1].term)
    bench.elect(4)
    bench.propose(4, "x")
    bench.advance(0.1)
    bench.isolate(1)
    bench.isolate(2)
    bench.cut -= {(3, 4), (4, 3)}
    bench.reconnect(3, 4)
    bench.advance(0.3)
    assert bench.engines[3].leader_id == 4
    assert bench.entries(3) == ["x"]
    assert bench.engines[3].status.voters == (1, 2, 3, 4)


def candidate_that_a_log_does_not_know_gets_a_vote(engine: type[Engine]) -> None:
    bench = _grown_without_3(engine)
    bench.isolate(1)
    bench.cut -= {(3, 2), (2, 3), (3, 4), (4, 3)}
    for one in bench.engines.values():
        one.heard_at = NEVER
    bench.engines[4].election_deadline = NEVER
    bench.step(4, Tick())
    bench.settle()
    assert bench.engines[4].role == LEADER  # by itself, 2, and 3 who has never heard of it


class LearnersKeepTheirVote(Engine):
    """Who thinks it is a learner gives nobody a vote."""

    def on_vote_request(self, peer: int, message: VoteRequest) -> None:
        if self.is_voter:
            super().on_vote_request(peer, message)

    def on_pre_vote(self, peer: int, message: PreVote) -> None:
        if self.is_voter:
            super().on_pre_vote(peer, message)


def voter_that_does_not_know_of_its_promotion_votes(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    bench.elect(1)
    bench.advance(0.1)
    bench.add_learner(1, 4)
    bench.isolate(4)
    bench.change(1, Promote(4), "promote")
    bench.advance(0.2)
    assert bench.answers["promote"] == "changed"
    assert not bench.engines[4].is_voter
    bench.heal()
    bench.isolate(1)
    for one in bench.engines.values():
        one.heard_at = NEVER
    bench.engines[2].election_deadline = NEVER
    bench.step(2, Tick())
    bench.settle()
    assert bench.engines[2].role == LEADER  # three of four: 2, 3 and 4


class BelievesAnyTerm(Engine):
    """A term is a term."""

    def believes_term(self, term: int) -> bool:
        return True


def term_beyond_reason_changes_nothing(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    leader = bench.elect(1)
    bench.advance(0.1)
    term = leader.term
    jump = term + TERM_JUMP_MAX + 1
    wrong: list[Message] = [
        AppendEntries(jump, 1, 0, 0, 0, []),
        VoteRequest(jump, 99, jump, True),
        VoteReply(jump, False),
    ]
    for node in (1, 2):
        for message in wrong:
            bench.step(node, Received(3, message))
    assert leader.role == LEADER
    assert [bench.engines[node].term for node in (1, 2)] == [term, term]


class VouchesWithAnOpenChange(Engine):
    """Which voters elect a successor is taken from a configuration nobody else may know."""

    def vouches(self, follower: Follower) -> bool:
        index, self.log.configuration_index = self.log.configuration_index, 0
        vouched = super().vouches(follower)
        self.log.configuration_index = index
        return vouched


def memory_is_not_given_back_during_a_change(engine: type[Engine]) -> None:
    bench = Bench(5, engine=engine)
    bench.elect(1)
    bench.advance(0.1)
    bench.isolate(1)
    bench.isolate(2)
    bench.cut -= {(1, 2), (2, 1)}
    bench.change(1, Remove(5), "remove 5")  # 1 and 2 know of it: two of four
    bench.settle()
    bench.elect(3)
    bench.propose(3, "kept")
    bench.settle()
    assert bench.answers["kept"] == "applied"  # by 3, 4 and 5
    bench.isolate(4)
    _wipe(bench, 4)
    bench.cut -= {(1, 4), (4, 1), (2, 4), (4, 2)}
    bench.reconnect(1, 4)
    bench.advance(0.3, nodes=[1, 2, 4])
    bench.propose(1, "ghost")
    bench.advance(0.2, nodes=[1, 2, 4])
    assert bench.answers.get("ghost") != "applied"
    assert bench.engines[4].amnesiac


def _wipe(bench: Bench, node: int) -> None:
    disk = bench.disks[node]
    disk.wipe()
    disk.put(RAFT_META, AMNESIAC_KEY, b"")
    disk.sync(disk.write() or 0)
    bench.restart(node)


class VouchesByAnswers(Engine):
    """A majority that answers is enough; it need not hold anything new."""

    def prove_leadership(self) -> None:
        self.proof_wanted = False

    def vouches(self, follower: Follower) -> bool:
        since = follower.amnesiac_since
        return since is not None and self.confirmed_sequence() > self.spoke_at

    def note_memory(self, follower: Follower, *, amnesiac: bool) -> None:
        if amnesiac and follower.amnesiac_since is None:
            self.spoke_at = self.sequence
        super().note_memory(follower, amnesiac=amnesiac)


def forgotten_vote_elects_nobody(engine: type[Engine]) -> None:
    """3 votes for 2, forgets it, and is filled up by 1, which still leads 4 and 5."""
    bench = Bench(5, engine=engine)
    leader = bench.elect(1)
    bench.advance(0.1)
    bench.isolate(2)
    bench.cut -= {(2, 3), (3, 2)}
    late = bench.engines[2]
    bench.engines[3].heard_at = late.heard_at = NEVER
    late.win_pre_vote()
    bench.now += 0.001
    bench.step(2, Tick())
    bench.settle()
    assert late.votes == {3}
    term = late.term
    bench.isolate(3)
    _wipe(bench, 3)
    for node in (1, 4, 5):
        bench.cut -= {(3, node), (node, 3)}
        bench.reconnect(3, node)
    bench.advance(0.3, nodes=[1, 3, 4, 5])
    assert leader.role == LEADER
    assert not bench.engines[3].amnesiac
    bench.isolate(1)  # it is gone; what 2 asked of 4 arrives only now
    for node in (3, 4, 5):
        bench.engines[node].heard_at = NEVER
        bench.step(node, PeerDisconnected(1))
    bench.cut -= {(2, 4), (4, 2)}
    asked = VoteRequest(term, late.log.last_index, late.log.last_term)
    bench.step(4, Received(2, asked))
    bench.settle()
    assert late.role != LEADER  # 3 could elect another in the same term


def wiped_voter_comes_back_as_a_learner(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    bench.elect(1)
    bench.advance(0.1)
    bench.isolate(3)
    bench.change(1, Remove(3), "remove 3")
    bench.advance(0.2)
    bench.heal()
    bench.founding[3] = bench.founding[3].nobody()
    _wipe(bench, 3)
    again = bench.engines[3]
    bench.advance(1.0)
    assert again.status.members == {}
    assert not again.is_voter
    bench.change(1, AddLearner(3, ("127.0.0.1", 7403)), "add 3")
    bench.advance(0.3)
    bench.change(1, Promote(3), "promote 3")
    bench.advance(0.2)
    assert bench.answers["promote 3"] == "changed"
    assert not again.amnesiac
    assert again.status.voters == (1, 2, 3)


class NeverRemembers(Engine):
    """Once amnesiac, for ever amnesiac."""

    def recover_memory(self, commit_index: int, end: int) -> None:
        return


class ForgetsConnections(Engine):
    """A connection from before the membership is unknown to it."""

    def take_configuration(self) -> None:
        self.connected = set()
        super().take_configuration()


def newcomer_that_is_connected_is_sent_everything_at_once(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    bench.elect(1)
    bench.advance(0.1)
    bench.propose(1, "x")
    bench.settle()
    bench.join(4, amnesiac=False)
    bench.change(1, AddLearner(4, ("127.0.0.1", 7404)), "add")
    bench.settle()
    assert bench.logged(4) == ["x"]


STORIES: list[tuple[Story, type[Engine]]] = [
    (removed_node_ends_no_leadership, HearsAnyCandidate),
    (answers_of_a_removed_node_count_for_nothing, AsksTheRemoved),
    (successor_is_elected_by_those_who_hear_the_leader, HandsOverLikeAnyone),
    (learner_is_no_successor, TransfersToAnyone),
    (leader_that_a_log_does_not_know_is_followed, HearsMembersOnly),
    (candidate_that_a_log_does_not_know_gets_a_vote, HearsMembersOnly),
    (voter_that_does_not_know_of_its_promotion_votes, LearnersKeepTheirVote),
    (term_beyond_reason_changes_nothing, BelievesAnyTerm),
    (memory_is_not_given_back_during_a_change, VouchesWithAnOpenChange),
    (forgotten_vote_elects_nobody, VouchesByAnswers),
    (wiped_voter_comes_back_as_a_learner, NeverRemembers),
    (newcomer_that_is_connected_is_sent_everything_at_once, ForgetsConnections),
]


@pytest.mark.parametrize("story", list(dict.fromkeys(s for s, _ in STORIES)), ids=name_of)
def test_engine(story: Story) -> None:
    story(Engine)


@pytest.mark.parametrize(("story", "plant"), STORIES, ids=name_of)
def test_without_the_rule(story: Story, plant: type[Engine]) -> None:
    with pytest.raises(AssertionError):
        story(plant)


def test_a_term_beyond_reason_is_counted_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    leader = bench.elect(1)
    with caplog.at_level(logging.ERROR, logger="cluster.steps"):
        for _ in range(3):
            bench.step(1, Received(2, VoteReply(leader.term + TERM_JUMP_MAX + 1, False)))
    assert leader.status.terms_refused == 3
    assert [record.getMessage() for record in caplog.records] == [
        "node 1: node 2 speaks of term 4294967298, this node is in term 1: the message is "
        "dropped, look at the memory and the software of node 2"
    ]


def test_a_stranger_that_connects_and_parts_is_nobody() -> None:
    bench = Bench()
    leader = bench.elect(1)
    bench.step(1, PeerConnected(9))
    assert 9 not in leader.followers
    bench.step(1, PeerDisconnected(9))
    assert leader.role == LEADER


def test_a_leader_that_left_the_log_is_missed_when_its_connection_closes() -> None:
    bench = Bench()
    bench.elect(1)
    bench.advance(0.1)
    bench.step(2, Received(9, AppendEntries(bench.engines[2].term + 1, 1, 0, 0, 0, [])))
    assert bench.engines[2].leader_id == 9
    bench.step(2, PeerDisconnected(9))
    assert bench.engines[2].leader_id is None
