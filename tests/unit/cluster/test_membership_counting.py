"""Who is counted: learners never, and everyone else as the latest configuration says.

Stories as described in `tests.support.stories`.
"""

from __future__ import annotations

import pytest

from cluster.configuration import AddLearner, Configuration, Promote, Remove
from cluster.engine import Engine
from cluster.events import Event, Received, Tick
from cluster.interface import CONFIGURATION_KEY, RAFT_META, Timing
from cluster.messages import SnapshotChunk, VoteReply
from cluster.progress import NEVER, Outgoing
from cluster.state import CANDIDATE, LEADER
from tests.support.sim_bench import Bench
from tests.support.stories import Story, name_of

ADDRESS = ("127.0.0.1", 7404)
SMALL = Timing(log_tail_bytes=0, chunk_max_bytes=40)


class CountsLearners(Engine):
    """A learner is a voter by another name."""

    def take_configuration(self) -> None:
        super().take_configuration()
        for follower in self.followers.values():
            follower.voter = True
        self.electors = tuple(self.followers.values())


def _with_learner_alone(engine: type[Engine]) -> Bench:
    """Node 1 leads 2 and 3, learner 4 has everything; 2 and 3 are cut off."""
    bench = Bench(engine=engine)
    bench.elect(1)
    bench.advance(0.1)
    bench.add_learner(1, 4)
    bench.isolate(2)
    bench.isolate(3)
    return bench


def learner_makes_no_majority_for_an_entry(engine: type[Engine]) -> None:
    bench = _with_learner_alone(engine)
    bench.propose(1, "x")
    bench.advance(0.3)
    assert bench.logged(4) == ["x"]
    assert "x" not in bench.answers


def learner_makes_no_majority_for_a_read(engine: type[Engine]) -> None:
    bench = _with_learner_alone(engine)
    bench.read(1, "stale?")
    bench.advance(0.3)
    assert "stale?" not in bench.answers


def learner_keeps_nobody_in_office(engine: type[Engine]) -> None:
    bench = Bench(2, engine=engine)
    bench.elect(1)
    bench.advance(0.1)
    bench.add_learner(1, 4)
    bench.isolate(2)
    bench.advance(1.6)
    assert bench.engines[1].role != LEADER


def learner_elects_nobody(engine: type[Engine]) -> None:
    bench = _with_learner_alone(engine)
    candidate = bench.engines[1]
    candidate.become_follower(candidate.term + 1)
    candidate.role = CANDIDATE
    bench.step(1, Received(4, VoteReply(candidate.term, True)))
    assert candidate.role == CANDIDATE


def learner_vouches_for_nobody(engine: type[Engine]) -> None:
    bench = Bench(engine=engine, amnesiac=[3])
    bench.cut = {(1, 3), (3, 1)}
    bench.elect(1)
    bench.advance(0.1)
    bench.add_learner(1, 4)
    bench.cut = {(1, 2), (2, 1), (2, 3), (3, 2)}
    bench.reconnect(1, 3)
    bench.advance(0.5)
    assert bench.engines[1].role == LEADER
    assert bench.engines[3].amnesiac


class StandsAsLearner(Engine):
    """Who is not a voter stands for election all the same."""

    def take_configuration(self) -> None:
        super().take_configuration()
        self.is_voter = True


def learner_never_stands(engine: type[Engine]) -> None:
    bench = Bench(1, engine=engine)
    bench.advance(0.1)
    learner = bench.add_learner(1, 4)
    bench.isolate(1)
    term = learner.term
    bench.advance(5.0, nodes=[4])
    learner.election_deadline = NEVER
    bench.step(4, Tick())
    bench.settle()
    assert (learner.role, learner.term) == (0, term)


class WaitsForTheCommit(Engine):
    """A configuration counts once it is committed."""

    def adopt_configuration(self) -> None:
        if self.log.configuration_index <= self.commit_index:
            super().adopt_configuration()

    def _finish_step(self, event: Event) -> None:
        super()._finish_step(event)
        self.adopt_configuration()


