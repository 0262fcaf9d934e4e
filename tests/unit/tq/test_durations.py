from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tq.durations import Duration, milliseconds, seconds
from tq.errors import ConfigError


@pytest.mark.parametrize(
    ("duration", "expected_s"),
    [
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        (" 7d ", 604_800),
        ("2w", 1_209_600),
        ("250ms", 0.25),
        ("1.5s", 1.5),
        ("0s", 0),
        (0, 0),
        (30, 30),
        (0.5, 0.5),
        (timedelta(minutes=2), 120),
    ],
)
def test_durations_as_people_write_them(duration: Duration, expected_s: float) -> None:
    assert seconds(duration) == expected_s
    assert milliseconds(duration) == round(expected_s * 1000)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "30",
        "s",
        "-5s",
        "5 parsecs",
        "1h30",
        "5s!",
        "٣s٣",
        "1e3s",
        -1,
        -0.1,
        math.nan,
        math.inf,
        timedelta(seconds=-1),
        True,
        None,
        b"5s",
        [5],
    ],
)
def test_what_is_no_duration_is_refused_by_name(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="is no duration"):
        seconds(wrong)


@given(st.text(max_size=20))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    try:
        assert seconds(text) >= 0
    except ConfigError:
        return
