"""Every figure there is, in the order of the table."""

from __future__ import annotations

from typing import Final

from benchmarks.families import (
    conditions,
    failover,
    lifecycles,
    machine,
    memory,
    peers,
    sdk,
    steady,
    submitting,
)
from benchmarks.families.measurement import Measurement

MEASUREMENTS: Final[tuple[Measurement, ...]] = tuple(
    measurement
    for family in (
        submitting,
        lifecycles,
        sdk,
        peers,
        machine,
        steady,
        memory,
        failover,
        conditions,
    )
    for measurement in family.MEASUREMENTS
)


def chosen(names: list[str]) -> list[Measurement]:
    """Return the measurements of these names, of themselves or of one of their rows.

    Args:
        names: None at all choose everything.

    Raises:
        KeyError: A name is of neither.
    """
    found = [m for m in MEASUREMENTS if not names or _answers_to(m) & set(names)]
    unknown = set(names).difference(*(_answers_to(m) for m in found))
    if unknown:
        raise KeyError(", ".join(sorted(unknown)))
    return found


def _answers_to(measurement: Measurement) -> set[str]:
    return {measurement.name, *(row.name for row in measurement.rows)}
