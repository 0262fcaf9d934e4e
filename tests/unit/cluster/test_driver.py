"""Turns of the engine: what of a step is carried out, and what is not asked for twice."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from cluster import driver
from cluster.driver import LEADERLESS_TIMEOUTS, Driver, Parts
from cluster.events import Event, Ready, Tick
from cluster.interface import Timing
from cluster.state import FOLLOWER, LEADER


class Recorder:
    """Every part of the node around a driver, and an engine that answers as told."""

    def __init__(self) -> None:
        self.commit_index = 0
        self.configuration = None
        self.amnesiac = True
        self.leader_id: int | None = None
        self.led_by: int | None = None
        self.status = None
        self.log = SimpleNamespace(configuration_index=0)
        self.stepped: list[Event] = []
        self.asked: list[float] = []
        self.told: list[str] = []
        self.judged = 0
        self.now = 0.0
        self.role = FOLLOWER
        self.heard_at = 0.0
        self.timing = Timing()
        self.tick_at: float | None = None
        self.has_work = True
        self.checkup = SimpleNamespace(far_off=False, restrain=self.restrain)
        parts: Any = Parts(
            rim=cast("Any", SimpleNamespace(time=lambda: self.now)),
            ticker=cast("Any", SimpleNamespace(early=self.asked.append)),
            syncer=cast("Any", None),
            transport=cast("Any", None),
            checkup=cast("Any", self.checkup),
            membership=cast("Any", self),
            listener=cast("Any", self),
        )
        self.driver = Driver(1, parts, self.failed)
        self.driver.engine = cast("Any", self)

    def step(self, event: Event, _now: float) -> Ready:
        self.stepped.append(event)
        ready = Ready()
        ready.tick_at = self.tick_at
        ready.role_changed = self.led_by != self.leader_id
        self.leader_id = self.led_by
        return ready

    def in_force(self, _index: int, _configuration: object) -> None:
        self.told.append("in force")

    def was_member(self, index: int) -> None:
        self.told.append(f"was a member at {index}")

    def led(self) -> None:
        self.told.append("led")

    def role_changed(self, _status: object) -> None:
        """What the node does with it is not looked at here."""

    def members_changed(self, _configuration: object, _index: int) -> None:
        """What the node does with it is not looked at here."""

    def committed(self) -> None:
        self.told.append("committed")

    def has_work_at(self, _now: float) -> bool:
        return self.has_work

    def next_tick_at(self) -> float | None:
        return self.tick_at

    def restrain(self, _ready: Ready) -> None:
        self.judged += 1

    def failed(self, text: str) -> None:
        raise AssertionError(text)

    def step_twice(self) -> None:
        for _ in range(2):
            self.driver.queue(Tick())
        self.driver.turn()


def test_an_early_tick_is_asked_for_once_and_again_after_a_tick_has_come() -> None:
    node = Recorder()
    node.tick_at = 1.0
    node.step_twice()
    assert node.asked == [1.0]
    node.driver.tick()
    node.step_twice()
    assert node.asked == [1.0, 1.0]


def test_an_early_tick_at_another_time_is_asked_for() -> None:
    node = Recorder()
    for at in (1.0, 0.5, 1.0):
        node.tick_at = at
        node.step_twice()
    assert node.asked == [1.0, 0.5, 1.0]


def test_a_tick_before_anything_is_due_is_no_step_but_asks_for_the_next_early_one() -> None:
    node = Recorder()
    node.has_work = False
    for at in (1.0, 2.0, None):
        node.tick_at = at
        node.driver.tick()
    assert (node.stepped, node.asked) == ([], [1.0, 2.0])


def test_only_who_has_its_memory_is_said_to_have_been_a_member() -> None:
    node = Recorder()
    node.driver.begin(cast("Any", node))
    assert node.told == ["in force"]
    node = Recorder()
    node.amnesiac, node.log.configuration_index = False, 22
    node.driver.begin(cast("Any", node))
    assert node.told == ["was a member at 22", "in force"]


def test_a_leader_that_is_heard_is_told_and_its_loss_is_not() -> None:
    node = Recorder()
    for led_by in (None, 2, None):
        node.led_by = led_by
        node.step_twice()
    assert node.told == ["led"]


def test_a_configuration_that_was_committed_all_along_is_told_at_the_first_tick() -> None:
    node = Recorder()
    node.has_work = False
    node.driver.begin(cast("Any", node))
    node.driver.tick()
    node.driver.tick()
    assert node.told == ["in force", "committed"]


def test_what_is_queued_is_stepped_at_a_tick_that_is_nothing_to_the_engine() -> None:
    node = Recorder()
    node.has_work = False
    node.tick_at = 1.0
    event = Tick()
    node.driver.queue(event)
    node.driver.tick()
    assert node.stepped == [event]
    assert node.stepped[0] is event
    assert node.asked == [1.0]


def test_only_a_node_with_a_clock_far_off_is_restrained() -> None:
    node = Recorder()
    node.step_twice()
    assert node.judged == 0
    node.checkup.far_off = True
    node.step_twice()
    assert node.judged == 2


def test_a_wrong_clock_is_a_bar_only_while_others_may_find_a_leader_among_them() -> None:
    """Those whose clocks agree may be unable to lead: one's disk hangs, another is behind."""
    node = Recorder()
    node.checkup.far_off = True
    node.now = node.heard_at = 100.0
    node.driver.tick()
    assert node.judged == 1
    node.now += node.timing.election_min_s - 0.01
    node.driver.tick()
    assert node.judged == 2
    for _ in range(4):  # without a leader, though it takes no step of its own
        node.now += 0.1
        node.driver.tick()
    node.now = 100.0 + node.timing.election_min_s + node.timing.election_max_s * LEADERLESS_TIMEOUTS
    judged = node.judged
    node.driver.tick()
    node.driver.tick()
    assert node.judged == judged, "its requests for votes leave"
    node.role = LEADER
    node.driver.tick()
    assert node.judged == judged + 1


def test_a_turn_without_events_steps_nothing() -> None:
    node = Recorder()
    node.driver.turn()
    assert node.stepped == []


def test_an_error_ends_the_node_even_where_it_cannot_be_logged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise MemoryError

    node = Recorder()
    ends: list[str] = []
    monkeypatch.setattr(node.driver, "_fail", ends.append)
    monkeypatch.setattr(driver._log, "critical", refuse)
    monkeypatch.setattr(node.driver, "_carry_out", refuse)
    with pytest.raises(MemoryError):
        node.step_twice()
    assert ends == ["an unexpected error: MemoryError()"]
