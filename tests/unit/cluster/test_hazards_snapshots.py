"""H9a, H9b, H9j: a snapshot counts when it is whole, and not before.

Stories as described in `tests.support.stories`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from zlib import crc32

import pytest

from cluster.chunks import decode_records, encode_records
from cluster.configuration import Configuration
from cluster.engine import Engine
from cluster.events import Received
from cluster.interface import Timing
from cluster.messages import AppendEntries, SnapshotChunk, SnapshotReply
from cluster.state import LEADER
from tests.simulation import plants
from tests.support.sim_bench import Bench
from tests.support.stories import Story, name_of

MEMBERS = Configuration(voters=(1, 2, 3)).to_bytes()
SMALL = Timing(log_tail_bytes=0, chunk_max_bytes=40)


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
    bench.reconnect(1, 2)
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
    bench.advance(bench.timing.snapshot_stall_s + 1.0)
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
        *(term, 500 + number, 7, number, index, last_term, data, crc32(data), done, crc32(whole)),
        *(0, MEMBERS),
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


def family_nobody_knows_halts_nobody(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    data = encode_records([("schedules", b"key", b"of a later version")])
    chunk = SnapshotChunk(5, 1, 1, 0, 9, 5, data, crc32(data), False, crc32(data), 0, MEMBERS)
    bench.step(2, Received(1, chunk))
    assert bench.halted == {}
    sent = [message for _, message in bench.last.messages]
    (reply,) = [*sent, *(message for _, _, message in bench.last.held)]
    assert isinstance(reply, SnapshotReply)
    assert (reply.number, reply.next_index) == (0, 0)


class TrustsFamilies(Engine):
    """A record of a family unknown here is an error of this node's own."""

    def store_chunk(self, peer: int, data: bytes) -> bool:
        self.disk.add_install(decode_records(data))
        return True


