"""A fault: a plain record of what happens when to whom, so that it can happen again alone.

Everything is decided when a fault is drawn and written into its record. What it still
leaves to chance while it happens comes from a stream of its own, so a schedule from which
some faults were taken out plays the rest as before.
"""

from __future__ import annotations

from typing import Any, NamedTuple

BEGAN_AT = 1000.0
"""True time at which every world begins, seconds."""


class Fault(NamedTuple):
    """One fault.

    Attributes:
        number: Its place in the schedule it was recorded in.
        at: True time, seconds; a world begins at `BEGAN_AT`.
        kind: See `tests.simulation.options.KINDS`.
        what: Whom it hits, and with what; plain values.
    """

    number: int
    at: float
    kind: str
    what: tuple[Any, ...]

    def describe(self) -> str:
        """Say it in one line."""
        shown = ", ".join(f"{part:.3f}" if type(part) is float else str(part) for part in self.what)
        return f"{self.number:4} at {self.at - BEGAN_AT:7.3f} s: {self.kind} {shown}"
