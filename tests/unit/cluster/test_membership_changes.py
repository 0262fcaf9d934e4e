"""Changes of the members: one at a time, never at the price of a majority, always answered.

Stories as described in `tests.support.stories`.
"""

from __future__ import annotations

import pytest

from cluster.configuration import (
    MEMBERS_MAX,
    VOTERS_MAX,
    AddLearner,
    Change,
    Configuration,
    Promote,
    Remove,
)
from cluster.engine import Engine
from cluster.events import ChangeMembers, PeerDisconnected, Received, TransferLeadership
from cluster.interface import Timing
from cluster.messages import AppendEntries, AppendReply
from cluster.progress import Follower
from cluster.state import FOLLOWER, LEADER
from tests.support.sim_bench import Bench
from tests.support.stories import Story, name_of

ADDRESS = ("127.0.0.1", 7404)


class ManyAtOnce(Engine):
    """A second change begins while the first is open."""

    def change_open(self) -> bool:
        return False


def second_change_waits_for_the_first(engine: type[Engine]) -> None:
    """Two changes at once: the majorities before and after would not meet."""
    bench = Bench(engine=engine)
    bench.elect(1)
    bench.advance(0.1)
    bench.add_learner(1, 4)
    bench.add_learner(1, 5)
    bench.isolate(1)
    for node in (4, 5):
        bench.cut -= {(1, node), (node, 1)}
    bench.change(1, Promote(4), "4")
    bench.change(1, Promote(5), "5")
    bench.propose(1, "ghost")
    bench.settle()  # 1, 4 and 5 would be three of five
    bench.elect(2)
    bench.propose(2, "real")
    bench.settle()
    assert bench.answers["real"] == "applied"
    assert bench.answers.get("ghost") != "applied"
    assert bench.answers["5"] == "CHANGE_UNDER_WAY"


class Hasty(Engine):
    """A new leader changes the members at once (the error found in 2015)."""

    def settled(self) -> bool:
        return True

    def can_commit(self, configuration: Configuration) -> bool:
        return True


def leader_changes_nobody_before_a_commit_of_its_own_term(engine: type[Engine]) -> None:
    """Two leaders each see one open change, and their majorities do not meet."""
    bench = Bench(4, engine=engine)
    bench.elect(1)
    bench.advance(0.1)
    bench.add_learner(1, 5)
    bench.isolate(1)
    bench.isolate(5)
    bench.cut -= {(1, 5), (5, 1)}
    bench.change(1, Promote(5), "promote 5")  # only 1 and 5 ever see it
    bench.settle()
    bench.elect_only(2)
    bench.transit.clear()
    bench.cut |= {(2, 4), (4, 2)}
    bench.change(2, Remove(1), "remove 1")
    bench.propose(2, "real")
    bench.advance(0.3, nodes=[2, 3])  # 2 and 3 would be two of three
    bench.isolate(2)
    bench.isolate(3)
    bench.advance(1.6, nodes=[1, 5])  # 1 knows of no majority any more
    bench.cut -= {(1, 4), (4, 1), (4, 5), (5, 4)}
    bench.engines[1].become_follower(bench.engines[4].term)
    bench.elect(1)
    bench.propose(1, "ghost")
    bench.advance(0.2, nodes=[1, 4, 5])
    assert bench.answers["ghost"] == "applied"
    assert bench.answers.get("real") != "applied"
    assert bench.answers["remove 1"] == "NOT_SETTLED"


class RisksTheQuorum(Engine):
    """Nobody counts who would be left."""

    def can_commit(self, configuration: Configuration) -> bool:
        return True


