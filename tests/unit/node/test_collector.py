"""When garbage is looked for: in quiet moments, but not never."""

from __future__ import annotations

import pytest

from node import collector
from node.collector import FULL_INTERVAL_S, FULL_LATEST_S, Collector
from tests.unit.node.fakes import FakeClock


class Collections:
    """Notes what Python's collector was told."""

    def __init__(self) -> None:
        self.young = 0
        self.told: list[str] = []

    def get_count(self) -> tuple[int, int, int]:
        return (self.young, 0, 0)

    def collect(self, generation: int = 2) -> None:
        self.told.append("young" if generation == 0 else "full")

    def freeze(self) -> None:
        """Not looked at."""

    def unfreeze(self) -> None:
        """Not looked at."""

    def disable(self) -> None:
        self.told.append("off")

    def enable(self) -> None:
        self.told.append("on")


class Process:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.collections = Collections()
        monkeypatch.setattr(collector, "gc", self.collections)
        self.clock = FakeClock()
        self.quiet = False
        self.collector = Collector(is_quiet=lambda: self.quiet, now_s=self.clock.now_s)
        self.collector.start()
        self.collections.told.clear()

    def full_at_s(self, until_s: float) -> list[float]:
        """When a full collection came, in seconds from now."""
        began_s, came_s = self.clock.now, []
        while self.clock.now - began_s < until_s:
            self.clock.pass_s(60.0)
            self.collector.tick()
            if "full" in self.collections.told:
                came_s.append(self.clock.now - began_s)
            self.collections.told.clear()
        return came_s


def test_everything_is_looked_at_in_a_quiet_moment_of_each_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = Process(monkeypatch)
    process.quiet = True
    assert process.full_at_s(2 * FULL_INTERVAL_S) == [FULL_INTERVAL_S, 2 * FULL_INTERVAL_S]


def test_a_node_that_is_never_quiet_is_looked_at_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = Process(monkeypatch)
    assert FULL_LATEST_S > FULL_INTERVAL_S
    assert process.full_at_s(2 * FULL_LATEST_S) == [FULL_LATEST_S, 2 * FULL_LATEST_S]


def test_what_is_young_is_looked_at_when_there_is_much_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = Process(monkeypatch)
    process.collector.tick()
    assert process.collections.told == []
    process.collections.young = 5000
    process.collector.tick()
    assert process.collections.told == ["young"]
