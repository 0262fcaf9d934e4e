"""A follower whose disk hangs: what it may not say yet does not fill its memory."""

from __future__ import annotations

from cluster.events import Received
from cluster.interface import Timing
from cluster.messages import AppendReply
from tests.support.sim_bench import Bench

_USUAL = Timing()


def stalled(timing: Timing = _USUAL) -> Bench:
    """Node 3's disk has hung for longer than a leader's may, with an entry unsynced."""
    bench = Bench(timing=timing, checkpoint_entries=4)
    bench.elect(1)
    bench.stuck_disks = {3}
    bench.propose(1, "unsynced")
    bench.advance(bench.timing.disk_stall_s + 0.5)
    return bench


def test_answers_to_heartbeats_and_rounds_of_reads_are_not_kept_for_ever() -> None:
    bench = stalled()
    kept = len(bench.held[3])
    assert kept, "the answer to the entry waits for its sync"
    bench.advance(20.0)
    for number in range(100):
        bench.read(1, f"read {number}")
        bench.settle()
    assert bench.answers["read 99"] == "read"
    assert len(bench.held[3]) == kept
    assert bench.engines[3].leader_id == 1, "it hears its leader all the same"


def test_neither_are_questions_of_who_seeks_votes_nor_answers_to_them() -> None:
    bench = stalled()
    kept = len(bench.held[3])
    bench.isolate(1)
    bench.cut |= {(2, 3)}  # and 2 hears nothing of 3, which asks again and again
    bench.advance(20.0)
    assert len(bench.held[3]) <= kept + 2


def test_what_it_wrote_is_still_answered_and_the_rest_follows_once_the_disk_is_back() -> None:
    bench = stalled()
    bench.propose(1, "written while it hung")
    bench.settle()
    answer = bench.held[3][-1][2]
    assert isinstance(answer, AppendReply)
    assert answer.next_index == bench.engines[1].log.last_index + 1
    bench.isolate(2)
    bench.propose(1, "needs node 3")
    bench.advance(0.3)
    assert "needs node 3" not in bench.answers
    bench.stuck_disks = set()
    bench.advance(0.3)
    assert bench.answers["needs node 3"] == "applied"
    bench.heal()
    bench.advance(0.3)
    assert bench.entries(3) == bench.entries(1)


def test_a_snapshot_that_comes_while_it_hangs_goes_on_once_the_disk_is_back() -> None:
    """Seed 148993649214353: the answer to a chunk was lost, and nothing was sent for 16 s."""
    bench = Bench(timing=Timing(log_tail_bytes=0, chunk_max_bytes=40), checkpoint_entries=4)
    leader = bench.elect(1)
    bench.isolate(3)
    bench.propose(1, "unsynced")
    [late] = [message for to, message in bench.last.messages if to == 3]
    for number in range(16):
        bench.propose(1, f"real{number}")
        bench.settle()
    bench.heal()
    bench.reconnect(3, 1)
    bench.settle(until=lambda: leader.followers[3].snapshot is not None)
    chunks, bench.transit = bench.transit, []
    bench.stuck_disks = {3}
    bench.step(3, Received(1, late))
    bench.advance(bench.timing.disk_stall_s + 0.5)
    bench.transit += chunks
    bench.advance(2.5)
    assert leader.followers[3].snapshot is not None
    bench.stuck_disks = set()
    bench.advance(1.0)
    assert bench.engines[3].snapshots_installed == 1
    assert bench.entries(3) == bench.entries(1)


def test_a_node_whose_disk_hangs_is_sent_its_snapshot_once_it_can_say_where_it_stands() -> None:
    bench = stalled(Timing(log_tail_bytes=0, chunk_max_bytes=40))
    bench.isolate(3)
    for number in range(16):
        bench.propose(1, f"real{number}")
        bench.settle()
    bench.heal()
    bench.reconnect(3, 1)
    bench.advance(5.0)
    bench.stuck_disks = set()
    bench.advance(1.0)
    assert bench.engines[3].snapshots_installed == 1
    assert bench.entries(3) == bench.entries(1)
