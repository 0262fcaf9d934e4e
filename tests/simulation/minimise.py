"""From a failing seed to the few faults it takes (delta debugging).

Source: Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.simulation.faults import Fault

Fails = Callable[[Sequence[Fault]], bool]


def minimise(faults: Sequence[Fault], fails: Fails, *, plays_max: int = 200) -> list[Fault]:
    """Return a part of a schedule that still fails, and none of whose parts was seen to.

    Args:
        faults: A schedule that fails.
        fails: Plays a schedule and says whether it fails the same way.
        plays_max: Stop asking after so many.
    """
    kept = list(faults)
    plays = 0
    parts = 2
    while len(kept) > 1:
        size = -(-len(kept) // parts)
        shorter = None
        for start in range(0, len(kept), size):
            candidate = kept[:start] + kept[start + size :]
            plays += 1
            if plays > plays_max:
                return kept
            if fails(candidate):
                shorter = candidate
                break
        if shorter is not None:
            kept = shorter
            parts = max(2, parts - 1)
        elif size == 1:
            return kept
        else:
            parts = min(len(kept), 2 * parts)
    if kept and fails([]):
        return []
    return kept
