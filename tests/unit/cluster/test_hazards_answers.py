"""H6, H7, H9g and reads: every caller gets one answer, and a true one.

Stories as described in `tests.support.stories`.
"""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from cluster.configuration import AddLearner
from cluster.engine import Engine
from cluster.events import Propose, ReadBarrier
from cluster.interface import Timing
from cluster.state import ANSWER_MAX_S, LEADER
from tests.simulation import plants
from tests.support.sim_bench import Bench
from tests.support.stories import Story, name_of

SMALL = Timing(log_tail_bytes=0, chunk_max_bytes=40)


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

    def poison(index: int, entry: bytes, decoded: object | None = None) -> object:
        calls.append(index)
        raise ZeroDivisionError

    bench.machines[1].apply = poison  # type: ignore[method-assign]  # the poison
    bench.propose(1, "poison")
    bench.settle()
    bench.advance(0.2)
    assert calls == [2]
    assert "ZeroDivisionError" in bench.halted[1]
    assert bench.last.messages == []
    assert bench.answers == {"poison": "UNKNOWN_OUTCOME"}


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
    assert bench.answers.get("covered") == "UNKNOWN_OUTCOME"


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
    bench.elect_only(2)
    bench.stuck_disks = {2}  # its own no-op cannot commit, but a follower answers it
    bench.read(2, "early")
    bench.settle()
    assert bench.answers.get("early") != "read" or "acknowledged" in bench.entries(2)
    bench.stuck_disks.clear()
    bench.settle()
    assert bench.answers["early"] == "read"
    assert "acknowledged" in bench.entries(2)


class ReadsWaitForEver(Engine):
    """A read waits as long as its leader stays in office."""

    def give_up_reads(self) -> None:
        return


def _leading_without_a_quorum(engine: type[Engine]) -> Bench:
    """Node 2 leads, and commits nothing: node 1 is being filled, and node 3 cannot be reached."""
    bench = Bench(engine=engine, timing=SMALL, checkpoint_entries=4)
    bench.elect(2)
    bench.isolate(1)
    for number in range(16):
        bench.propose(2, f"real{number}")
        bench.settle()
    bench.isolate(3)
    bench.cut -= {(1, 2), (2, 1)}
    bench.engines[1].reply_chunk = lambda *_, **__: None  # type: ignore[method-assign]  # it takes long
    return bench


def read_is_refused_where_nothing_can_be_committed(engine: type[Engine]) -> None:
    """A majority answers, so its leader stays in office."""
    bench = _leading_without_a_quorum(engine)
    leader = bench.engines[2]
    leader.become_follower(leader.term)
    bench.elect(2)
    bench.read(2, "read")
    bench.advance(ANSWER_MAX_S - 0.2)
    assert "read" not in bench.answers
    bench.advance(0.4)
    assert leader.role == LEADER  # or the snapshot would begin anew
    assert bench.answers.get("read") == "no read"
    assert leader.commit_index < leader.noop_index
    bench.heal()
    bench.reconnect(2, 3)
    bench.read(2, "again")
    bench.settle()
    assert bench.answers["again"] == "read"


def step_that_broke_off_is_told_to_nobody(engine: type[Engine]) -> None:
    """Simulation seed 195186147372690: what memory had let go of was on no disk, and "unknown"."""
    bench = Bench(engine=engine, checkpoint_entries=2)
    bench.elect(1)
    bench.propose(1, "one")
    bench.settle()
    bench.propose(1, "two")
    bench.read(1, "read")
    bench.disks[1].room_bytes = 0
    bench.settle()
    assert "No space left" in bench.halted[1]
    assert bench.answers == {"one": "applied", "two": "UNKNOWN_OUTCOME", "read": "no read"}


class TellsWhatItHas(Engine):
    """What was applied and read before a step broke off is told all the same."""

    def take_back_answers(self) -> None:
        return


class OperatorWaits(Engine):
    """A change is answered when it is committed, or others decide."""

    def give_up_change(self) -> None:
        return


def change_is_answered_where_nothing_can_be_committed(engine: type[Engine]) -> None:
    """As for reads; the change itself stands, and others may complete it."""
    bench = _leading_without_a_quorum(engine)
    leader = bench.engines[2]
    bench.change(2, AddLearner(4, ("127.0.0.1", 7004)), "add")
    bench.advance(ANSWER_MAX_S - 0.2)
    assert "add" not in bench.answers
    bench.advance(0.4)
    assert leader.role == LEADER
    assert bench.answers.get("add") == "UNKNOWN_OUTCOME"
    bench.heal()
    bench.reconnect(2, 3)
    bench.settle()
    assert leader.commit_index >= leader.log.configuration_index
    assert 4 in leader.configuration.members


STORIES: list[tuple[Story, type[Engine]]] = [
    (machine_that_raises_halts_the_node_once, AppliesOn),
    (step_that_broke_off_is_told_to_nobody, TellsWhatItHas),
    (deposed_leader_answers_its_callers, plants.ForgetsCallers),
    (caller_is_answered_when_a_snapshot_covers_its_entry, plants.ForgetsCallers),
    (deposed_leader_answers_no_read, plants.ReadsAtOnce),
    (round_that_began_before_the_read_does_not_count, CountsOldAnswers),
    (new_leader_reads_only_after_a_commit_of_its_own, ReadsBeforeItsNoOp),
    (read_is_refused_where_nothing_can_be_committed, ReadsWaitForEver),
    (change_is_answered_where_nothing_can_be_committed, OperatorWaits),
]


@pytest.mark.parametrize("story", list(dict.fromkeys(s for s, _ in STORIES)), ids=name_of)
def test_engine(story: Story) -> None:
    story(Engine)


@pytest.mark.parametrize(("story", "plant"), STORIES, ids=name_of)
def test_without_the_rule(story: Story, plant: type[Engine]) -> None:
    with pytest.raises(AssertionError):
        story(plant)


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
    caller_is_answered_when_a_snapshot_covers_its_entry(Engine)
    bench = Bench(1)
    bench.advance(0.04)
    payload = b"\x80\x04cposix\nsystem\n."  # what would run code, if anyone decoded it
    bench.step(1, Propose(payload, None, "poison"))
    bench.settle()
    assert bench.answers["poison"] == "applied"
