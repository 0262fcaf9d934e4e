"""The engine as its driver sees it: events in, `Ready` out."""

from __future__ import annotations

import random
from collections.abc import Callable
from importlib.metadata import version
from itertools import permutations

import pytest
from pysyncobj import syncobj

from cluster.configuration import Configuration
from cluster.engine import STOCK_NAMES, STOCK_VERSION, Engine
from cluster.events import (
    Durable,
    PeerConnected,
    PeerDisconnected,
    Propose,
    ReadBarrier,
    Ready,
    Received,
    Tick,
)
from cluster.interface import Timing
from cluster.messages import AppendEntries
from cluster.state import LEADER
from tests.support.sim_bench import Bench
from tests.support.sim_disk import SimDisk
from tests.support.sim_machine import FAMILIES, ListMachine


def test_every_stock_name_relied_on_exists_in_the_pinned_version() -> None:
    assert version("pysyncobj") == STOCK_VERSION
    stock = syncobj.SyncObj.__new__(syncobj.SyncObj)
    code = syncobj.SyncObj.__init__.__code__
    known = set(dir(stock)) | set(code.co_names)
    assert [name for name in STOCK_NAMES if name not in known] == []
    replaced = {name for name in vars(Engine) if name.startswith("_SyncObj__")}
    assert replaced <= set(STOCK_NAMES)
    assert callable(syncobj.SyncObj._checkCommandsToApply)
    assert {"monotonicTime", "random"} <= set(vars(syncobj))


def _alone(rng: random.Random | None = None, *, learners: tuple[int, ...] = ()) -> Engine:
    return Engine(
        node_id=1,
        founding=Configuration(voters=(1,), learners=learners),
        disk=SimDisk(FAMILIES),
        machine=ListMachine(),
        rng=rng or random.Random(1),
        cluster_id=b"cluster",
        now=50.0,
    )


def _leads(engine: Engine) -> Ready:
    """Let a node alone lead; return the step in which it begins to."""
    vote = engine.step(Tick(), 50.0).sync_needed
    assert vote is not None
    return engine.step(Durable(vote), 50.0)


def test_a_node_alone_leads_when_its_vote_is_durable_and_commits_likewise() -> None:
    engine = _alone()
    ready = _leads(engine)
    assert ready.role_changed
    assert engine.status.role == "leader"
    first = ready.sync_needed
    assert first is not None
    ready = engine.step(Propose(b"entry", None, "mine"), 50.001)
    assert (ready.applied, ready.messages, ready.held) == ([], [], [])
    assert ready.sync_needed is not None
    assert ready.sync_needed > first
    ready = engine.step(Durable(ready.sync_needed), 50.002)
    assert ready.applied == [(1, None, None), (2, 1, "mine")]


def test_a_voter_alone_tells_its_learner_nothing_before_its_vote_is_durable() -> None:
    """It could forget the term, lead it again, and contradict what the learner has."""
    engine = _alone(learners=(2,))
    known = engine.step(PeerConnected(2), 50.0).sync_needed or 0
    ready = engine.step(Tick(), 50.0)
    assert engine.term == 1
    assert (ready.messages, engine.status.role) == ([], "candidate")
    engine.step(Durable(known), 50.0)
    assert engine.status.role == "candidate", "that sync did not cover the vote"
    assert ready.sync_needed is not None
    ready = engine.step(Durable(ready.sync_needed), 50.0)
    assert [type(message) for _, message in ready.messages] == [AppendEntries]


def test_a_node_alone_leads_though_its_disk_is_slower_than_its_patience() -> None:
    """A new vote for each deadline would never be durable before the next one."""
    engine = _alone()
    vote = engine.step(Tick(), 50.0).sync_needed
    assert vote is not None
    for at in (51.0, 52.0, 53.0):
        assert engine.step(Tick(), at).sync_needed is None
    assert (engine.status.role, engine.term) == ("candidate", 1)
    engine.step(Durable(vote), 53.5)
    assert (engine.status.role, engine.term) == ("leader", 1)


