"""A backlog of committed entries is applied in bounded steps, and the rest is not forgotten."""

from __future__ import annotations

import random

from cluster.engine import Engine
from cluster.events import Received, Tick
from cluster.interface import Timing
from cluster.messages import AppendEntries
from tests.support.sim_bench import Bench

BOUNDED = Timing(apply_max_bytes=1000)
ENTRIES = 50


def _follower_with_backlog() -> Bench:
    """Node 2 has fifty entries and hears only now that all of them are committed."""
    bench = Bench(timing=BOUNDED)
    entries = [(b"x" * 100, 3)] * ENTRIES
    bench.step(2, Received(1, AppendEntries(3, 1, 0, 0, 0, entries)))
    bench.settle()
    bench.step(2, Received(1, AppendEntries(3, 2, ENTRIES, ENTRIES, 3, [])))
    return bench


def test_one_step_applies_a_bounded_part_of_a_backlog() -> None:
    bench = _follower_with_backlog()
    assert 0 < bench.engines[2].applied_index <= 1000 // 200 + 1
    assert bench.engines[2].commit_index == ENTRIES


def test_the_rest_of_a_backlog_is_asked_for_at_once() -> None:
    bench = _follower_with_backlog()
    steps = 0
    while bench.last.tick_at is not None and bench.last.tick_at <= bench.now:
        bench.step(2, Tick())
        steps += 1
    assert bench.engines[2].applied_index == ENTRIES
    assert steps == ENTRIES // 5 - 1


def test_an_entry_over_the_bound_is_applied_alone() -> None:
    bench = Bench(1, timing=BOUNDED)
    bench.advance(0.04)
    for name in ("a" * 5000, "b"):
        bench.propose(1, name)
    bench.settle()
    assert bench.answers["a" * 5000] == "applied"
    assert "b" not in bench.answers
    bench.step(1, Tick())
    assert bench.answers["b"] == "applied"


def test_a_read_waits_for_what_a_bounded_step_left_over() -> None:
    bench = Bench(timing=BOUNDED)
    leader = bench.elect(1)
    bench.stuck_disks = {1, 3}
    for number in range(ENTRIES):
        bench.propose(1, f"{number:0>100}")
    bench.settle()  # 2 has them all; the leader's own sync commits them at once
    bench.sync(1)
    bench.read(1, "read")
    bench.settle(until=lambda: leader.followers[2].answered > leader.reads[0][2])
    while leader.applied_index < leader.commit_index:
        assert "read" not in bench.answers
        bench.step(1, Tick())
    assert leader.applied_index == ENTRIES + 1
    assert bench.answers["read"] == "read"


def test_a_restarted_follower_knows_what_the_leader_had_committed() -> None:
    bench = Bench(timing=Timing(append_max_bytes=1), checkpoint_entries=5)
    bench.elect(1)
    for number in range(12):
        bench.propose(1, f"entry {number}")
        bench.settle()
    bench.advance(0.1)
    committed = bench.engines[1].commit_index
    disk = bench.disks[3]
    disk.wipe()
    follower = bench.restart(3)
    assert follower.status.leader_commit_index == 0
    bench.settle(until=lambda: follower.leader_id == 1)
    assert follower.status.leader_commit_index == committed
    assert follower.commit_index < committed
    assert bench.engines[1].status.leader_commit_index == committed


def test_a_snapshot_tells_what_is_committed_too() -> None:
    bench = Bench(timing=Timing(log_tail_bytes=0, chunk_max_bytes=1), checkpoint_entries=2)
    rng = random.Random(0)
    engine: Engine = bench.elect(1)
    for _ in range(8):
        bench.propose(1, f"entry {rng.random()}")
        bench.settle()
    bench.advance(0.1)
    bench.disks[3].wipe()
    follower = bench.restart(3)
    bench.settle(until=lambda: follower.incoming is not None)
    assert follower.applied_index == 0
    assert follower.status.leader_commit_index >= engine.log.applied_index > 0
