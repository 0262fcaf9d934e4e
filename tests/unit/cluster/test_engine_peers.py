"""The engine and its peers: connections that come and go, leaders of other terms."""

from __future__ import annotations

from cluster.events import PeerConnected, Received, Tick
from cluster.interface import Timing
from cluster.messages import TimeoutNow, VoteRequest
from cluster.state import LEADER
from tests.support.sim_bench import Bench


def test_a_leader_found_again_is_no_change_of_leader() -> None:
    bench = Bench()
    bench.elect(1)
    bench.advance(0.2)
    before = bench.engines[2].status.leader_changes
    bench.reconnect(1, 2)
    bench.advance(0.2)
    assert bench.engines[2].status.leader_id == 1
    assert bench.engines[2].status.leader_changes == before


def test_a_reconnected_follower_in_step_needs_no_snapshot() -> None:
    bench = Bench(checkpoint_entries=2)
    bench.elect(1)
    for number in range(9):
        bench.propose(1, f"e{number}")
        bench.settle()
    bench.engines[1].log.cut_to(bench.engines[1].log.applied_index)
    bench.engines[1].followers[2].match = 0  # a new leader knows nothing of it yet
    bench.reconnect(1, 2)
    bench.advance(0.2)
    assert bench.engines[2].snapshots_installed == 0
    assert bench.engines[1].followers[2].match == bench.engines[1].log.last_index


def test_a_tail_a_snapshot_on_its_way_needs_is_not_cut() -> None:
    timing = Timing(log_tail_bytes=0, chunk_max_bytes=30)
    bench = Bench(timing=timing, checkpoint_entries=2)
    bench.elect(1)
    bench.isolate(3)
    for number in range(9):
        bench.propose(1, f"e{number}")
        bench.settle()
    bench.heal()
    bench.reconnect(1, 3)
    bench.settle(until=lambda: bench.engines[1].followers[3].snapshot is not None)
    sent = bench.engines[1].followers[3].snapshot
    assert sent is not None
    index = sent.index
    bench.cut = {(3, 1)}
    for number in range(9):
        bench.propose(1, f"f{number}")
        bench.settle()
    assert bench.engines[1].log.base_index <= index
    bench.cut.clear()
    bench.reconnect(1, 3)
    bench.advance(1.0)
    assert bench.entries(3) == bench.entries(1)


def test_a_deposed_leader_keeps_no_log_for_who_was_catching_up_with_it() -> None:
    timing = Timing(log_tail_bytes=0, chunk_max_bytes=40, log_pin_bytes=100_000)
    bench = Bench(timing=timing, checkpoint_entries=4)
    leader = bench.elect(1)
    bench.isolate(3)
    for number in range(18):
        bench.propose(1, str(number))
        bench.settle()
    bench.heal()
    bench.reconnect(3, 1)
    bench.settle(until=lambda: leader.followers[3].catching_up)
    bench.transit.clear()
    bench.elect(2)
    for number in range(20):
        bench.propose(2, f"later {number}")
        bench.settle()
    assert leader.log.base_index == bench.engines[2].log.base_index


def test_an_old_leaders_words_are_answered_with_the_newer_term() -> None:
    bench = Bench()
    old = bench.elect(1)
    bench.isolate(1)
    bench.elect(2)
    bench.heal()
    bench.step(1, Tick())
    bench.advance(0.3)
    assert old.role != LEADER
    assert old.term == bench.engines[2].term


def test_a_request_to_stand_counts_only_from_the_leader() -> None:
    bench = Bench()
    leader = bench.elect(1)
    bench.advance(0.1)
    bench.step(3, Received(2, TimeoutNow(leader.term)))
    assert bench.engines[3].term == leader.term
    bench.step(3, Received(1, TimeoutNow(leader.term)))
    assert bench.engines[3].term == leader.term + 1
    assert any(isinstance(message, VoteRequest) for _, _, message in bench.held[3])


def test_a_second_connection_replaces_the_first() -> None:
    bench = Bench()
    leader = bench.elect(1)
    bench.cut = {(1, 2)}
    bench.propose(1, "lost on the way")
    bench.settle()
    bench.cut.clear()
    bench.step(1, PeerConnected(2))  # the rim saw no disconnect
    bench.settle()
    assert bench.logged(2) == ["lost on the way"]
    assert leader.followers[2].match == leader.log.last_index
