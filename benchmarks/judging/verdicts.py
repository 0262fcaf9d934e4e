"""What a figure has to reach, and whether it did."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from benchmarks.judging.calibration import Calibration, Scaling


class Verdict(StrEnum):
    """Of one figure."""

    GOAL = "goal"
    FLOOR = "floor"
    """The floor is reached, the goal is not."""
    BELOW = "BELOW"
    """Worse than the floor."""
    SMOKE = "smoke"
    """A short run with small counts: shows that it runs, judges nothing."""
    NO_BAR = "-"
    """The figure is told beside others and has no floor."""
    NOT_MEASURED = "not measured"
    NOT_BUILT = "not built"


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        name: For the command line and the JSON line.
        title: For people.
        unit: Of value, floor and goal.
        floor: Worst value that is accepted, on the reference machine; None if none was set.
        goal: The value aimed at, on the reference machine.
        better: The direction.
        scaling: What the bar is scaled by.
    """

    name: str
    title: str
    unit: str
    floor: float | None = None
    goal: float | None = None
    better: Literal["higher", "lower"] = "higher"
    scaling: Scaling = Scaling.NONE

    def bar(self, value: float, machine: Calibration) -> float:
        """Return a floor or goal as it counts on this machine.

        A machine that takes twice as long has to do half as much in a second, and may take
        twice as long for one.
        """
        slowness = machine.slowness(self.scaling)
        return value / slowness if self.better == "higher" else value * slowness

    def judge(self, value: float, machine: Calibration) -> Verdict:
        """Compare a median with floor and goal."""
        if self.floor is None or self.goal is None:
            return Verdict.NO_BAR
        if self._reaches(value, self.bar(self.goal, machine)):
            return Verdict.GOAL
        if self._reaches(value, self.bar(self.floor, machine)):
            return Verdict.FLOOR
        return Verdict.BELOW

    def _reaches(self, value: float, bar: float) -> bool:
        return value >= bar if self.better == "higher" else value <= bar
