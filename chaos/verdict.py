"""What a checker says: whether a promise was kept, what was looked at, and what broke it."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Final

TOLD_MAX: Final = 20
"""Violations that are told in full; all are counted."""


@dataclass(slots=True)
class Verdict:
    """The result of one checker.

    Attributes:
        name: Of the checker.
        ok: Nothing was violated, and there was something to look at.
        counts: What was looked at; `violations` among them.
        violations: The first of them, each understandable alone.
        seconds: How long the checker took.
    """

    name: str
    ok: bool
    counts: dict[str, int]
    violations: list[str]
    seconds: float


class Findings:
    """Collects what one checker finds.

    Args:
        name: Of the checker.

    Attributes:
        counts: What was looked at.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._began_s = time.perf_counter()
        self._told: list[str] = []
        self._violations = 0
        self.counts: Counter[str] = Counter()

    @property
    def wants_text(self) -> bool:
        """The next violation will be told in full."""
        return len(self._told) < TOLD_MAX

    def violated(self, text: str) -> None:
        """Note a violation."""
        self._violations += 1
        if self.wants_text:
            self._told.append(text)

    def verdict(self) -> Verdict:
        """Return what was found."""
        counts = {name: int(count) for name, count in sorted(self.counts.items())}
        counts["violations"] = self._violations
        seconds = time.perf_counter() - self._began_s
        return Verdict(self._name, not self._violations, counts, self._told, seconds)
