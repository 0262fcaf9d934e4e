"""A node that may have forgotten votes and entries.

Stories as described in `tests.support.stories`.
"""

from __future__ import annotations

import pytest

from cluster.engine import Engine
from cluster.events import Received, Tick
from cluster.interface import AMNESIAC_KEY, RAFT_META
from cluster.messages import AppendEntries, AppendReply
from cluster.progress import NEVER, Follower
from cluster.state import LEADER
from tests.simulation import plants
from tests.support.sim_bench import Bench
from tests.support.stories import Story, name_of


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
    bench.step(3, Received(1, AppendEntries(4, 1, 1, 0, 0, [(b"", 2), (b"a", 2)], True)))
    assert bench.engines[3].status.amnesiac
    bench.step(3, Received(1, AppendEntries(4, 2, 3, 2, 2, [(b"", 4)], True)))
    assert not bench.engines[3].amnesiac
    assert bench.engines[3].voted_for == 1


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


def _lose_memory(bench: Bench, node: int) -> None:
    """The node's process ends, its directory is emptied, and it starts again."""
    disk = bench.disks[node]
    disk.wipe()
    disk.put(RAFT_META, AMNESIAC_KEY, b"")
    disk.sync(disk.write() or 0)
    bench.restart(node)


def deposed_leader_gives_nobody_a_memory(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    bench.elect(1)
    bench.advance(0.1)
    bench.isolate(1)
    bench.elect(2)
    bench.propose(2, "kept")
    bench.settle()
    assert bench.answers["kept"] == "applied"  # by 2 and 3; 1 has not noticed and leads on
    bench.cut = {(1, 2), (2, 1), (2, 3), (3, 2)}
    _lose_memory(bench, 3)
    bench.advance(0.3)
    assert bench.engines[1].role == LEADER
    bench.propose(1, "ghost")
    bench.settle()
    assert bench.answers.get("ghost") != "applied"
    assert bench.engines[3].amnesiac
    bench.heal()
    bench.reconnect(1, 2)
    bench.reconnect(2, 3)
    bench.advance(2.0)
    assert bench.disks[3].get(RAFT_META, AMNESIAC_KEY) is None
    assert [bench.entries(node) for node in (1, 2, 3)] == [["kept"]] * 3


class VouchesAtOnce(Engine):
    """A leader vouches for its commit index without asking whether it still leads."""

    def vouches(self, follower: Follower) -> bool:
        return True


def second_loss_of_memory_needs_a_round_of_its_own(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    bench.elect(1)
    bench.advance(0.1)
    _lose_memory(bench, 3)
    bench.settle()
    bench.cut = {(1, 3), (3, 1)}
    bench.advance(0.15)  # 2 confirms that 1 leads
    bench.cut = {(1, 2), (2, 1)}
    _lose_memory(bench, 3)
    bench.advance(0.3)
    assert bench.engines[3].amnesiac


class RemembersOldRounds(Engine):
    """A round confirmed before a reconnection counts for what came after it."""

    def look_again(self, follower: Follower) -> None:
        since = follower.amnesiac_since
        super().look_again(follower)
        follower.amnesiac_since = since


def leader_heard_by_amnesiacs_alone_steps_down(engine: type[Engine]) -> None:
    """It can commit nothing, so it must answer those who wait and let them look elsewhere."""
    bench = Bench(engine=engine)
    leader = bench.elect(1)
    bench.advance(0.1)
    bench.isolate(2)
    _lose_memory(bench, 3)
    bench.propose(1, "stuck")
    bench.advance(1.0)
    assert leader.role == LEADER  # node 2 may have been slow
    bench.advance(0.8)
    assert leader.role != LEADER
    assert bench.answers["stuck"] == "UNKNOWN_OUTCOME"


class SharesWithAmnesiacs(Engine):
    """An amnesiac in step is sent what all others are, and no word for itself."""

    def broadcast(self, index: int, entry: bytes) -> None:
        amnesiacs = [one for one in self.followers.values() if one.amnesiac]
        for follower in amnesiacs:
            follower.amnesiac = False
        super().broadcast(index, entry)
        for follower in amnesiacs:
            follower.amnesiac = True


def amnesia_ends_while_entries_follow_each_other_without_a_pause(engine: type[Engine]) -> None:
    bench = Bench(engine=engine, amnesiac=[3])
    leader = bench.elect_only(1)
    bench.cut = {(2, 1)}  # nobody has confirmed the proof when 3 has caught up
    bench.settle()
    assert leader.followers[3].match == leader.log.last_index
    bench.cut = set()
    for number in range(300):
        bench.now += 0.003
        bench.propose(1, str(number))  # before the one in front of it is committed
        if number:
            bench.settle(until=lambda n=number: str(n - 1) in bench.answers)  # type: ignore[misc]
        for node in bench.voters:
            bench.step(node, Tick())
    assert not bench.engines[3].amnesiac


class HeedsAmnesiacs(Engine):
    """Who may have forgotten is as good a sign of a majority as anybody."""

    def counted_at(self, follower: Follower) -> float:
        return follower.heard_at


STORIES: list[tuple[Story, type[Engine]]] = [
    (amnesia_ends_while_entries_follow_each_other_without_a_pause, SharesWithAmnesiacs),
    (leader_heard_by_amnesiacs_alone_steps_down, HeedsAmnesiacs),
    (deposed_leader_gives_nobody_a_memory, VouchesAtOnce),
    (second_loss_of_memory_needs_a_round_of_its_own, RemembersOldRounds),
    (amnesiac_neither_votes_nor_counts_until_it_has_everything_again, plants.AmnesiacVotes),
    (amnesiac_confirmation_makes_no_majority, AmnesiacCounts),
    (amnesia_ends_only_below_a_commit_of_the_leaders_own_term, RecoversEarly),
    (follower_that_lost_confirmed_entries_is_not_counted, BelievesInMatch),
]


@pytest.mark.parametrize("story", list(dict.fromkeys(s for s, _ in STORIES)), ids=name_of)
def test_engine(story: Story) -> None:
    story(Engine)


@pytest.mark.parametrize(("story", "plant"), STORIES, ids=name_of)
def test_without_the_rule(story: Story, plant: type[Engine]) -> None:
    with pytest.raises(AssertionError):
        story(plant)
