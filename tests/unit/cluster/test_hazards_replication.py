"""H2, H3, H9c to H9f: the log between leader and followers.

Stories as described in `tests.support.stories`.
"""

from __future__ import annotations

from typing import Any

import pytest

from cluster.engine import Engine
from cluster.events import Received
from cluster.interface import Timing
from cluster.messages import AppendEntries, AppendReply, VoteReply
from cluster.progress import REPLICATE, Follower
from cluster.state import CANDIDATE, LEADER
from tests.simulation import plants
from tests.support.sim_bench import Bench
from tests.support.stories import Story, name_of


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
        assert sent <= 95, "the follower is sent the same again and again"
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


class BooksTheLatest(Engine):
    """A shared message is booked under whatever has been sent since."""

    def broadcast(self, index: int, entry: bytes) -> None:
        super().broadcast(index, entry)
        for follower in self.followers.values():
            if follower.flight and follower.mode is REPLICATE:
                _, size = follower.flight.pop()
                follower.flight.append((self.sequence, size))


def answer_lands_the_flight_beside_a_follower_out_of_step(engine: type[Engine]) -> None:
    """One message for those in step, another in between for who is not."""
    bench = Bench(4, engine=engine, timing=Timing(flight_max=1))
    leader = bench.elect(1)
    leader.followers[3].amnesiac = True
    bench.propose(1, "x")
    bench.settle()
    assert leader.followers[2].match == leader.followers[4].match == leader.log.last_index
    assert not leader.followers[2].flight
    assert not leader.followers[4].flight


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


def answer_of_a_stranger_counts_for_nothing(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    candidate = bench.engines[1]
    candidate.set_term(1, 1)
    candidate.role = CANDIDATE
    bench.step(1, Received(9, VoteReply(1, True)))
    assert candidate.role == CANDIDATE
    leader = bench.elect(1)
    bench.step(1, Received(9, AppendReply(leader.term + 5, 1, False, 1, 0, False)))
    assert leader.role == LEADER


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
    second = bench.elect_only(2)  # has "old" too, and may commit it only below its own no-op
    for node in (3, 4):
        bench.step(2, Received(node, AppendReply(second.term, 1, True, 3, 2, False)))
    assert second.commit_index == 1


STORIES: list[tuple[Story, type[Engine]]] = [
    (repeated_message_truncates_nothing, plants.StockTruncation),
    (commit_index_stops_at_what_the_message_verified, plants.BelievesCommitIndex),
    (confirmation_of_an_older_term_counts_for_nothing, plants.IgnoresReplyTerm),
    (one_flight_is_rewound_once, HonoursEveryRejection),
    (conflicting_term_is_skipped_whole, StepsBackByOne),
    (large_entry_travels_whole, SkipsLargeEntries),
    (flight_to_a_silent_follower_is_bounded, NoFlightBound),
    (answer_lands_the_flight_beside_a_follower_out_of_step, BooksTheLatest),
    (leader_that_overwrites_a_committed_entry_halts_the_node, Overwrites),
    (answer_of_a_stranger_counts_for_nothing, ListensToAnyone),
    (second_leader_of_a_term_halts_the_node, TwoLeadersAreFine),
    (entry_of_an_older_term_is_not_committed_by_counting, CommitsByCount),
]


@pytest.mark.parametrize("story", list(dict.fromkeys(s for s, _ in STORIES)), ids=name_of)
def test_engine(story: Story) -> None:
    story(Engine)


@pytest.mark.parametrize(("story", "plant"), STORIES, ids=name_of)
def test_without_the_rule(story: Story, plant: type[Engine]) -> None:
    with pytest.raises(AssertionError):
        story(plant)
