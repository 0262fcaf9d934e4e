from __future__ import annotations

from collections.abc import Sequence

import pytest

from node.proposer import ENTRY_MAX_BYTES, ENTRY_TASKS_MAX, Batch, Proposer, Request
from statemachine import Advance
from tests.unit.node.fakes import FakeClock, FakeLoop


class Log:
    """Takes entries and keeps them under way until told otherwise."""

    def __init__(self) -> None:
        self.entries: list[bytes] = []
        self.decoded: list[object] = []
        self.batches: list[Batch] = []
        self.failed: list[Batch] = []
        self.fails = False

    def propose(self, entry: bytes, decoded: object, context: object) -> None:
        if self.fails:
            raise OSError("no log today")
        assert isinstance(context, Batch)
        self.entries.append(entry)
        self.decoded.append(decoded)
        self.batches.append(context)


def join(now_ms: int, spliced: Sequence[bytes]) -> bytes:
    return b"%d|" % now_ms + b"".join(spliced)


def a_proposer(
    log: Log, loop: FakeLoop, *, depth: int = 2, clock: FakeClock | None = None
) -> Proposer:
    return Proposer(
        propose=log.propose,
        join=join,
        failed=log.failed.append,
        schedule=loop.call_soon,
        wall_ms=(clock or FakeClock()).wall_ms,
        now_s=(clock or FakeClock()).now_s,
        depth=depth,
    )


def a_request(spliced: bytes = b"x", *, tasks: int = 1) -> Request:
    return Request(Advance(), spliced, type_=0, tasks=tasks)


def test_everything_of_one_turn_goes_into_one_entry() -> None:
    log, loop = Log(), FakeLoop()
    proposer = a_proposer(log, loop)

    for letter in (b"a", b"b", b"c"):
        proposer.add(a_request(letter))
    assert log.entries == []
    loop.turn()

    assert log.entries == [b"1700000000000|abc"]
    assert log.decoded == [(1_700_000_000_000, [Advance(), Advance(), Advance()])]


def test_no_more_than_depth_entries_are_under_way_and_the_next_one_grows_meanwhile() -> None:
    log, loop = Log(), FakeLoop()
    proposer = a_proposer(log, loop, depth=2)
    for letter in (b"a", b"b", b"c", b"d"):
        proposer.add(a_request(letter))
        loop.turn()
    assert [entry[-1:] for entry in log.entries] == [b"a", b"b"]

    assert proposer.settled(log.batches[0])
    loop.turn()

    assert log.entries[2].endswith(b"|cd")
    assert not proposer.settled(log.batches[0]), "a batch settles once"


def test_an_entry_stays_below_its_bound_in_bytes() -> None:
    log, loop = Log(), FakeLoop()
    proposer = a_proposer(log, loop, depth=100)
    for _ in range(30):
        proposer.add(a_request(b"x" * 100_000))
    loop.turn()

    assert len(log.entries) == 3
    assert all(len(entry) <= ENTRY_MAX_BYTES for entry in log.entries)
    assert sum(len(batch.requests) for batch in log.batches) == 30


def test_a_backlog_of_many_entries_is_cut_no_deeper_than_depth() -> None:
    log, loop = Log(), FakeLoop()
    proposer = a_proposer(log, loop, depth=2)
    for _ in range(30):
        proposer.add(a_request(b"x" * 100_000))
    loop.turn()
    assert len(log.entries) == 2

    proposer.settled(log.batches[0])
    loop.turn()
    assert len(log.entries) == 3
    assert sum(len(batch.requests) for batch in log.batches) == 30


def test_a_command_over_the_bound_travels_alone() -> None:
    log, loop = Log(), FakeLoop()
    proposer = a_proposer(log, loop, depth=100)
    proposer.add(a_request(b"a"))
    proposer.add(a_request(b"x" * (3 * ENTRY_MAX_BYTES)))
    proposer.add(a_request(b"b"))
    loop.turn()

    assert [len(batch.requests) for batch in log.batches] == [1, 1, 1]


def test_an_entry_stays_below_its_bound_in_tasks() -> None:
    log, loop = Log(), FakeLoop()
    proposer = a_proposer(log, loop, depth=100)
    for _ in range(5):
        proposer.add(a_request(tasks=1000))
    loop.turn()

    assert [len(batch.requests) for batch in log.batches] == [2, 2, 1]
    assert all(sum(r.tasks for r in b.requests) <= ENTRY_TASKS_MAX for b in log.batches)


def test_when_handing_over_raises_every_command_is_answered_and_the_next_ones_go_on() -> None:
    log, loop = Log(), FakeLoop()
    proposer = a_proposer(log, loop, depth=1)
    log.fails = True
    requests = [a_request(), a_request()]
    for request in requests:
        proposer.add(request)
    with pytest.raises(OSError, match="no log today"):
        loop.turn()

    assert [batch.requests for batch in log.failed] == [requests]
    assert proposer.idle

    log.fails = False
    proposer.add(a_request(b"later"))
    loop.turn()
    assert log.entries[-1].endswith(b"later")


def test_commands_that_were_in_no_entry_can_be_taken_back() -> None:
    log, loop = Log(), FakeLoop()
    proposer = a_proposer(log, loop, depth=1)
    proposer.add(a_request(b"a"))
    loop.turn()
    waiting = a_request(b"b")
    proposer.add(waiting)

    assert proposer.take_waiting() == [waiting]
    proposer.settled(log.batches[0])
    loop.run()
    assert len(log.entries) == 1
    assert proposer.idle


def test_nothing_is_stamped_while_the_time_is_not_known() -> None:
    log, loop, clock = Log(), FakeLoop(), FakeClock()
    proposer = a_proposer(log, loop, depth=1, clock=clock)
    now_ms, clock.wall = clock.wall, 0
    for letter in (b"a", b"b"):
        proposer.add(a_request(letter))
        proposer.poll()
        loop.run()
    assert log.entries == []
    assert not proposer.idle

    clock.wall = now_ms
    proposer.poll()
    loop.run()
    assert log.entries == [b"1700000000000|ab"]


def test_a_backlog_that_waits_for_the_time_is_cut_no_deeper_than_depth() -> None:
    log, loop, clock = Log(), FakeLoop(), FakeClock()
    proposer = a_proposer(log, loop, depth=2, clock=clock)
    now_ms, clock.wall = clock.wall, 0
    for _ in range(30):
        proposer.add(a_request(b"x" * 100_000))
    loop.run()
    clock.wall = now_ms
    for _ in range(3):
        proposer.poll()
        loop.run()
    assert len(log.entries) == 2

    clock.wall = 0
    proposer.settled(log.batches[0])
    loop.run()
    assert len(log.entries) == 2
    clock.wall = now_ms
    proposer.poll()
    loop.run()
    assert len(log.entries) == 3
    assert sum(len(batch.requests) for batch in log.batches) == 30


def test_what_waits_for_the_time_can_be_taken_back() -> None:
    log, loop, clock = Log(), FakeLoop(), FakeClock()
    proposer = a_proposer(log, loop, clock=clock)
    clock.wall = 0
    waiting = a_request()
    proposer.add(waiting)
    loop.run()
    assert proposer.take_waiting() == [waiting]
    assert proposer.idle