def members_of_a_later_entry_halt_nobody(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    for number in (0, 1):
        chunk = _chunk(5, 9, 5, done=bool(number), number=number)._replace(configuration_index=10)
        bench.step(2, Received(1, chunk))
    assert bench.halted == {}
    assert bench.engines[2].snapshots_installed == 0
    sent = [message for _, message in bench.last.messages]
    (reply,) = [*sent, *(message for _, _, message in bench.last.held)]
    assert isinstance(reply, SnapshotReply)
    assert (reply.number, reply.next_index) == (0, 0)


class TrustsMembers(Engine):
    """A snapshot may bring a configuration from beyond its end."""

    def agrees_with_itself(self, peer: int, message: SnapshotChunk) -> bool:
        return True


def snapshot_that_nobody_takes_lets_go_of_its_view(engine: type[Engine]) -> None:
    bench = _behind(engine)
    bench.heal()
    bench.reconnect(1, 2)
    follower = bench.engines[2].followers[1]
    bench.settle(until=lambda: follower.snapshot is not None)
    stuck = follower.snapshot
    assert stuck is not None
    end = bench.now + SMALL.snapshot_stall_s + 1
    bench.engines[1].reply_chunk = lambda *_, **__: None  # type: ignore[method-assign]  # its disk hangs
    while bench.now < end:
        bench.advance(0.5)
    assert stuck.reader.closed  # type: ignore[attr-defined]  # the reader of the simulated disk
    assert bench.engines[2].role == LEADER
    del bench.engines[1].reply_chunk
    while bench.now < end + SMALL.snapshot_stall_s + 1:
        bench.advance(0.5)
    assert bench.entries(1) == bench.entries(2)


class WaitsForEver(Engine):
    """A snapshot is never given up."""

    def give_up_snapshots(self) -> None:
        return


def answer_to_a_chunk_never_sent_opens_no_flood(engine: type[Engine]) -> None:
    bench = _behind(engine)
    bench.heal()
    bench.reconnect(1, 2)
    leader = bench.engines[2]
    bench.settle(until=lambda: leader.followers[1].snapshot is not None)
    outgoing = leader.followers[1].snapshot
    assert outgoing is not None
    sent = leader.sequence
    bench.step(
        2, Received(1, SnapshotReply(leader.term, sent, outgoing.snapshot_id, 10**6, 0, False))
    )
    chunks = [m for _, m in bench.last.messages if isinstance(m, SnapshotChunk)]
    assert len(chunks) <= SMALL.chunk_flight_max


class BelievesChunkNumbers(Engine):
    """The follower's word is taken for what it was sent."""

    def on_snapshot_reply(self, peer: int, message: SnapshotReply) -> None:
        outgoing = self.followers[peer].snapshot
        if outgoing is not None:
            outgoing.number, number = message.number, outgoing.number
            super().on_snapshot_reply(peer, message)
            outgoing.number = number
            self.send_chunks(self.followers[peer], outgoing)


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


STORIES: list[tuple[Story, type[Engine]]] = [
    (part_of_a_snapshot_commits_nothing, plants.ChunkMovesCommit),
    (snapshot_brings_a_lagging_node_level, plants.NeverRewinds),
    (lost_chunk_is_not_taken_for_a_snapshot, AcceptsAnyChunk),
    (damaged_chunk_is_not_taken_for_a_snapshot, AcceptsAnyChunk),
    (older_snapshot_never_takes_a_node_back, InstallsAnything),
    (install_keeps_a_log_that_continues_the_snapshot, DropsSuffix),
    (install_drops_a_log_that_contradicts_the_snapshot, plants.KeepsWrongSuffix),
    (family_nobody_knows_halts_nobody, TrustsFamilies),
    (members_of_a_later_entry_halt_nobody, TrustsMembers),
    (snapshot_that_nobody_takes_lets_go_of_its_view, WaitsForEver),
    (answer_to_a_chunk_never_sent_opens_no_flood, BelievesChunkNumbers),
    (snapshot_chunks_are_paced_by_answers, SendsAllChunks),
]


@pytest.mark.parametrize("story", list(dict.fromkeys(s for s, _ in STORIES)), ids=name_of)
def test_engine(story: Story) -> None:
    story(Engine)


@pytest.mark.parametrize(("story", "plant"), STORIES, ids=name_of)
def test_without_the_rule(story: Story, plant: type[Engine]) -> None:
    with pytest.raises(AssertionError):
        story(plant)


def test_chunks_that_arrive_twice_do_not_begin_the_snapshot_anew() -> None:
    bench = _behind(Engine)
    bench.heal()
    bench.reconnect(1, 2)
    before: list[SnapshotChunk] = []
    begun = set()
    for _ in range(400):
        if not bench.transit:
            for node in list(bench.sync_wanted):
                bench.sync(node)
            continue
        sender, to, message = bench.transit.pop(0)
        bench.step(to, Received(sender, message))
        if isinstance(message, SnapshotChunk):
            for again in (message, *before):
                bench.step(to, Received(sender, again))
            before = [message]
            begun.add(message.snapshot_id)
    assert len(begun) == 1
    assert bench.engines[2].snapshots_sent == bench.engines[1].snapshots_installed == 1
    assert bench.entries(1) == bench.entries(2)


def test_chunks_that_overtake_each_other_do_not_begin_the_snapshot_anew() -> None:
    bench = _behind(Engine)
    bench.heal()
    bench.reconnect(1, 2)
    overtaken, begun = 0, set()
    for _ in range(400):
        if not bench.transit:
            for node in list(bench.sync_wanted):
                bench.sync(node)
            continue
        chunks = [item for item in bench.transit if isinstance(item[2], SnapshotChunk)]
        overtaken += len(chunks) > 1
        begun |= {m.snapshot_id for _, _, m in chunks if isinstance(m, SnapshotChunk)}
        item = chunks[-1] if chunks else bench.transit[0]
        bench.transit.remove(item)
        bench.step(item[1], Received(item[0], item[2]))
    assert overtaken
    assert len(begun) == 1
    assert bench.engines[2].snapshots_sent == bench.engines[1].snapshots_installed == 1
    assert bench.entries(1) == bench.entries(2)


def test_what_is_left_of_an_earlier_snapshot_does_not_stop_the_present_one() -> None:
    bench = _behind(Engine)
    bench.heal()
    bench.reconnect(1, 2)
    bench.settle(until=lambda: bench.engines[1].incoming is not None)
    incoming = bench.engines[1].incoming
    assert incoming is not None
    [late] = [m for _, to, m in bench.transit if to == 1 and isinstance(m, SnapshotChunk)][:1]
    bench.step(1, Received(2, late._replace(snapshot_id=late.snapshot_id - 1, number=0)))
    assert bench.engines[1].incoming is incoming
    bench.step(1, Received(2, late._replace(snapshot_id=late.snapshot_id - 1, last_index=0)))
    assert bench.engines[1].incoming is incoming
    bench.settle()
    bench.advance(0.5)
    assert bench.engines[2].snapshots_sent == bench.engines[1].snapshots_installed == 1


def test_a_chunk_far_ahead_of_the_others_is_not_kept() -> None:
    bench = _behind(Engine)
    bench.heal()
    bench.reconnect(1, 2)
    bench.settle(until=lambda: bench.engines[1].incoming is not None)
    [late] = [m for _, to, m in bench.transit if to == 1 and isinstance(m, SnapshotChunk)][:1]
    far = late._replace(number=late.number + bench.timing.chunk_flight_max)
    bench.step(1, Received(2, far))
    assert bench.engines[1].incoming is None
    bench.settle()
    bench.advance(1.0)
    assert bench.entries(1) == bench.entries(2)
