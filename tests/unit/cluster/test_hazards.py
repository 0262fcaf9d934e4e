"""Each hazard of the stock engine, handled; and each fix, taken out, seen to be missing.

A story plays one situation on a bench of engines of a given class and raises
AssertionError when it ends badly. It must end well with `Engine` and badly with the class
that lacks the one rule. `test_stock_hazards.py` shows the same on the stock SyncObj.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Sequence
from typing import Any
from zlib import crc32

import pytest

from cluster.chunks import encode_records
from cluster.engine import Engine
from cluster.events import (
    PeerDisconnected,
    Propose,
    ReadBarrier,
    Received,
    Tick,
    TransferLeadership,
)
from cluster.interface import Record, Timing
from cluster.log import DamagedLog, Log
from cluster.messages import (
    AppendEntries,
    AppendReply,
    PreVote,
    SnapshotChunk,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from cluster.state import CANDIDATE, FOLLOWER, LEADER, NEVER, Follower
from tests.simulation import plants
from tests.support.sim_bench import Bench
from tests.support.sim_disk import SimDisk
from tests.support.sim_machine import FAMILIES, ListMachine

Story = Callable[[type[Engine]], None]
SMALL = Timing(log_tail_bytes=0, chunk_max_bytes=40)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL + 1, logger="cluster")


# ---------------------------------------------------------------- H1: sync before words


def confirmation_waits_for_the_followers_disk(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    bench.elect(1)
    bench.stuck_disks = {2, 3}
    bench.propose(1, "x")
    bench.settle()
    assert "x" not in bench.answers
    bench.stuck_disks = {3}
    bench.settle()
    assert bench.answers["x"] == "applied"


def leader_counts_itself_only_when_durable(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    bench.elect(1)
    bench.stuck_disks = {1, 3}
    bench.propose(1, "x")
    bench.settle()
    assert bench.logged(2) == ["x"]  # it left before the leader's own sync
    assert "x" not in bench.answers
    bench.stuck_disks = {3}
    bench.settle()
    assert bench.answers["x"] == "applied"


def vote_is_durable_before_it_is_given(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    bench.stuck_disks = {2, 3}
    bench.engines[1].election_deadline = NEVER
    bench.step(1, Tick())
    bench.settle()
    assert bench.engines[1].role == CANDIDATE
    bench.stuck_disks = {3}
    bench.settle()
    assert bench.engines[1].role == LEADER


def power_cut_of_all_loses_nothing_acknowledged(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    bench.elect(1)
    bench.stuck_disks = {2, 3}
    bench.propose(1, "x")
    bench.settle()
    for node in bench.voters:
        # The harshest cut: nothing unsynced survives.
        bench.disks[node]._unsynced.clear()
        bench.disks[node].content = {f: dict(r) for f, r in bench.disks[node].safe.items()}
    bench.cut = {(1, 2), (2, 1), (1, 3), (3, 1)}
    bench.restart(2)
    bench.restart(3)
    bench.elect(2)
    bench.advance(0.1)
    assert "x" in bench.entries(2) or bench.answers.get("x") != "applied"


# ------------------------------------------------------------ H2: conflict and commit cap


def repeated_message_truncates_nothing(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    leader = bench.elect(1)
    prev = leader.log.last_index
    for name in ("a", "b", "c"):
        bench.propose(1, name)
    bench.settle()
    old = AppendEntries(leader.term, 1, prev, prev, leader.term, [(b"a", leader.term)])
    bench.step(2, Received(1, old))
    assert bench.logged(2) == ["a", "b", "c"]


def commit_index_stops_at_what_the_message_verified(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    bench.elect(1)
    bench.isolate(2)
    follower = bench.engines[2]
    end = follower.log.last_index
    follower.log.append(b"unverified", follower.term)
    bench.step(2, Received(1, AppendEntries(follower.term, 99, end + 1, end, follower.term, [])))
    assert follower.commit_index == end


# -------------------------------------------------------------------- H3: term in replies


def confirmation_of_an_older_term_counts_for_nothing(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    leader = bench.elect(1)
    bench.isolate(1)
    bench.propose(1, "x")
    bench.sync(1)
    before, last = leader.commit_index, leader.log.last_index
    reply = AppendReply(leader.term - 1, leader.sequence, True, last + 1, last, False)
    bench.step(1, Received(2, reply))
    assert leader.commit_index == before
    bench.step(1, Received(2, reply._replace(term=leader.term)))
    assert leader.commit_index == last


# --------------------------------------------- H4: one batch, no trusted commit index


class SplitsCheckpoint(Engine):
    """The truncation reaches the disk in a batch before the records."""

    def save_checkpoint(self, index: int, term: int, changes: list[Record]) -> None:
        self.cut_log(index)
        self.write_batch()
        super().save_checkpoint(index, term, changes)


def every_crash_point_leaves_a_whole_history(engine: type[Engine]) -> None:
    names = [f"e{number}" for number in range(10)]
    for kept in range(40):
        bench = Bench(1, engine=engine, timing=SMALL, checkpoint_entries=3)
        bench.advance(0.04)
        bench.stuck_disks = {1}
        for name in names:
            bench.propose(1, name)
            bench.disks[1].sync(0)
            bench.engines[1].durable_index = bench.engines[1].log.last_index
            bench.engines[1].advance_commit()
            bench.engines[1].write_batch()
        disk = bench.disks[1]
        if kept > len(disk._unsynced):
            return
        disk._unsynced = disk._unsynced[:kept]
        disk.sync(10**9)
        disk.content = {family: dict(records) for family, records in disk.safe.items()}
        try:
            log = Log(disk)
        except DamagedLog as error:
            raise AssertionError(f"after {kept} batches: {error}") from error
        machine = ListMachine()
        machine.restore(disk.iterate)
        held = set(machine.entries) | {i for e, i, _ in log.entries[1:] if e}
        first = min(held, default=2)
        assert held == set(range(first, first + len(held))), f"a hole after {kept} batches: {held}"
        assert first == 2
    raise AssertionError("the story has more batches than it looks at")


class TrustsCommitIndex(Engine):
    """After a restart everything in the log is taken for committed."""

    def start(self) -> None:
        super().start()
        self.commit_index = self.log.last_index


def nothing_is_committed_after_a_restart_until_a_leader_says_so(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    bench.elect(1)
    bench.isolate(1)
    bench.propose(1, "never replicated")
    bench.sync(1)
    bench.restart(1)
    bench.step(1, Tick())
    assert bench.entries(1) == []


def restart_restores_checkpoint_and_replays_the_rest(engine: type[Engine]) -> None:
    bench = Bench(1, engine=engine, timing=SMALL, checkpoint_entries=3)
    bench.advance(0.04)
    names = [f"e{number}" for number in range(8)]
    for name in names:
        bench.propose(1, name)
        bench.settle()
    bench.restart(1, power_loss=True)
    assert bench.entries(1) == names[:6]
    bench.advance(0.04)
    assert bench.entries(1) == names


class ForgetsToRestore(Engine):
    """The machine starts empty whatever the disk holds."""

    def start(self) -> None:
        super().start()
        self.machine.restore(lambda _family: iter(()))


# ------------------------------------------------------------------------- H5: elections


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


# ---------------------------------------------------------------------- votes as a set


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


# ------------------------------------------------------------- H7: a machine that raises


class AppliesOn(Engine):
    """An exception in the machine is written down and forgotten."""

    def step(self, event: Any, now: float) -> Any:
        ready = super().step(event, now)
        self.halted = None
        self.applied_index = min(self.applied_index, self.log.last_index - 1)
        return ready


def machine_that_raises_halts_the_node_once(engine: type[Engine]) -> None:
    bench = Bench(1, engine=engine)
    bench.advance(0.04)
    calls: list[int] = []

    def poison(index: int, _entry: bytes, _decoded: object | None = None) -> object:
        calls.append(index)
        raise ZeroDivisionError

    bench.machines[1].apply = poison  # type: ignore[method-assign]  # the poison
    bench.propose(1, "poison")
    bench.settle()
    bench.advance(0.2)
    assert calls == [2]
    assert "ZeroDivisionError" in bench.halted[1]
    assert bench.last.messages == []


# -------------------------------------------------------------------- H9a, H9b: snapshots


def _behind(engine: type[Engine], *, tail: int = 3) -> Bench:
    """Node 1 was leader with a tail nobody has; 2 leads and has cut its log past it."""
    bench = Bench(engine=engine, timing=SMALL, checkpoint_entries=4)
    bench.elect(1)
    bench.isolate(1)
    for number in range(tail):
        bench.propose(1, f"ghost{number}")
    bench.settle()
    bench.elect(2)
    for number in range(16):
        bench.propose(2, f"real{number}")
        bench.settle()
    bench.advance(0.1)
    bench.answers.clear()
    return bench


def _ghosts(bench: Bench) -> list[str]:
    return [name for name in bench.entries(1) if name.startswith("ghost")]


def part_of_a_snapshot_commits_nothing(engine: type[Engine]) -> None:
    bench = _behind(engine)
    bench.heal()
    for node in (1, 2):
        bench.reconnect(1, 2)
        del node
    for _ in range(400):
        if bench.transit:
            sender, to, message = bench.transit.pop(0)
            if isinstance(message, SnapshotChunk) and message.done:
                continue  # the last part never arrives
            bench.step(to, Received(sender, message))
        else:
            for node in list(bench.sync_wanted):
                bench.sync(node)
        assert _ghosts(bench) == []


def snapshot_brings_a_lagging_node_level(engine: type[Engine]) -> None:
    bench = _behind(engine)
    bench.heal()
    bench.reconnect(1, 2)
    bench.advance(1.0)
    assert bench.engines[1].snapshots_installed == 1
    assert bench.entries(1) == bench.entries(2)
    assert bench.engines[1].log.last_index == bench.engines[2].log.last_index


class AcceptsAnyChunk(Engine):
    """Numbers and checksums of chunks are not looked at."""

    def receive(self, peer: int, message: SnapshotChunk) -> Any:
        if self.incoming is not None and message.number:
            self.incoming.number = message.number
        data = message.data if message.crc == crc32(message.data) else b""
        crc = self.incoming.crc if self.incoming is not None and message.number else 0
        message = message._replace(data=data, crc=crc32(data), total_crc=crc32(data, crc))
        return super().receive(peer, message)


def _chunks_to_1(bench: Bench, change: Callable[[SnapshotChunk], SnapshotChunk | None]) -> None:
    """Deliver everything, changing each snapshot chunk once; later attempts go through."""
    bench.heal()
    bench.reconnect(1, 2)
    changed = False
    for _ in range(2000):
        if bench.transit:
            sender, to, message = bench.transit.pop(0)
            if isinstance(message, SnapshotChunk) and not changed and message.number == 1:
                changed = True
                altered = change(message)
                if altered is None:
                    continue
                message = altered
            bench.step(to, Received(sender, message))
        elif bench.sync_wanted:
            bench.sync(next(iter(bench.sync_wanted)))
        else:
            break
    assert changed
    follower = bench.engines[2].followers[1]
    assert follower.match <= bench.engines[2].log.last_index
    state = bench.entries(1)
    assert state in ([], bench.entries(2)[: len(state)]), state
    bench.advance(1.0)
    assert bench.entries(1) == bench.entries(2)


def lost_chunk_is_not_taken_for_a_snapshot(engine: type[Engine]) -> None:
    _chunks_to_1(_behind(engine), lambda _chunk: None)


def damaged_chunk_is_not_taken_for_a_snapshot(engine: type[Engine]) -> None:
    def flip(chunk: SnapshotChunk) -> SnapshotChunk:
        return chunk._replace(data=bytes([chunk.data[0] ^ 1]) + chunk.data[1:])

    _chunks_to_1(_behind(engine), flip)


class InstallsAnything(Engine):
    """A snapshot behind the applied state is installed all the same."""

    def on_chunk(self, peer: int, message: SnapshotChunk) -> None:
        applied, self.applied_index = self.applied_index, -1
        super().on_chunk(peer, message)
        if self.applied_index == -1:
            self.applied_index = applied


def _chunk(term: int, index: int, last_term: int, *, done: bool, number: int) -> SnapshotChunk:
    data = b"" if done else encode_records([("entries", index.to_bytes(8, "big"), b"old")])
    whole = encode_records([("entries", index.to_bytes(8, "big"), b"old")])
    return SnapshotChunk(
        term, 500 + number, 7, number, index, last_term, data, crc32(data), done, crc32(whole)
    )


def older_snapshot_never_takes_a_node_back(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    leader = bench.elect(1)
    for name in ("a", "b", "c"):
        bench.propose(1, name)
    bench.settle()
    bench.advance(0.1)
    for number in (0, 1):
        chunk = _chunk(leader.term, 2, leader.term, done=bool(number), number=number)
        bench.step(2, Received(1, chunk))
    assert bench.entries(2) == ["a", "b", "c"]
    assert bench.engines[2].applied_index == 4


class DropsSuffix(Engine):
    """An install drops the whole log, also where it continues the snapshot."""

    def install(self, message: SnapshotChunk) -> None:
        self.log.truncate_from(self.log.base_index + 1)
        super().install(message)


def install_keeps_a_log_that_continues_the_snapshot(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    leader = bench.elect(1)
    bench.cut = {(1, 3), (3, 1)}
    follower = bench.engines[2]
    entries = [(name.encode(), leader.term) for name in ("a", "b", "c")]
    bench.step(2, Received(1, AppendEntries(leader.term, 90, 1, 1, leader.term, entries)))
    for number in (0, 1):
        chunk = _chunk(leader.term, 3, leader.term, done=bool(number), number=number)
        bench.step(2, Received(1, chunk))
    assert (follower.applied_index, follower.log.base_index) == (3, 3)
    assert bench.logged(2) == ["c"]


def install_drops_a_log_that_contradicts_the_snapshot(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    follower = bench.engines[2]
    for name in (b"x", b"y", b"z"):
        follower.log.append(name, 1)
    for number in (0, 1):
        bench.step(2, Received(1, _chunk(5, 2, 5, done=bool(number), number=number)))
    assert (follower.log.base_index, follower.log.last_index) == (2, 2)
    assert follower.log.term_at(2) == 5


# -------------------------------------------------------------- H9c, H9d: catching up


class HonoursEveryRejection(Engine):
    """Each rejection of one flight rewinds anew."""

    def on_append_reply(self, peer: int, message: AppendReply) -> None:
        follower = self.followers[peer]
        follower.rewound = 0
        super().on_append_reply(peer, message)


def one_flight_is_rewound_once(engine: type[Engine]) -> None:
    bench = Bench(engine=engine, timing=Timing(append_max_bytes=10))
    leader = bench.elect(1)
    bench.cut = {(1, 2)}
    for number in range(50):
        bench.propose(1, f"entry{number:02}")  # all but the first hang in the air
    bench.settle()
    bench.cut.clear()
    follower = leader.followers[2]
    follower.flight.clear()
    follower.flight_bytes = 0
    for number in range(20):
        bench.propose(1, f"later{number:02}")
    sent = 0
    while bench.transit or bench.sync_wanted:
        if bench.transit:
            sender, to, message = bench.transit.pop(0)
            sent += isinstance(message, AppendEntries) and to == 2 and bool(message.entries)
            bench.step(to, Received(sender, message))
        else:
            bench.sync(next(iter(bench.sync_wanted)))
        assert sent < 200, "the follower is sent the same again and again"
    assert bench.logged(2) == bench.logged(1)


class StepsBackByOne(Engine):
    """A conflict costs one round trip per entry."""

    def conflict_start(self, index: int) -> int:
        return index


def conflicting_term_is_skipped_whole(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    bench.elect(1)
    bench.isolate(1)
    for number in range(300):
        bench.propose(1, f"ghost{number}")
    bench.settle()
    bench.elect(2)
    for number in range(300):
        bench.propose(2, f"real{number}")
    bench.settle()
    bench.heal()
    bench.reconnect(1, 2)
    rounds = 0
    while bench.logged(1) != bench.logged(2):
        if bench.transit:
            sender, to, message = bench.transit.pop(0)
            rounds += isinstance(message, AppendReply)
            bench.step(to, Received(sender, message))
        elif bench.sync_wanted:
            bench.sync(next(iter(bench.sync_wanted)))
        else:
            bench.advance(0.1)
        assert rounds < 50, "still stepping back"


# ----------------------------------------------------------- H9e, H9f, flow control


class SkipsLargeEntries(Engine):
    """An entry above the message bound is cut to it."""

    def append_to(
        self, follower: Follower, prev_term: int, entries: list[tuple[bytes, int]]
    ) -> None:
        limit = self.timing.append_max_bytes
        super().append_to(follower, prev_term, [(e[:limit], term) for e, term in entries])


def large_entry_travels_whole(engine: type[Engine]) -> None:
    bench = Bench(engine=engine, timing=Timing(append_max_bytes=100))
    bench.elect(1)
    bench.isolate(3)
    name = "x" * 131_052
    bench.propose(1, name)
    bench.propose(1, "after")
    bench.settle()
    bench.heal()
    bench.reconnect(3, 1)
    bench.advance(0.3)
    assert bench.entries(3) == [name, "after"]


class NoFlightBound(Engine):
    """Whatever a follower lacks is sent at once."""

    def __init__(self, **given: Any) -> None:
        timing = given.pop("timing")
        wide = Timing(append_max_bytes=timing.append_max_bytes)
        super().__init__(**given, timing=wide)


def flight_to_a_silent_follower_is_bounded(engine: type[Engine]) -> None:
    bench = Bench(engine=engine, timing=Timing(append_max_bytes=10, flight_max=8))
    bench.elect(1)
    bench.cut = {(2, 1)}  # it hears everything and answers nothing
    for number in range(100):
        bench.propose(1, f"entry{number}")
    unanswered = [m for _, to, m in bench.transit if to == 2 and isinstance(m, AppendEntries)]
    assert len(unanswered) <= 8
    bench.cut.clear()
    bench.settle()
    bench.advance(0.3)
    assert bench.logged(2) == bench.logged(1)


class SendsAllChunks(Engine):
    """A snapshot is sent without waiting for answers."""

    def __init__(self, **given: Any) -> None:
        timing = Timing(log_tail_bytes=0, chunk_max_bytes=40, chunk_flight_max=10**6)
        super().__init__(**{**given, "timing": timing})


def snapshot_chunks_are_paced_by_answers(engine: type[Engine]) -> None:
    bench = _behind(engine)
    bench.heal()
    bench.reconnect(1, 2)
    most = 0
    for _ in range(2000):
        if not bench.transit:
            if not bench.sync_wanted:
                break
            bench.sync(next(iter(bench.sync_wanted)))
            continue
        most = max(most, sum(isinstance(m, SnapshotChunk) for _, _, m in bench.transit))
        sender, to, message = bench.transit.pop(0)
        bench.step(to, Received(sender, message))
    assert bench.engines[1].snapshots_installed == 1
    assert most <= 2


# ------------------------------------------------------------------- H9g, H9h: answers


def deposed_leader_answers_its_callers(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    bench.elect(1)
    bench.isolate(1)
    bench.propose(1, "lost")
    bench.advance(2.0)
    bench.propose(1, "late")
    assert bench.answers == {"lost": "UNKNOWN_OUTCOME", "late": "NOT_LEADER"}


def caller_is_answered_when_a_snapshot_covers_its_entry(engine: type[Engine]) -> None:
    bench = Bench(engine=engine, timing=SMALL, checkpoint_entries=4)
    bench.elect(1)
    bench.isolate(1)
    bench.propose(1, "covered")
    bench.settle()
    bench.elect(2)
    for number in range(16):
        bench.propose(2, f"real{number}")
        bench.settle()
    bench.heal()
    bench.reconnect(1, 2)
    bench.advance(1.0)
    assert bench.engines[1].snapshots_installed == 1
    assert bench.answers["covered"] == "UNKNOWN_OUTCOME"


# ------------------------------------------------------------------------------- reads


def deposed_leader_answers_no_read(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    bench.elect(1)
    bench.isolate(1)
    bench.elect(2)
    bench.propose(2, "new")
    bench.settle()
    bench.read(1, "stale?")
    bench.settle()
    assert bench.answers.get("stale?") != "read"
    bench.advance(2.0)
    assert bench.answers["stale?"] == "no read"


class CountsOldAnswers(Engine):
    """A round that began before the read counts for it."""

    def on_read_barrier(self, event: ReadBarrier) -> None:
        super().on_read_barrier(event)
        self.reads = type(self.reads)((c, i, s - 1) for c, i, s in self.reads)
        self.check_reads()


def round_that_began_before_the_read_does_not_count(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    bench.elect(1)
    bench.advance(0.2)
    bench.step(1, ReadBarrier("first"))
    round_of_first = [item for item in bench.transit if item[0] == 1]
    bench.settle()
    assert bench.answers["first"] == "read"
    assert round_of_first
    bench.isolate(1)
    bench.step(1, ReadBarrier("second"))
    assert "second" not in bench.answers


class ReadsBeforeItsNoOp(Engine):
    """A new leader trusts the commit index it came with."""

    def on_read_barrier(self, event: ReadBarrier) -> None:
        self.noop_index = 0
        super().on_read_barrier(event)


def new_leader_reads_only_after_a_commit_of_its_own(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    bench.elect(1)
    bench.cut = {(1, 2), (2, 1), (1, 3), (3, 1)}
    bench.cut.clear()
    bench.propose(1, "acknowledged")
    bench.settle()
    assert bench.answers["acknowledged"] == "applied"
    bench.isolate(1)
    second = bench.engines[2]
    assert second.commit_index < second.log.last_index  # it has the entry, not its commit
    second.heard_at = bench.engines[3].heard_at = second.election_deadline = NEVER
    bench.stuck_disks = set()
    bench.now += 0.001
    bench.step(2, Tick())
    while second.role != LEADER:
        if bench.transit:
            sender, to, message = bench.transit.pop(0)
            bench.step(to, Received(sender, message))
        else:
            bench.sync(next(iter(bench.sync_wanted)))
    bench.stuck_disks = {2, 3}
    bench.read(2, "early")
    bench.settle()
    assert bench.answers.get("early") != "read" or "acknowledged" in bench.entries(2)
    bench.stuck_disks.clear()
    bench.settle()
    assert bench.answers["early"] == "read"
    assert "acknowledged" in bench.entries(2)


# ------------------------------------------------------------ contradictions, strangers


class Overwrites(Engine):
    """A committed entry is cut like any other."""

    def cut_from(self, index: int) -> None:
        self.log.truncate_from(index)
        self.forget_durable(index)


def leader_that_overwrites_a_committed_entry_halts_the_node(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    leader = bench.elect(1)
    bench.propose(1, "kept")
    bench.settle()
    bench.advance(0.1)
    term = leader.term
    wrong = AppendEntries(term + 1, 1, 1, 1, term, [(b"other", term + 1)])
    bench.step(2, Received(3, wrong))
    assert "committed entry 2" in bench.halted.get(2, "")


class ListensToAnyone(Engine):
    """A message counts whoever sent it."""

    def _on_received(self, event: Received) -> None:
        self.followers.setdefault(event.peer, Follower(event.peer))
        super()._on_received(event)


def stranger_is_not_heard(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    bench.elect(1)
    term = bench.engines[2].term
    bench.step(2, Received(9, VoteRequest(term + 5, 99, term + 5)))
    assert bench.engines[2].term == term


class TwoLeadersAreFine(Engine):
    """A second leader of the same term is followed."""

    def accept_leader(self, peer: int, term: int) -> None:
        if term == self.term:
            self.leader_id = None
        super().accept_leader(peer, term)


def second_leader_of_a_term_halts_the_node(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    leader = bench.elect(1)
    message = AppendEntries(leader.term, 1, 0, 0, 0, [])
    bench.step(3, Received(2, message))
    assert "two leaders" in bench.halted.get(3, "")


class CommitsByCount(plants.CommitsOlderTerms):
    """As planted: entries of earlier terms commit by counting."""


def entry_of_an_older_term_is_not_committed_by_counting(engine: type[Engine]) -> None:
    bench = Bench(5, engine=engine)
    first = bench.elect(1)
    bench.isolate(1)
    bench.cut -= {(1, 2), (2, 1)}
    bench.propose(1, "old")
    bench.settle()
    assert first.log.last_index == 2
    bench.isolate(1)
    bench.elect(2)  # has "old" too, and may commit it only below an entry of its own
    second = bench.engines[2]
    bench.isolate(2)
    second.commit_index = second.applied_index = 1
    for node in (3, 4):
        bench.step(2, Received(node, AppendReply(second.term, 1, True, 3, 2, False)))
    assert second.commit_index == 1


# ------------------------------------------------------------------------------ amnesia


class AmnesiacCounts(Engine):
    """An amnesiac's confirmations count like anybody's."""

    def note_answer(self, follower: Follower, sequence: int, *, amnesiac: bool) -> None:
        super().note_answer(follower, sequence, amnesiac=False)


def amnesiac_neither_votes_nor_counts_until_it_has_everything_again(engine: type[Engine]) -> None:
    bench = Bench(engine=engine, amnesiac=[3])
    bench.isolate(1)
    bench.engines[2].election_deadline = NEVER
    bench.step(2, Tick())
    bench.settle()
    assert bench.engines[2].role != LEADER
    bench.heal()
    leader = bench.elect(1)
    bench.advance(0.3)
    assert not bench.engines[3].amnesiac  # its log holds what the leader has committed
    assert bench.disks[3].get("raft_meta", b"amnesiac") is None
    assert not leader.followers[3].amnesiac


def amnesiac_confirmation_makes_no_majority(engine: type[Engine]) -> None:
    bench = Bench(engine=engine, amnesiac=[3])
    leader = bench.elect(1)
    bench.stuck_disks = {3}
    bench.advance(0.1)
    bench.isolate(2)
    before = leader.commit_index
    bench.propose(1, "x")
    bench.sync(1)
    index = leader.log.last_index
    for sequence in (leader.sequence, leader.sequence):
        reply = AppendReply(leader.term, sequence, True, index + 1, index, True)
        bench.step(1, Received(3, reply))
    assert leader.commit_index == before


class RecoversEarly(Engine):
    """Amnesia ends at any commit index, also one older than the leader's own term."""

    def recover_memory(self, commit_index: int, end: int) -> None:
        if end >= commit_index:
            self.amnesiac = False


