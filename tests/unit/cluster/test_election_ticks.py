"""Voters stand when their own wait is over, not when the clock of all of them ticks.

Two that stand at once split the vote: another term, another wait, and seconds without a
leader. Found by cutting leaders off in `tests.simulation.partitions`: of 30 elections 7
needed more than one term while deadlines were looked at every 50 ms, none since.
"""

from __future__ import annotations

from cluster.engine import Engine
from cluster.events import PeerConnected, Tick
from cluster.state import CANDIDATE, LEADER
from tests.support.sim_bench import Bench


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
    assert follower.now < bench.now
    ready = bench.step(2, PeerConnected(1))
    assert ready.tick_at is None


def _first_to_stand(bench: Bench) -> list[Engine]:
    """Let time jump from one wanted tick to the next until somebody stands."""
    bench.isolate(1)
    voters = [bench.engines[2], bench.engines[3]]
    while not any(engine.role in {CANDIDATE, LEADER} for engine in voters):
        bench.now = min(engine.election_deadline for engine in voters) + 1e-6
        for node in (2, 3):
            bench.step(node, Tick())
        bench.settle()
    return [engine for engine in voters if engine.role in {CANDIDATE, LEADER}]


def test_of_two_voters_the_first_to_stand_is_elected_alone() -> None:
    bench = Bench()
    term = bench.elect(1).term
    bench.advance(0.3)
    (winner,) = _first_to_stand(bench)
    assert (winner.role, winner.term) == (LEADER, term + 1)
