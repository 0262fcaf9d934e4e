"""H1 and H4: what was said is on the disk, and a restart believes nothing else.

Stories as described in `tests.support.stories`.
"""

from __future__ import annotations

import random

import pytest

from cluster.engine import Engine
from cluster.events import Tick
from cluster.interface import Record, Timing
from cluster.log import DamagedLog, Log
from cluster.progress import NEVER
from cluster.state import CANDIDATE, LEADER
from tests.simulation import plants
from tests.support.sim_bench import Bench
from tests.support.sim_machine import ListMachine
from tests.support.stories import Story, name_of

SMALL = Timing(log_tail_bytes=0, chunk_max_bytes=40)


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
        bench.disks[node].lose_power(random.Random(0), kept=0)
    bench.cut = {(1, 2), (2, 1), (1, 3), (3, 1)}
    bench.stuck_disks.clear()
    bench.restart(2)
    bench.restart(3)
    bench.elect(2)
    bench.advance(0.1)
    assert "x" in bench.entries(2) or bench.answers.get("x") != "applied"


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
        if kept > disk.unsynced:
            return
        disk.lose_power(random.Random(0), kept=kept)
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


STORIES: list[tuple[Story, type[Engine]]] = [
    (confirmation_waits_for_the_followers_disk, plants.SpeaksEarly),
    (leader_counts_itself_only_when_durable, plants.CountsItselfEarly),
    (vote_is_durable_before_it_is_given, plants.SpeaksEarly),
    (power_cut_of_all_loses_nothing_acknowledged, plants.SpeaksEarly),
    (every_crash_point_leaves_a_whole_history, SplitsCheckpoint),
    (nothing_is_committed_after_a_restart_until_a_leader_says_so, TrustsCommitIndex),
    (restart_restores_checkpoint_and_replays_the_rest, ForgetsToRestore),
]


@pytest.mark.parametrize("story", list(dict.fromkeys(s for s, _ in STORIES)), ids=name_of)
def test_engine(story: Story) -> None:
    story(Engine)


@pytest.mark.parametrize(("story", "plant"), STORIES, ids=name_of)
def test_without_the_rule(story: Story, plant: type[Engine]) -> None:
    with pytest.raises(AssertionError):
        story(plant)