def amnesia_ends_only_below_a_commit_of_the_leaders_own_term(engine: type[Engine]) -> None:
    bench = Bench(engine=engine, amnesiac=[3])
    node = bench.engines[3]
    bench.step(3, Received(1, AppendEntries(4, 1, 1, 0, 0, [(b"", 2), (b"a", 2)])))
    assert node.amnesiac
    bench.step(3, Received(1, AppendEntries(4, 2, 3, 2, 2, [(b"", 4)])))
    assert not node.amnesiac
    assert node.voted_for == 1


def follower_that_lost_confirmed_entries_is_not_counted(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    leader = bench.elect(1)
    for name in ("a", "b", "c"):
        bench.propose(1, name)
    bench.settle()
    follower = leader.followers[2]
    assert follower.match == 4
    reply = AppendReply(leader.term, leader.sequence + 1, False, 2, 1, False)
    bench.step(1, Received(2, reply))
    assert follower.match < 4
    assert not follower.counts
    bench.settle()
    assert follower.counts  # it was filled up again


class BelievesInMatch(Engine):
    """What a follower once confirmed it has for ever."""

    def on_append_reply(self, peer: int, message: AppendReply) -> None:
        super().on_append_reply(peer, message._replace(last_index=1 << 40))


# ------------------------------------------------------------------------------- transfer


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


STORIES: list[tuple[Story, type[Engine] | None]] = [
    (confirmation_waits_for_the_followers_disk, plants.SpeaksEarly),
    (leader_counts_itself_only_when_durable, plants.CountsItselfEarly),
    (vote_is_durable_before_it_is_given, plants.SpeaksEarly),
    (power_cut_of_all_loses_nothing_acknowledged, plants.SpeaksEarly),
    (repeated_message_truncates_nothing, plants.StockTruncation),
    (commit_index_stops_at_what_the_message_verified, plants.BelievesCommitIndex),
    (confirmation_of_an_older_term_counts_for_nothing, plants.IgnoresReplyTerm),
    (every_crash_point_leaves_a_whole_history, SplitsCheckpoint),
    (nothing_is_committed_after_a_restart_until_a_leader_says_so, TrustsCommitIndex),
    (restart_restores_checkpoint_and_replays_the_rest, ForgetsToRestore),
    (follower_cut_from_the_leader_alone_disturbs_nobody, NoPreVote),
    (follower_cut_from_the_leader_alone_disturbs_nobody, NoStickiness),
    (isolated_leader_steps_down_within_a_second_and_a_half, StaysInOffice),
    (closed_connection_to_the_leader_starts_an_election_at_once, WaitsForTheTimeout),
    (one_closed_connection_does_not_unseat_a_leader, NoStickiness),
    (leader_with_a_hung_disk_hands_over, IgnoresItsDisk),
    (one_voter_counts_once, plants.CountsReplies),
    (one_vote_per_term, plants.ForgetsItsVote),
    (machine_that_raises_halts_the_node_once, AppliesOn),
    (part_of_a_snapshot_commits_nothing, plants.ChunkMovesCommit),
    (snapshot_brings_a_lagging_node_level, plants.NeverRewinds),
    (lost_chunk_is_not_taken_for_a_snapshot, AcceptsAnyChunk),
    (damaged_chunk_is_not_taken_for_a_snapshot, AcceptsAnyChunk),
    (older_snapshot_never_takes_a_node_back, InstallsAnything),
    (install_keeps_a_log_that_continues_the_snapshot, DropsSuffix),
    (install_drops_a_log_that_contradicts_the_snapshot, plants.KeepsWrongSuffix),
    (one_flight_is_rewound_once, HonoursEveryRejection),
    (conflicting_term_is_skipped_whole, StepsBackByOne),
    (large_entry_travels_whole, SkipsLargeEntries),
    (flight_to_a_silent_follower_is_bounded, NoFlightBound),
    (snapshot_chunks_are_paced_by_answers, SendsAllChunks),
    (deposed_leader_answers_its_callers, plants.ForgetsCallers),
    (caller_is_answered_when_a_snapshot_covers_its_entry, plants.ForgetsCallers),
    (deposed_leader_answers_no_read, plants.ReadsAtOnce),
    (round_that_began_before_the_read_does_not_count, CountsOldAnswers),
    (new_leader_reads_only_after_a_commit_of_its_own, ReadsBeforeItsNoOp),
    (leader_that_overwrites_a_committed_entry_halts_the_node, Overwrites),
    (stranger_is_not_heard, ListensToAnyone),
    (second_leader_of_a_term_halts_the_node, TwoLeadersAreFine),
    (entry_of_an_older_term_is_not_committed_by_counting, CommitsByCount),
    (amnesiac_neither_votes_nor_counts_until_it_has_everything_again, plants.AmnesiacVotes),
    (amnesiac_confirmation_makes_no_majority, AmnesiacCounts),
    (amnesia_ends_only_below_a_commit_of_the_leaders_own_term, RecoversEarly),
    (follower_that_lost_confirmed_entries_is_not_counted, BelievesInMatch),
    (leader_hands_over_when_asked, NeverTransfers),
]


def _name(value: object) -> str:
    return getattr(value, "__name__", str(value))


@pytest.mark.parametrize("story", list(dict.fromkeys(s for s, _ in STORIES)), ids=_name)
def test_engine(story: Story) -> None:
    story(Engine)


@pytest.mark.parametrize(("story", "plant"), STORIES, ids=_name)
def test_without_the_rule(story: Story, plant: type[Engine]) -> None:
    with pytest.raises(AssertionError):
        story(plant)


# ---------------------------------------------------------------------------- H6: bytes


def test_nothing_the_engine_does_decodes_with_code_execution(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pysyncobj import pickle as stock_pickle  # noqa: PLC0415  # named only where it is banned

    def never(*_arguments: object, **_named: object) -> object:
        raise SystemExit("a decoder that runs code was called")

    for name in ("loads", "load", "_loads", "_load", "dumps", "dump", "Unpickler", "_Unpickler"):
        monkeypatch.setattr(pickle, name, never)
    for name in ("loads", "load", "dumps", "dump"):
        monkeypatch.setattr(stock_pickle, name, never)
    snapshot_brings_a_lagging_node_level(Engine)
    bench = Bench(1)
    bench.advance(0.04)
    payload = b"\x80\x04cposix\nsystem\n."  # what would run code, if anyone decoded it
    bench.step(1, Propose(payload, None, "poison"))
    bench.settle()
    assert bench.answers["poison"] == "applied"


__all__: Sequence[str] = ()
_UNUSED = (SimDisk, FAMILIES, SnapshotReply, TimeoutNow)
