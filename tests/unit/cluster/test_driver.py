"""Turns of the engine: what of a step is carried out, and what is not asked for twice."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from cluster.driver import Driver, Parts
from cluster.events import Event, Ready, Tick


class Recorder:
    """Every part of the node around a driver, and an engine that answers as told."""

    def __init__(self) -> None:
        self.commit_index = 0
        self.stepped: list[Event] = []
        self.asked: list[float] = []
        self.judged = 0
        self.tick_at: float | None = None
        self.checkup = SimpleNamespace(far_off=False, restrain=self.restrain)
        parts: Any = Parts(
            rim=cast("Any", SimpleNamespace(time=lambda: 0.0)),
            ticker=cast("Any", SimpleNamespace(early=self.asked.append)),
            syncer=cast("Any", None),
            transport=cast("Any", None),
            checkup=cast("Any", self.checkup),
            membership=cast("Any", None),
            listener=cast("Any", None),
        )
        self.driver = Driver(1, parts, self.failed)
        self.driver.engine = cast("Any", self)

    def step(self, event: Event, _now: float) -> Ready:
        self.stepped.append(event)
        ready = Ready()
        ready.tick_at = self.tick_at
        return ready

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


def test_only_a_node_with_a_clock_far_off_is_restrained() -> None:
    node = Recorder()
    node.step_twice()
    assert node.judged == 0
    node.checkup.far_off = True
    node.step_twice()
    assert node.judged == 2


def test_a_turn_without_events_steps_nothing() -> None:
    node = Recorder()
    node.driver.turn()
    assert node.stepped == []