def healthy_voter_stays_while_another_is_away(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    bench.elect(1)
    bench.advance(0.1)
    bench.isolate(3)
    bench.advance(1.5)
    bench.change(1, Remove(2), "remove 2")
    bench.advance(0.1)
    bench.propose(1, "x")
    bench.advance(0.2)
    assert bench.answers == {"remove 2": "QUORUM_AT_RISK", "x": "applied"}
    bench.change(1, Remove(3), "remove 3")
    bench.advance(0.2)
    assert bench.answers["remove 3"] == "changed"
    assert bench.engines[1].status.voters == (1, 2)


def promotion_needs_a_majority_of_those_who_would_vote(engine: type[Engine]) -> None:
    bench = Bench(5, engine=engine)
    bench.elect(1)
    bench.advance(0.1)
    learner = bench.add_learner(1, 6)
    bench.isolate(4)
    bench.isolate(5)
    bench.advance(1.5)
    bench.engines[1].caught_up = lambda follower: (  # type: ignore[method-assign]  # 3 lags
        follower.peer in {2, learner.node_id}
    )
    bench.change(1, Promote(6), "promote 6")
    assert bench.answers.get("promote 6") == "QUORUM_AT_RISK"


class PromotesAnyone(Engine):
    """A learner is promoted however far behind it is."""

    def caught_up(self, follower: Follower) -> bool:
        return True


def learner_votes_only_once_it_has_caught_up(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    bench.elect(1)
    bench.advance(0.1)
    learner = bench.join(4)
    bench.cut = {(1, 4)}
    bench.change(1, AddLearner(4, ADDRESS), "add")
    for number in range(400):
        bench.propose(1, f"e{number}")
    bench.settle()
    bench.change(1, Promote(4), "too early")
    assert bench.answers.get("too early") == "NOT_CAUGHT_UP"
    assert learner.log.last_index == 0
    bench.cut.clear()
    bench.reconnect(1, 4)
    bench.advance(0.5)
    bench.change(1, Promote(4), "promote")
    bench.advance(0.1)
    assert bench.answers["promote"] == "changed"


class AmnesiacIsPromoted(Engine):
    """What a learner may have forgotten does not matter."""

    def caught_up(self, follower: Follower) -> bool:
        forgot, follower.amnesiac = follower.amnesiac, False
        caught_up = super().caught_up(follower)
        follower.amnesiac = forgot
        return caught_up


def amnesiac_learner_is_not_promoted(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    bench.elect(1)
    bench.advance(0.1)
    learner = bench.join(4)
    learner.recover_memory = lambda *_: None  # type: ignore[method-assign]  # nothing lets it remember
    bench.change(1, AddLearner(4, ADDRESS), "add")
    bench.advance(0.3)
    assert learner.amnesiac
    bench.change(1, Promote(4), "promote")
    assert bench.answers.get("promote") == "NOT_CAUGHT_UP"


class RemovesItself(Engine):
    """A leader lets itself go like anybody."""

    def _refuse_removal(self, node_id: int) -> None:
        return None


def leader_hands_over_before_it_is_removed(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    old = bench.elect(1)
    bench.advance(0.1)
    bench.change(1, Remove(1), "remove 1")
    bench.settle()
    assert bench.answers["remove 1"] == "HANDING_OVER"
    assert old.role == FOLLOWER
    leader = next(node for node in (2, 3) if bench.engines[node].role == LEADER)
    bench.advance(0.1)
    bench.change(leader, Remove(1), "again")
    bench.advance(0.2)
    assert bench.answers["again"] == "changed"
    bench.propose(leader, "x")
    bench.advance(3.0)
    assert bench.answers["x"] == "applied"
    assert bench.engines[leader].role == LEADER
    assert old.is_voter  # in its own log: it is told when it is certain, by what peers say


def node_being_removed_lets_others_be_elected(engine: type[Engine]) -> None:
    """The others never saw the entry, and need a vote of who leaves."""
    bench = Bench(4, engine=engine)
    bench.elect(1)
    bench.advance(0.1)
    bench.cut = {(1, 2), (1, 3)}
    bench.change(1, Remove(4), "remove 4")
    bench.settle()
    bench.isolate(1)  # for ever: its host is gone
    for node in (2, 3, 4):
        bench.step(node, PeerDisconnected(1))
    bench.advance(5.0, nodes=[2, 3, 4])
    leaders = [node for node in (2, 3, 4) if bench.engines[node].role == LEADER]
    assert len(leaders) == 1
    bench.propose(leaders[0], "x")
    bench.settle()
    assert bench.answers["x"] == "applied"


class TellsWhoLeaves(Engine):
    """Who leaves is sent the entry that lets it go, whoever else has it."""

    def adopt_configuration(self) -> None:
        if self.role == LEADER and self.change is not None:
            self.broadcast(self.log.last_index, self.log.entries[-1][0])
        super().adopt_configuration()


def last_voter_stays(engine: type[Engine]) -> None:
    bench = Bench(1, engine=engine)
    bench.advance(0.1)
    bench.change(1, Remove(1), "remove 1")
    bench.propose(1, "x")
    bench.settle()
    assert bench.answers == {"remove 1": "QUORUM_AT_RISK", "x": "applied"}


class ForgetsTheOperator(Engine):
    """Nobody answers for a change whose leader was deposed."""

    def fail_change(self) -> None:
        self.change = None


def deposed_leader_answers_for_its_change(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    bench.elect(1)
    bench.advance(0.1)
    bench.isolate(1)
    bench.change(1, AddLearner(4, ADDRESS), "add")
    bench.change(1, AddLearner(5, ADDRESS), "second")
    bench.advance(2.0)
    bench.change(1, AddLearner(4, ADDRESS), "late")
    assert bench.answers == {
        "add": "UNKNOWN_OUTCOME",
        "second": "CHANGE_UNDER_WAY",
        "late": "NOT_LEADER",
    }


def halted_leader_answers_for_its_change(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    leader = bench.elect(1)
    bench.advance(0.1)
    bench.isolate(1)
    bench.change(1, AddLearner(4, ADDRESS), "add")
    bench.step(1, Received(2, AppendEntries(leader.term, 1, 0, 0, 0, [])))
    assert bench.halted[1]
    bench.change(1, AddLearner(4, ADDRESS), "late")
    assert bench.answers == {"add": "UNKNOWN_OUTCOME", "late": "NOT_LEADER"}


class LetsTheLogGo(Engine):
    """Nothing is kept for a node that is being filled."""

    def cut_log(self, applied_index: int) -> None:
        for follower in self.followers.values():
            follower.catching_up = False
        hidden = {f: f.snapshot for f in self.followers.values()}
        for follower in hidden:
            follower.snapshot = None
        super().cut_log(applied_index)
        for follower, snapshot in hidden.items():
            follower.snapshot = snapshot


def learner_gets_in_under_load(engine: type[Engine]) -> None:
    """Every step of the learner costs the leader entries and checkpoints in between."""
    timing = Timing(log_tail_bytes=0, chunk_max_bytes=40, flight_max=2, append_max_bytes=30)
    bench = Bench(engine=engine, timing=timing, checkpoint_entries=3)
    bench.elect(1)
    bench.advance(0.1)
    for number in range(30):
        bench.propose(1, f"before {number}")
        bench.settle()
    learner = bench.join(4)
    bench.change(1, AddLearner(4, ADDRESS), "add")
    wrote = 0
    for turn in range(4000):
        mine = [item for item in bench.transit if 4 in item[:2]]
        for item in [item for item in bench.transit if 4 not in item[:2]]:
            bench.transit.remove(item)
            bench.step(item[1], Received(item[0], item[2]))
        if mine and turn % 2:
            bench.transit.remove(mine[0])
            bench.step(mine[0][1], Received(mine[0][0], mine[0][2]))
        elif turn % 8 == 0 and wrote < 300:
            wrote += 1
            bench.propose(1, f"load {wrote}")
        for node in list(bench.sync_wanted):
            bench.sync(node)
    assert learner.snapshots_installed <= 1
    bench.advance(0.5)
    assert bench.entries(4) == bench.entries(1)


STORIES: list[tuple[Story, type[Engine]]] = [
    (second_change_waits_for_the_first, ManyAtOnce),
    (leader_changes_nobody_before_a_commit_of_its_own_term, Hasty),
    (healthy_voter_stays_while_another_is_away, RisksTheQuorum),
    (promotion_needs_a_majority_of_those_who_would_vote, RisksTheQuorum),
    (learner_votes_only_once_it_has_caught_up, PromotesAnyone),
    (amnesiac_learner_is_not_promoted, AmnesiacIsPromoted),
    (leader_hands_over_before_it_is_removed, RemovesItself),
    (node_being_removed_lets_others_be_elected, TellsWhoLeaves),
    (last_voter_stays, RisksTheQuorum),
    (deposed_leader_answers_for_its_change, ForgetsTheOperator),
    (halted_leader_answers_for_its_change, ForgetsTheOperator),
    (learner_gets_in_under_load, LetsTheLogGo),
]


@pytest.mark.parametrize("story", list(dict.fromkeys(s for s, _ in STORIES)), ids=name_of)
def test_engine(story: Story) -> None:
    story(Engine)


@pytest.mark.parametrize(("story", "plant"), STORIES, ids=name_of)
def test_without_the_rule(story: Story, plant: type[Engine]) -> None:
    with pytest.raises(AssertionError):
        story(plant)


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (AddLearner(2, ADDRESS), "ALREADY"),
        (AddLearner(4, ADDRESS), "ALREADY"),
        (Promote(2), "ALREADY"),
        (Promote(9), "NO_SUCH_MEMBER"),
        (Remove(9), "NO_SUCH_MEMBER"),
    ],
)
def test_a_change_that_changes_nothing_is_refused(change: Change, refusal: str) -> None:
    bench = Bench()
    leader = bench.elect(1)
    bench.advance(0.1)
    bench.add_learner(1, 4)
    last = leader.log.last_index
    bench.change(1, change, "change")
    assert bench.answers["change"] == refusal
    assert leader.log.last_index == last


def test_members_and_voters_have_a_bound() -> None:
    bench = Bench(VOTERS_MAX)
    bench.elect(1)
    bench.advance(0.1)
    bench.add_learner(1, VOTERS_MAX + 1)
    bench.change(1, Promote(VOTERS_MAX + 1), "promote")
    assert bench.answers["promote"] == "TOO_MANY"
    for node in range(VOTERS_MAX + 2, MEMBERS_MAX + 1):
        bench.change(1, AddLearner(node, ADDRESS), f"add {node}")
        bench.settle()
        assert bench.answers[f"add {node}"] == "changed"
    bench.change(1, AddLearner(MEMBERS_MAX + 1, ADDRESS), "one more")
    assert bench.answers["one more"] == "TOO_MANY"


def test_a_change_waits_for_a_transfer_under_way() -> None:
    bench = Bench()
    bench.elect(1)
    bench.advance(0.1)
    bench.isolate(1)
    bench.step(1, TransferLeadership())
    bench.change(1, AddLearner(4, ADDRESS), "add")
    assert bench.answers["add"] == "HANDING_OVER"


def test_a_committed_change_is_answered_with_its_index() -> None:
    bench = Bench()
    leader = bench.elect(1)
    bench.advance(0.1)
    ready = bench.step(1, ChangeMembers(AddLearner(4, ADDRESS), "add"))
    assert ready.members_changed
    assert ready.changes == []
    index = leader.log.last_index
    assert leader.status.configuration_index == index
    bench.sync(1)
    bench.transit.clear()
    reply = AppendReply(leader.term, 10**6, True, index + 1, index, False)
    ready = bench.step(1, Received(2, reply))
    assert ready.changes == [("add", index, None)]
    assert (index, None, None) in ready.applied
    assert not ready.members_changed


def test_the_machine_never_sees_a_configuration() -> None:
    bench = Bench()
    bench.elect(1)
    bench.advance(0.1)
    bench.add_learner(1, 4)
    bench.propose(1, "x")
    bench.advance(0.1)
    assert [bench.entries(node) for node in (1, 2, 3, 4)] == [["x"]] * 4


def test_a_proposal_that_looks_like_a_configuration_is_a_broken_caller() -> None:
    bench = Bench(1)
    bench.advance(0.1)
    bench.propose(1, "\0members")
    assert "a configuration was proposed" in bench.halted[1]
    assert bench.answers == {"\0members": "NOT_LEADER"}


def test_who_leaves_takes_the_view_of_its_snapshot_along() -> None:
    timing = Timing(log_tail_bytes=0, chunk_max_bytes=40)
    bench = Bench(timing=timing, checkpoint_entries=2)
    leader = bench.elect(1)
    bench.advance(0.1)
    for number in range(9):
        bench.propose(1, f"e{number}")
        bench.settle()
    bench.join(4)
    bench.change(1, AddLearner(4, ADDRESS), "add")
    bench.settle(until=lambda: leader.followers[4].snapshot is not None)
    sent = leader.followers[4].snapshot
    assert sent is not None
    bench.cut = {(1, 4), (4, 1)}
    bench.settle()
    bench.change(1, Remove(4), "remove")
    bench.settle()
    assert sent.reader.closed  # type: ignore[attr-defined]  # the reader of the simulated disk
    assert 4 not in leader.followers