def test_a_node_alone_reads_after_its_first_commit() -> None:
    engine = _alone()
    ready = _leads(engine)
    assert engine.step(ReadBarrier("early"), 50.0).reads == []
    assert ready.sync_needed is not None
    assert engine.step(Durable(ready.sync_needed), 50.0).reads == [("early", True)]
    assert engine.step(ReadBarrier("later"), 50.0).reads == [("later", True)]


def test_what_was_decoded_reaches_the_machine_of_its_proposer_alone() -> None:
    bench = Bench()
    seen: dict[int, object] = {}
    for node, machine in bench.machines.items():

        def observe(
            index: int,
            entry: bytes,
            decoded: object | None = None,
            node: int = node,
            apply: Callable[[int, bytes], object] = machine.apply,
        ) -> object:
            seen[node] = decoded
            return apply(index, entry)

        machine.apply = observe  # type: ignore[method-assign]  # the test looks on
    bench.elect(1)
    bench.step(1, Propose(b"entry", ["decoded"], "mine"))
    bench.settle()
    bench.advance(0.1)
    assert seen == {1: ["decoded"], 2: None, 3: None}


def test_one_message_object_serves_all_followers_in_step() -> None:
    bench = Bench(5)
    bench.elect(1)
    ready = bench.step(1, Propose(b"entry", None, "mine"))
    assert [peer for peer, _ in ready.messages] == [2, 3, 4, 5]
    assert len({id(message) for _, message in ready.messages}) == 1
    assert ready.held == []  # it leaves before the leader's own sync
    assert ready.sync_needed is not None


def test_a_confirmation_is_held_with_the_sequence_that_covers_it() -> None:
    bench = Bench()
    bench.elect(1)
    bench.step(1, Propose(b"entry", None, "mine"))
    _, _, message = next(item for item in bench.transit if item[1] == 2)
    ready = bench.step(2, Received(1, message))
    assert ready.messages == []
    assert [(sequence, peer) for sequence, peer, _ in ready.held] == [(ready.sync_needed, 1)]


def test_a_confirmation_of_nothing_new_leaves_at_once() -> None:
    bench = Bench()
    leader = bench.elect(1)
    last = leader.log.last_index
    ready = bench.step(2, Received(1, AppendEntries(leader.term, 99, 0, last, leader.term, [])))
    assert ready.sync_needed is None
    assert [peer for peer, _ in ready.messages] == [1]


def test_an_idle_leader_spreads_the_commit_index_within_milliseconds() -> None:
    bench = Bench()
    bench.elect(1)
    bench.advance(0.2)
    bench.propose(1, "x")
    bench.settle()
    assert bench.entries(2) == []
    wanted = bench.engines[1].spread_at
    assert wanted is not None
    assert wanted - bench.now <= 0.0051
    bench.now = wanted
    bench.step(1, Tick())
    bench.settle()
    assert bench.entries(2) == bench.entries(3) == ["x"]


def test_entries_that_reach_everybody_are_the_heartbeat() -> None:
    bench = Bench()
    bench.elect(1)
    bench.now += bench.timing.heartbeat_s * 0.9
    bench.propose(1, "x")
    assert {to for _, to, _ in bench.transit} == {2, 3}
    bench.now += bench.timing.heartbeat_s * 0.9
    assert bench.step(1, Tick()).messages == []
    bench.now += bench.timing.heartbeat_s * 0.2
    assert {to for to, _ in bench.step(1, Tick()).messages} == {2, 3}


