"""One candidate at a time: voters that stand at once split the vote.

That costs another term, another wait and, after a leader was cut off, seconds without one.
Found by cutting leaders off in `tests.simulation.partitions`: 7 of 30 elections took more
than one term while deadlines were looked at every 50 ms, and 1 of 80 while voters
encouraged whoever asked.

Stories as described in `tests.support.stories`.
"""

from __future__ import annotations

import pytest

from cluster.engine import Engine
from cluster.events import PeerConnected, Received, Tick
from cluster.messages import PreVote, PreVoteReply
from cluster.progress import NEVER
from cluster.state import LEADER
from tests.support.sim_bench import Bench
from tests.support.stories import Story, name_of


class EncouragesAnyone(Engine):
    """A voter says yes to everybody who asks before there is a leader."""

    def prefers_another(self, peer: int, message: PreVote) -> bool:
        return False


def _leaderless(engine: type[Engine], nodes: int) -> Bench:
    """Node 1 led and is cut off; the others would not vote against anybody."""
    bench = Bench(nodes, engine=engine)
    bench.elect(1)
    bench.advance(0.3)
    bench.isolate(1)
    for node in bench.voters:
        bench.engines[node].heard_at = NEVER
    return bench


def two_voters_that_ask_at_once_elect_one_of_them(engine: type[Engine]) -> None:
    for nodes in (3, 5):
        bench = _leaderless(engine, nodes)
        term = bench.engines[1].term
        for node in (2, 3):
            bench.engines[node].election_deadline = NEVER
        for node in (2, 3):
            bench.step(node, Tick())
        bench.settle()
        leaders = [node for node in bench.voters[1:] if bench.engines[node].role == LEADER]
        assert len(leaders) == 1
        assert bench.engines[leaders[0]].term == term + 1


def voter_that_lacks_an_entry_stands_back(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    bench.elect(1)
    bench.cut = {(1, 3)}
    bench.propose(1, "only on 1 and 2")
    bench.settle()
    bench.isolate(1)
    for node in (2, 3):
        bench.engines[node].heard_at = bench.engines[node].election_deadline = NEVER
        bench.step(node, Tick())
    bench.settle()
    assert bench.engines[2].role == LEADER


def _granted(bench: Bench, candidate: int) -> bool:
    engine = bench.engines[3]
    last = engine.log.last_index, engine.log.last_term
    bench.step(3, Received(candidate, PreVote(engine.term + 1, 77, *last)))
    (reply,) = [m for _, m in bench.last.messages if isinstance(m, PreVoteReply)]
    return reply.granted


def voter_encourages_another_when_the_first_comes_to_nothing(engine: type[Engine]) -> None:
    bench = _leaderless(engine, 5)
    assert _granted(bench, 2)
    assert _granted(bench, 2)
    assert not _granted(bench, 4)
    bench.now += bench.timing.heartbeat_s + 0.001
    assert _granted(bench, 4)


STORIES: list[tuple[Story, type[Engine]]] = [
    (two_voters_that_ask_at_once_elect_one_of_them, EncouragesAnyone),
    (voter_encourages_another_when_the_first_comes_to_nothing, EncouragesAnyone),
]


@pytest.mark.parametrize("story", list(dict.fromkeys(s for s, _ in STORIES)), ids=name_of)
def test_engine(story: Story) -> None:
    story(Engine)


@pytest.mark.parametrize(("story", "plant"), STORIES, ids=name_of)
def test_without_the_rule(story: Story, plant: type[Engine]) -> None:
    with pytest.raises(AssertionError):
        story(plant)


def test_a_voter_that_lacks_an_entry_does_not_hinder_one_that_has_it() -> None:
    voter_that_lacks_an_entry_stands_back(Engine)


def test_a_follower_asks_for_a_tick_at_its_own_deadline() -> None:
    bench = Bench()
    bench.elect(1)
    bench.advance(0.3)
    for node in (2, 3):
        ready = bench.step(node, PeerConnected(1))
        assert ready.tick_at == bench.engines[node].election_deadline
    assert bench.engines[2].election_deadline != bench.engines[3].election_deadline


def test_a_deadline_that_has_passed_asks_for_nothing() -> None:
    bench = Bench(amnesiac=[2])
    follower = bench.engines[2]
    bench.now = follower.election_deadline + 1
    follower.pre_vote_won = True  # it stands at its next tick anyway
    follower.election_deadline = bench.now - 0.5
    assert bench.step(2, PeerConnected(1)).tick_at is None
