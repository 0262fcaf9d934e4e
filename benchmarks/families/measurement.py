"""One run that yields one figure or several."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from benchmarks.judging.verdicts import Row
from benchmarks.stage import Effort

Figures: TypeAlias = Mapping[str, float]
"""By the names of rows; others are kept beside them."""


@dataclass(frozen=True)
class Measurement:
    """Rows that come from the same run.

    Attributes:
        name: For the command line.
        rows: What it yields.
        measure: Takes one round; None if nobody has built it yet.
        rounds_max: More rounds are not worth their time: the run is long, or repeats by itself.
    """

    name: str
    rows: tuple[Row, ...]
    measure: Callable[[Effort], Figures] | None
    rounds_max: int | None = None