def test_entries_that_one_follower_has_no_room_for_are_no_heartbeat() -> None:
    bench = Bench(timing=Timing(flight_max=1, spread_s=60.0))
    bench.elect(1)
    bench.settle()
    begun = bench.now
    bench.cut |= {(1, 3)}
    bench.propose(1, "x")
    bench.settle()  # 2 has answered, 3 never will
    bench.now = begun + bench.timing.heartbeat_s * 0.9
    bench.propose(1, "y")
    bench.settle()
    bench.now = begun + bench.timing.heartbeat_s * 1.1
    assert {to for to, _ in bench.step(1, Tick()).messages} == {2, 3}


def test_a_tick_without_work_would_have_done_nothing() -> None:
    """What the driver leaves out: for a while of elections, entries and a stuck disk."""
    # Deadlines that do not fall together, and an entry at a time.
    bench = Bench(timing=Timing(check_quorum_s=1.43, heartbeat_s=0.11, apply_max_bytes=1))
    rng = random.Random(5)
    left_out = 0
    for turn in range(3000):
        bench.now += 0.005
        for node, engine in bench.engines.items():
            if engine.has_work_at(bench.now):
                bench.step(node, Tick())
                continue
            before = (engine.term, engine.role, engine.commit_index, engine.written_sequence)
            ready = bench.step(node, Tick())
            assert before == (
                engine.term,
                engine.role,
                engine.commit_index,
                engine.written_sequence,
            )
            assert (ready.messages, ready.held, ready.applied, ready.dropped) == ([], [], [], [])
            assert (ready.reads, ready.role_changed, ready.sync_needed) == ([], False, None)
            left_out += 1
        if turn % 400 == 200:
            alone = rng.randrange(6)
            bench.cut = {pair for pair in permutations(bench.voters, 2) if alone in pair}
            bench.stuck_disks = {1 + rng.randrange(3)} if rng.random() < 0.5 else set()
        leaders = [node for node, engine in bench.engines.items() if engine.role == LEADER]
        if leaders and turn % 7 == 0 and turn % 400 < 200:
            bench.propose(leaders[0], str(turn))
        bench.settle()
    assert left_out > 3000


def test_ready_names_the_time_of_the_next_tick_it_wants() -> None:
    bench = Bench()
    bench.elect(1)
    bench.advance(0.2)
    ready = bench.step(2, PeerDisconnected(1))
    assert ready.tick_at is not None
    assert 0.009 <= ready.tick_at - bench.now <= 0.061
    assert ready.role_changed  # the leader is unknown now
    bench.propose(1, "x")
    bench.settle()
    assert bench.last.tick_at is not None or bench.engines[1].spread_at is not None


def test_elections_follow_the_engines_own_chance_and_time() -> None:
    def deadlines(seed: int) -> list[float]:
        engines = []
        for node in (1, 2):
            engines.append(
                Engine(
                    node_id=node,
                    founding=Configuration(voters=(1, 2)),
                    disk=SimDisk(FAMILIES),
                    machine=ListMachine(),
                    rng=random.Random(seed),
                    now=7.0,
                )
            )
        return [engine.election_deadline for engine in engines]

    assert deadlines(1) == deadlines(1)
    assert deadlines(1) != deadlines(2)
    assert all(7.4 <= deadline <= 7.8 for deadline in deadlines(3))


def test_stock_code_outside_an_engine_keeps_its_own_clock() -> None:
    before = syncobj.monotonicTime()
    engine = _alone()
    engine.step(Tick(), 50.0)
    after = syncobj.monotonicTime()
    assert after >= before
    assert 0 <= syncobj.random.random() < 1


def test_time_never_goes_back() -> None:
    engine = _alone()
    engine.step(Tick(), 60.0)
    engine.step(Tick(), 55.0)
    assert engine.now == 60.0


def test_a_follower_refuses_proposals_and_reads_at_once() -> None:
    bench = Bench()
    bench.elect(1)
    bench.propose(2, "x")
    bench.read(2, "r")
    assert bench.answers == {"x": "NOT_LEADER", "r": "no read"}


