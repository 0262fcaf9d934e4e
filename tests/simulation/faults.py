"""A fault: a plain record of what happens when to whom, so that it can happen again alone.

Everything is decided when a fault is drawn and written into its record. What it still
leaves to chance while it happens comes from a stream of its own, so a schedule from which
some faults were taken out plays the rest as before.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Fault(NamedTuple):
    """One fault.

    Attributes:
        number: Its place in the schedule it was recorded in.
        at_s: Seconds since the start of the world.
        kind: See `tests.simulation.options.KINDS`.
        what: Whom it hits, and with what; plain values.
    """

    number: int
    at_s: float
    kind: str
    what: tuple[Any, ...]

    def describe(self) -> str:
        """Say it in one line."""
        shown = ", ".join(f"{part:.3f}" if type(part) is float else str(part) for part in self.what)
        return f"{self.number:4} at {self.at_s:7.3f} s: {self.kind} {shown}"
