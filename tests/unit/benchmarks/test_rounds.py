"""Rounds, the registry and what is printed of them."""

from __future__ import annotations

import json
from itertools import count

import pytest

from benchmarks import rounds
from benchmarks.families.measurement import Figures, Measurement
from benchmarks.generator.order import Order, Seen
from benchmarks.judging.calibration import FSYNC_REFERENCE_MS, LOOP_REFERENCE_MS, Calibration
from benchmarks.judging.verdicts import Row, Verdict
from benchmarks.registry import MEASUREMENTS, chosen
from benchmarks.stage import BenchmarkError, Effort
from benchmarks.table import listing, table

ROW = Row("speed", "how fast", "/s", 2.0, 4.0)
EFFORT = Effort()


@pytest.fixture(autouse=True)
def reference_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Calibration(LOOP_REFERENCE_MS, FSYNC_REFERENCE_MS, LOOP_REFERENCE_MS)
    monkeypatch.setattr(rounds, "calibrate", lambda: machine)


def counting(name: str = "speed", **fields: int) -> Measurement:
    """Measure 1, 2, 3, ..."""
    numbers = count(1)

    def measure(_: Effort) -> Figures:
        return {name: float(next(numbers)), "beside": 7.0}

    return Measurement(name, (Row(name, "how fast", "/s", 2.0, 4.0),), measure, **fields)


def failing_once() -> Measurement:
    numbers = count()

    def measure(_: Effort) -> Figures:
        if next(numbers) == 1:
            raise BenchmarkError("requests were refused")
        return {"speed": 100.0}

    return Measurement("speed", (ROW,), measure)


def test_the_value_is_the_median_of_the_rounds() -> None:
    (taken,) = rounds.take([counting()], rounds=5, effort=EFFORT)
    assert taken.value(ROW) == 3.0
    assert taken.verdict(ROW, effort=EFFORT) is Verdict.FLOOR


def test_rounds_take_turns_and_long_measurements_take_fewer() -> None:
    often, once = rounds.take([counting(), counting("slow", rounds_max=1)], rounds=3, effort=EFFORT)
    assert [len(often.figures), len(once.figures)] == [3, 1]
    assert [len(often.machines), len(once.machines)] == [6, 2]


def test_a_round_that_failed_is_not_left_out_of_the_median() -> None:
    (taken,) = rounds.take([failing_once()], rounds=3, effort=EFFORT)
    assert taken.verdict(ROW, effort=EFFORT) is Verdict.NOT_MEASURED
    assert json.loads(taken.line(ROW, effort=EFFORT))["failures"] == ["requests were refused"]


def test_a_smoke_run_judges_nothing() -> None:
    quick = Effort(quick=True)
    (taken,) = rounds.take([counting()], rounds=1, effort=quick)
    assert taken.verdict(ROW, effort=quick) is Verdict.SMOKE


def test_what_is_not_built_says_so_and_has_no_value() -> None:
    (taken,) = rounds.take([Measurement("speed", (ROW,), None)], rounds=2, effort=EFFORT)
    line = json.loads(taken.line(ROW, effort=EFFORT))
    assert line["verdict"] == "not built"
    assert line["value"] is None
    assert "not built" in listing([taken])
    assert "not built" in table([taken], effort=EFFORT)


def test_a_line_carries_value_bars_rounds_and_calibration() -> None:
    (taken,) = rounds.take([counting()], rounds=2, effort=EFFORT)
    line = json.loads(taken.line(ROW, effort=EFFORT))
    assert line["value"] == 1.5
    assert line["rounds"] == [1.0, 2.0]
    assert [line["floor"], line["goal"], line["verdict"]] == [2.0, 4.0, "BELOW"]
    assert line["loop_ms"] == [LOOP_REFERENCE_MS] * 4
    assert line["beside"] == {"beside": [7.0, 7.0]}


def test_the_table_shows_value_floor_goal_and_verdict() -> None:
    taken = rounds.take([counting()], rounds=5, effort=EFFORT)
    (row,) = [line for line in table(taken, effort=EFFORT).splitlines() if "how fast" in line]
    assert row.split()[2:] == ["3", "1", "-", "5", "/s", "2", "4", "floor"]


def test_the_table_says_that_others_had_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = rounds.take([counting()], rounds=1, effort=EFFORT)
    crowded = Calibration(2 * LOOP_REFERENCE_MS, FSYNC_REFERENCE_MS, LOOP_REFERENCE_MS)
    monkeypatch.setattr(rounds, "calibrate", lambda: crowded)
    loud = rounds.take([counting()], rounds=1, effort=EFFORT)
    assert "NOT A QUIET" not in table(quiet, effort=EFFORT)
    assert "NOT A QUIET" in table(loud, effort=EFFORT)


def test_names_of_figures_are_unique() -> None:
    names = [row.name for measurement in MEASUREMENTS for row in measurement.rows]
    assert len(names) == len(set(names))


def test_every_goal_is_better_than_its_floor() -> None:
    for measurement in MEASUREMENTS:
        for row in measurement.rows:
            if row.floor is not None and row.goal is not None:
                assert (row.goal > row.floor) == (row.better == "higher"), row.name


def test_a_row_chooses_the_measurement_it_comes_from() -> None:
    assert [one.name for one in chosen(["submit_fsyncs", "idle"])] == ["submit_256", "idle"]
    assert chosen([]) == list(MEASUREMENTS)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(KeyError, match="sumbit"):
        chosen(["sumbit", "idle"])


def test_quick_takes_a_fiftieth_and_at_least_three() -> None:
    assert [Effort(quick=True).count(n) for n in (100_000, 30)] == [2_000, 3]
    assert Effort().count(30) == 30


def test_orders_and_what_was_seen_survive_the_way_between_processes() -> None:
    order = Order("submits", ("127.0.0.1:1", "127.0.0.1:2"), window=256, pids=(1, 2, 3))
    assert Order.from_json(order.to_json()) == order
    seen = Seen(10, 2.0, 12, {"p50": 1.0}, [1e-5, 2e-5], {"QUEUE_FULL": 1})
    assert Seen.from_json(seen.to_json()) == seen
    assert seen.rate == 5.0
    assert seen.cpu_us == pytest.approx([1.0, 2.0])
