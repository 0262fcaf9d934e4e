"""Durations (``1h30m``) and sizes (``64MiB``) as operators write them.

A bare number is refused: whether ``30`` means seconds or milliseconds is exactly the
question a unit answers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

_UNIT_MS = {
    "w": 604_800_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1_000,
    "ms": 1,
}
_DURATION_PART = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)(ms|[wdhms])", re.ASCII)
_DURATION_MAX_MS = 100 * 365 * _UNIT_MS["d"]

_UNIT_BYTES = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_UNIT_BY_FOLD = {unit.casefold(): unit for unit in _UNIT_BYTES}
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?) ?([A-Za-z]{1,3})", re.ASCII)


@dataclass(frozen=True, order=True, slots=True)
class Duration:
    """A length of time in whole milliseconds."""

    ms: int

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Read ``500ms``, ``5s``, ``1h30m``, ``7d``, ``1.5s``.

        Raises:
            ValueError: No unit, an unknown unit, units not from large to small, a
                fraction of a millisecond, or more than a hundred years.
        """
        total = Decimal(0)
        position = 0
        previous_ms = 0
        while position < len(text):
            part = _DURATION_PART.match(text, position)
            if part is None:
                break
            unit_ms = _UNIT_MS[part[2]]
            if previous_ms and unit_ms >= previous_ms:
                break
            total += Decimal(part[1]) * unit_ms
            previous_ms = unit_ms
            position = part.end()
        if not text or position != len(text):
            raise ValueError("must be a duration with a unit, such as 500ms, 30s, 1h30m or 7d")
        if total != total.to_integral_value():
            raise ValueError("must be a whole number of milliseconds")
        if total > _DURATION_MAX_MS:
            raise ValueError("must be at most 100 years")
        return cls(int(total))

    @property
    def seconds(self) -> float:
        """The same length in seconds."""
        return self.ms / 1000

    def __str__(self) -> str:
        if self.ms == 0:
            return "0s"
        rest = self.ms
        parts = []
        # Weeks are read but not written: 7d is what people say.
        for unit in ("d", "h", "m", "s", "ms"):
            count, rest = divmod(rest, _UNIT_MS[unit])
            if count:
                parts.append(f"{count}{unit}")
        return "".join(parts)


@dataclass(frozen=True, order=True, slots=True)
class Size:
    """A number of bytes."""

    bytes: int

    @classmethod
    def parse(cls, text: str) -> Size:
        """Read ``512B``, ``64MiB``, ``1.5GiB``, ``10MB``; KiB is 1024 bytes, kB is 1000.

        Raises:
            ValueError: No unit, an unknown or ambiguous unit, or a fraction of a byte.
        """
        match = _SIZE.fullmatch(text)
        unit = _UNIT_BY_FOLD.get(match[2].casefold()) if match else None
        if match is None or unit is None:
            raise ValueError("must be a size with a unit, such as 512B, 64KiB, 10MiB or 1GiB")
        total = Decimal(match[1]) * _UNIT_BYTES[unit]
        if total != total.to_integral_value():
            raise ValueError("must be a whole number of bytes")
        return cls(int(total))

    def __str__(self) -> str:
        for unit in ("TiB", "GiB", "MiB", "KiB"):
            if self.bytes and self.bytes % _UNIT_BYTES[unit] == 0:
                return f"{self.bytes // _UNIT_BYTES[unit]}{unit}"
        return f"{self.bytes}B"
