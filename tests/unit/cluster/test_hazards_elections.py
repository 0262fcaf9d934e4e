"""H5, votes as a set, and the ways to a new leader.

Stories as described in `tests.support.stories`.
"""

from __future__ import annotations

from typing import Any

import pytest

from cluster.engine import Engine
from cluster.events import PeerDisconnected, Received, TransferLeadership
from cluster.interface import Timing
from cluster.messages import PreVote, VoteReply, VoteRequest
from cluster.progress import NEVER
from cluster.state import CANDIDATE, FOLLOWER, LEADER
from tests.simulation import plants
from tests.support.sim_bench import Bench
from tests.support.stories import Story, name_of


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


def follower_cut_from_the_leader_alone_disturbs_nobody(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    leader = bench.elect(1)
    term = leader.term
    bench.cut = {(1, 2), (2, 1)}
    bench.advance(20)
    assert leader.role == LEADER
    assert {engine.term for engine in bench.engines.values()} == {term}


class StaysInOffice(Engine):
    """The stock patience: half a minute without a majority."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**{**given, "timing": Timing(check_quorum_s=30.0)})


def isolated_leader_steps_down_within_a_second_and_a_half(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    leader = bench.elect(1)
    bench.isolate(1)
    bench.advance(1.5, nodes=[1])
    assert leader.role == FOLLOWER


class WaitsForTheTimeout(Engine):
    """A closed connection means nothing."""

    def lost_sight_of_leader(self) -> None:
        return


def closed_connection_to_the_leader_starts_an_election_at_once(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    bench.elect(1)
    bench.advance(0.1)
    bench.isolate(1)
    for node in (2, 3):
        bench.step(node, PeerDisconnected(1))
    bench.advance(0.2, nodes=[2, 3])
    assert LEADER in {bench.engines[2].role, bench.engines[3].role}


def one_closed_connection_does_not_unseat_a_leader(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    leader = bench.elect(1)
    bench.advance(0.1)
    bench.cut = {(1, 2), (2, 1)}
    bench.step(2, PeerDisconnected(1))
    bench.advance(1.0)
    assert leader.role == LEADER
    assert bench.engines[2].term == leader.term


class IgnoresItsDisk(Engine):
    """A leader whose disk hangs goes on beating."""

    def disk_stalled(self) -> bool:
        return False


def leader_with_a_hung_disk_hands_over(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    leader = bench.elect(1)
    bench.stuck_disks = {1}
    bench.propose(1, "x")
    bench.advance(3.5)
    assert leader.role != LEADER
    assert LEADER in {bench.engines[2].role, bench.engines[3].role}


def one_voter_counts_once(engine: type[Engine]) -> None:
    bench = Bench(5, engine=engine)
    candidate = bench.engines[1]
    candidate.set_term(1, 1)
    candidate.role = CANDIDATE
    for _ in range(4):
        bench.step(1, Received(2, VoteReply(1, True)))
    assert candidate.role == CANDIDATE
    bench.step(1, Received(3, VoteReply(1, True)))
    assert candidate.role == LEADER


def one_vote_per_term(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    bench.step(3, Received(1, VoteRequest(1, 5, 0)))
    bench.step(3, Received(2, VoteRequest(1, 5, 0)))
    bench.restart(3)
    bench.step(3, Received(2, VoteRequest(1, 5, 0)))
    bench.settle()
    granted = [peer for _, peer, m in bench.held[3] if isinstance(m, VoteReply) and m.granted]
    assert granted in ([], [1])
    assert bench.engines[3].voted_for in {None, 1}


class NeverTransfers(Engine):
    """The leader stays, whatever it was asked."""

    def try_transfer(self) -> None:
        return


def leader_hands_over_when_asked(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    old = bench.elect(1)
    bench.advance(0.1)
    bench.step(1, TransferLeadership())
    bench.propose(1, "refused")
    bench.settle()
    assert bench.answers["refused"] == "NOT_LEADER"
    assert old.role == FOLLOWER
    assert LEADER in {bench.engines[2].role, bench.engines[3].role}


STORIES: list[tuple[Story, type[Engine]]] = [
    (follower_cut_from_the_leader_alone_disturbs_nobody, NoPreVote),
    (follower_cut_from_the_leader_alone_disturbs_nobody, NoStickiness),
    (isolated_leader_steps_down_within_a_second_and_a_half, StaysInOffice),
    (closed_connection_to_the_leader_starts_an_election_at_once, WaitsForTheTimeout),
    (one_closed_connection_does_not_unseat_a_leader, NoStickiness),
    (leader_with_a_hung_disk_hands_over, IgnoresItsDisk),
    (one_voter_counts_once, plants.CountsReplies),
    (one_vote_per_term, plants.ForgetsItsVote),
    (leader_hands_over_when_asked, NeverTransfers),
]


@pytest.mark.parametrize("story", list(dict.fromkeys(s for s, _ in STORIES)), ids=name_of)
def test_engine(story: Story) -> None:
    story(Engine)


@pytest.mark.parametrize(("story", "plant"), STORIES, ids=name_of)
def test_without_the_rule(story: Story, plant: type[Engine]) -> None:
    with pytest.raises(AssertionError):
        story(plant)
