"""Quantiles of samples, by nearest rank: a value that was really seen, never one between two."""

from __future__ import annotations

import math
from collections.abc import Sequence


def quantile(samples: Sequence[float], percent: float) -> float:
    """Return the smallest sample that at least `percent` of all samples do not exceed.

    Args:
        samples: In any order; at least one.
        percent: 0 < percent <= 100.

    Raises:
        ValueError: There are no samples, or the percentage is none.
    """
    if not samples:
        raise ValueError("no samples")
    if not 0 < percent <= 100:
        raise ValueError(f"{percent} is not in 0..100")
    rank = math.ceil(len(samples) * percent / 100)
    return sorted(samples)[rank - 1]