def test_a_halted_engine_answers_and_does_nothing_else() -> None:
    bench = Bench()
    leader = bench.elect(1)
    bench.isolate(1)
    bench.propose(1, "open")
    bench.read(1, "reading")
    bench.step(1, Received(2, AppendEntries(leader.term, 1, 0, 0, 0, [])))
    assert bench.last.halted is not None
    assert (bench.last.messages, bench.last.held, bench.last.sync_needed) == ([], [], None)
    bench.propose(1, "late")
    bench.read(1, "later")
    assert bench.answers == {
        "open": "UNKNOWN_OUTCOME",
        "reading": "no read",
        "late": "NOT_LEADER",
        "later": "no read",
    }
    assert bench.step(1, Tick()).halted == bench.halted[1]


def test_an_empty_proposal_is_a_broken_caller() -> None:
    bench = Bench(1)
    bench.advance(0.1)
    bench.step(1, Propose(b"", None, "empty"))
    assert "empty entry" in bench.halted[1]
    assert bench.answers == {"empty": "NOT_LEADER"}


def test_status_tells_what_an_operator_asks() -> None:
    bench = Bench()
    bench.elect(1)
    bench.isolate(3)
    bench.step(1, PeerDisconnected(3))
    bench.propose(1, "x")
    bench.settle()
    bench.advance(0.2)
    status = bench.engines[1].status
    assert (status.node_id, status.role, status.leader_id, status.voters) == (
        1,
        "leader",
        1,
        (1, 2, 3),
    )
    assert (status.commit_index, status.applied_index, status.last_index) == (2, 2, 2)
    assert (status.peers[2].match_index, status.peers[2].lag) == (2, 0)
    assert status.peers[2].connected
    assert (status.peers[3].connected, status.peers[3].lag) == (False, 1)
    assert bench.engines[2].status.leader_id == 1
    assert bench.engines[2].status.peers[1].last_seen_ms is not None
    assert status.fsyncs > 0
    assert status.leader_changes == 1


def test_the_stock_code_runs_only_when_something_is_due() -> None:
    bench = Bench()
    bench.elect(1)
    bench.advance(0.2)
    runs = dict.fromkeys(bench.voters, 0)
    for node, engine in bench.engines.items():

        def count(node: int = node, stock_tick: Callable[[], None] = engine.stock_tick) -> None:
            runs[node] += 1
            stock_tick()

        engine.stock_tick = count  # type: ignore[method-assign]  # the test looks on
    bench.advance(2.0)  # a hundred ticks
    assert 15 <= runs[1] <= 20  # each heartbeat, and the check of the quorum with it
    assert (runs[2], runs[3]) == (0, 0)


def test_voters_may_be_as_patient_as_the_configuration_allows() -> None:
    bench = Bench(timing=Timing(election_min_s=30.0, election_max_s=60.0))
    assert bench.elect(1).role == LEADER


def test_a_leader_that_would_not_ask_before_it_counts_the_answers_is_refused() -> None:
    """It would step down in an idle cluster, again and again, with everybody connected."""
    with pytest.raises(ValueError, match="a third of check_quorum_s"):
        Timing(heartbeat_s=0.47, election_min_s=5.0, election_max_s=10.0)
    bench = Bench(timing=Timing(heartbeat_s=0.4, election_min_s=5.0, election_max_s=10.0))
    leader = bench.elect(1)
    bench.advance(6.0)
    assert leader.role == LEADER


def test_a_quorum_that_ends_between_two_heartbeats_is_missed_at_once() -> None:
    slow = Timing(heartbeat_s=1.0, election_min_s=3.2, election_max_s=3.4, check_quorum_s=3.6)
    bench = Bench(timing=slow)
    leader = bench.elect(1)
    bench.isolate(1)
    bench.advance(3.5, nodes=[1])
    assert leader.role == LEADER
    bench.advance(0.2, nodes=[1])
    assert leader.role != LEADER  # at 3.6 s; the next heartbeat was due at 4
