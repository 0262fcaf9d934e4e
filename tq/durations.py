"""Durations as people write them: "30s", "1h30m", a number of seconds, or a timedelta."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import TypeAlias

from tq.errors import ConfigError

Duration: TypeAlias = str | int | float | timedelta
"""`"250ms"`, `"30s"`, `"5m"`, `"1h30m"`, `"7d"`; a bare number counts seconds."""

_UNIT_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")


def seconds(duration: Duration) -> float:
    """Turn a duration into seconds.

    Raises:
        ConfigError: It is no duration, or below zero, or has no end.
    """
    if isinstance(duration, timedelta):
        value = duration.total_seconds()
    elif isinstance(duration, str):
        value = _parse(duration)
    elif isinstance(duration, int | float) and not isinstance(duration, bool):
        value = float(duration)
    else:
        raise ConfigError(f"{duration!r} is no duration: give seconds, '30s' or a timedelta")
    if not 0 <= value < math.inf:
        raise ConfigError(f"{duration!r} is no duration: it must be 0 or more, and end")
    return value


def milliseconds(duration: Duration) -> int:
    """Turn a duration into whole milliseconds, as the wire has them.

    Raises:
        ConfigError: As `seconds` does.
    """
    return round(seconds(duration) * 1000)


def _parse(text: str) -> float:
    compact = text.strip().replace(" ", "")
    if not _WHOLE.fullmatch(compact):
        raise ConfigError(f"{text!r} is no duration: write it like '30s', '5m' or '1h30m'")
    return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _PART.findall(compact))