def promotion_counts_before_it_is_committed(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    bench.elect(1)
    bench.advance(0.1)
    bench.add_learner(1, 4)
    bench.isolate(3)
    bench.isolate(4)
    bench.change(1, Promote(4), "promote")
    bench.advance(0.3)
    assert bench.logged(2) == bench.logged(1)
    assert "promote" not in bench.answers  # 1 and 2 are two of four
    bench.heal()
    bench.advance(0.3)
    assert bench.answers["promote"] == "changed"


class NeverTakesBack(Engine):
    """A configuration that was cut from the log stays in force."""

    def cut_from(self, index: int) -> None:
        seen, configuration = self.log.configuration_index, self.log.configuration
        super().cut_from(index)
        if seen >= index:
            self.log.configuration = configuration


def configuration_is_taken_back_with_its_entry(engine: type[Engine]) -> None:
    bench = Bench(engine=engine)
    bench.elect(1)
    bench.advance(0.1)
    bench.isolate(1)
    bench.change(1, AddLearner(4, ADDRESS), "add")
    bench.settle()
    assert bench.engines[1].status.learners == (4,)
    bench.elect(2)
    bench.propose(2, "real")
    bench.settle()
    bench.heal()
    bench.reconnect(1, 2)
    bench.advance(0.3)
    assert bench.answers["add"] == "UNKNOWN_OUTCOME"
    status = bench.engines[1].status
    assert (status.learners, status.configuration_index) == ((), 0)
    assert 4 not in bench.engines[1].followers


class ForgetsTheBoundary(Engine):
    """The configuration that is cut away with the log is not recorded."""

    def cut_log(self, applied_index: int) -> None:
        recorded = self.disk.get(RAFT_META, CONFIGURATION_KEY)
        super().cut_log(applied_index)
        if recorded is not None:
            self.disk.put(RAFT_META, CONFIGURATION_KEY, recorded)


def configuration_outlives_its_entry_and_a_power_cut(engine: type[Engine]) -> None:
    bench = Bench(engine=engine, timing=SMALL, checkpoint_entries=2)
    bench.elect(1)
    bench.advance(0.1)
    bench.add_learner(1, 4)
    for number in range(8):
        bench.propose(1, f"e{number}")
        bench.settle()
    bench.advance(0.1)
    before = bench.engines[1].status
    assert before.first_index > before.configuration_index > 0
    for node in (1, 2, 3, 4):
        status = bench.restart(node, power_loss=True).status
        assert status.members == {4: ("127.0.0.1", 7404)}
        assert (status.voters, status.learners) == ((1, 2, 3), (4,))
        assert status.configuration_index == before.configuration_index


class ForgetsTheMembers(Engine):
    """A snapshot is installed without the configuration in it."""

    def install(self, message: SnapshotChunk) -> None:
        index, configuration = self.log.configuration_at(self.log.base_index)
        super().install(
            message._replace(configuration_index=index, configuration=configuration.to_bytes())
        )


def snapshot_brings_the_members(engine: type[Engine]) -> None:
    bench = Bench(engine=engine, timing=SMALL, checkpoint_entries=2)
    bench.elect(1)
    bench.advance(0.1)
    bench.add_learner(1, 5)
    bench.change(1, Remove(5), "remove")
    for number in range(9):
        bench.propose(1, f"e{number}")
        bench.settle()
    bench.isolate(3)
    bench.add_voter(1, 4)
    for number in range(9):
        bench.propose(1, f"f{number}")
        bench.settle()
    bench.heal()
    bench.reconnect(1, 3)
    bench.advance(0.5)
    assert bench.engines[3].snapshots_installed == 1
    assert bench.engines[4].snapshots_installed == 1
    for node in (1, 2, 3, 4):
        assert bench.engines[node].status.voters == (1, 2, 3, 4)
        assert bench.engines[node].status.learners == ()


class SendsTheLatest(Engine):
    """A snapshot carries the configuration in force, whatever its index."""

    def send_chunks(self, follower: object, outgoing: Outgoing) -> None:
        outgoing.configuration = self.log.configuration.to_bytes()
        super().send_chunks(follower, outgoing)  # type: ignore[arg-type]


def snapshot_carries_the_members_of_its_index(engine: type[Engine]) -> None:
    bench = Bench(engine=engine, timing=SMALL, checkpoint_entries=2)
    bench.elect(1)
    bench.advance(0.1)
    bench.isolate(3)
    for number in range(10):
        bench.propose(1, f"e{number}")
        bench.settle()
    bench.cut = {(1, 2), (2, 1), (2, 3), (3, 2)}
    bench.change(1, AddLearner(4, ADDRESS), "add")
    bench.reconnect(1, 3)
    bench.settle(until=lambda: bench.engines[3].snapshots_installed == 1)
    assert bench.engines[3].snapshots_installed == 1
    status = bench.engines[3].status
    assert (status.learners, status.configuration_index) == ((), 0)


STORIES: list[tuple[Story, type[Engine]]] = [
    (learner_makes_no_majority_for_an_entry, CountsLearners),
    (learner_makes_no_majority_for_a_read, CountsLearners),
    (learner_keeps_nobody_in_office, CountsLearners),
    (learner_elects_nobody, CountsLearners),
    (learner_vouches_for_nobody, CountsLearners),
    (learner_never_stands, StandsAsLearner),
    (promotion_counts_before_it_is_committed, WaitsForTheCommit),
    (configuration_is_taken_back_with_its_entry, NeverTakesBack),
    (configuration_outlives_its_entry_and_a_power_cut, ForgetsTheBoundary),
    (snapshot_brings_the_members, ForgetsTheMembers),
    (snapshot_carries_the_members_of_its_index, SendsTheLatest),
]


@pytest.mark.parametrize("story", list(dict.fromkeys(s for s, _ in STORIES)), ids=name_of)
def test_engine(story: Story) -> None:
    story(Engine)


@pytest.mark.parametrize(("story", "plant"), STORIES, ids=name_of)
def test_without_the_rule(story: Story, plant: type[Engine]) -> None:
    with pytest.raises(AssertionError):
        story(plant)


def test_a_founding_configuration_counts_only_once() -> None:
    bench = Bench()
    bench.elect(1)
    bench.founding[1] = Configuration(voters=(1,))
    assert bench.restart(1).status.voters == (1, 2, 3)


def test_a_node_that_nobody_let_in_waits() -> None:
    bench = Bench()
    bench.elect(1)
    stranger = bench.join(4)
    bench.advance(2.0)
    assert (stranger.status.voters, stranger.term, stranger.log.last_index) == ((), 0, 0)
    bench.propose(4, "x")
    bench.change(4, Promote(4), "promote")
    assert bench.answers == {"x": "NOT_LEADER", "promote": "NOT_LEADER"}


def test_status_tells_voters_and_learners_apart() -> None:
    bench = Bench()
    bench.elect(1)
    bench.advance(0.1)
    bench.add_learner(1, 4)
    status = bench.engines[1].status
    assert (status.voters, status.learners) == ((1, 2, 3), (4,))
    assert {peer: member.voter for peer, member in status.peers.items()} == {
        2: True,
        3: True,
        4: False,
    }
    assert bench.engines[4].status.configuration_index == status.configuration_index
