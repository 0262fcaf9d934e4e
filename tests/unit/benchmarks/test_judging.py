"""Quantiles, open loops, calibration and verdicts: the arithmetic behind `make bench`."""

from __future__ import annotations

import pytest

from benchmarks.judging.calibration import (
    FSYNC_REFERENCE_MS,
    LOOP_REFERENCE_MS,
    Calibration,
    Scaling,
    calibrate,
)
from benchmarks.judging.quantiles import quantile
from benchmarks.judging.schedule import Schedule
from benchmarks.judging.verdicts import Row, Verdict

REFERENCE = Calibration(LOOP_REFERENCE_MS, FSYNC_REFERENCE_MS, LOOP_REFERENCE_MS)
TWICE_AS_SLOW = Calibration(2 * LOOP_REFERENCE_MS, FSYNC_REFERENCE_MS, 2 * LOOP_REFERENCE_MS)
RATE = Row("rate", "tasks", "/s", 40_000, 90_000, "higher", Scaling.CPU)
TIME = Row("time", "latency", "ms", 4.0, 1.5, "lower", Scaling.CPU)
RATIO = Row("ratio", "against others", "ratio", 0.85, 0.93)


@pytest.mark.parametrize(
    ("percent", "expected"), [(1, 1), (50, 50), (99, 99), (99.5, 100), (100, 100)]
)
def test_a_quantile_is_a_sample_that_was_seen(percent: float, expected: float) -> None:
    assert quantile(list(range(100, 0, -1)), percent) == expected


def test_one_sample_is_every_quantile() -> None:
    assert [quantile([7.0], percent) for percent in (1, 50, 99)] == [7.0, 7.0, 7.0]


def test_the_p99_of_thirty_samples_is_the_worst_of_them() -> None:
    assert quantile([*[0.03] * 29, 0.108], 99) == 0.108


@pytest.mark.parametrize(("samples", "percent"), [([], 50), ([1.0], 0), ([1.0], 101)])
def test_what_has_no_quantile_is_refused(samples: list[float], percent: float) -> None:
    with pytest.raises(ValueError, match=r"samples|not in"):
        quantile(samples, percent)


def test_an_open_loop_issues_what_is_due_and_nothing_twice() -> None:
    schedule = Schedule(1000.0, began_s=10.0)
    assert schedule.take_due(9.999) == []
    assert schedule.take_due(10.0) == [10.0]
    assert schedule.take_due(10.0) == []
    assert schedule.take_due(10.0035) == pytest.approx([10.001, 10.002, 10.003])
    assert schedule.issued == 4


def test_requests_that_a_stall_held_up_count_their_wait_from_when_they_were_due() -> None:
    """A second of silence at 1,000/s is a thousand late requests, not one."""
    schedule = Schedule(1000.0, began_s=0.0)
    answered_s = {at_s: at_s + 0.001 for at_s in schedule.take_due(0.9995)}
    answered_s |= dict.fromkeys(schedule.take_due(1.9995), 2.0)
    latencies_s = [done_s - due_s for due_s, done_s in answered_s.items()]
    assert len(latencies_s) == 2000
    assert quantile(latencies_s, 50) == pytest.approx(0.001, abs=1e-3)
    assert quantile(latencies_s, 75) == pytest.approx(0.5, abs=0.01)
    assert quantile(latencies_s, 99) == pytest.approx(0.98, abs=0.01)


def test_the_times_of_a_long_schedule_do_not_drift() -> None:
    schedule = Schedule(5000.0, began_s=0.0)
    schedule.take_due(600.0)
    assert schedule.due_s(schedule.issued) == pytest.approx(600.0002, abs=1e-6)


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="rate"):
        Schedule(0.0, began_s=0.0)


@pytest.mark.parametrize(
    ("row", "value", "verdict"),
    [
        (RATE, 90_000, Verdict.GOAL),
        (RATE, 89_999, Verdict.FLOOR),
        (RATE, 40_000, Verdict.FLOOR),
        (RATE, 39_999, Verdict.BELOW),
        (TIME, 1.5, Verdict.GOAL),
        (TIME, 1.6, Verdict.FLOOR),
        (TIME, 4.1, Verdict.BELOW),
        (RATIO, 0.84, Verdict.BELOW),
    ],
)
def test_a_value_is_judged_by_floor_and_goal(row: Row, value: float, verdict: Verdict) -> None:
    assert row.judge(value, REFERENCE) is verdict


def test_on_a_machine_twice_as_slow_rates_may_halve_and_times_may_double() -> None:
    assert RATE.judge(20_000, TWICE_AS_SLOW) is Verdict.FLOOR
    assert RATE.judge(19_999, TWICE_AS_SLOW) is Verdict.BELOW
    assert TIME.judge(8.0, TWICE_AS_SLOW) is Verdict.FLOOR
    assert TIME.judge(8.1, TWICE_AS_SLOW) is Verdict.BELOW


def test_on_a_faster_machine_more_is_asked() -> None:
    assert (
        RATE.judge(40_000, Calibration(LOOP_REFERENCE_MS / 2, 1.0, LOOP_REFERENCE_MS / 2))
        is Verdict.BELOW
    )


def test_ratios_are_judged_as_they_are_on_any_machine() -> None:
    assert RATIO.judge(0.84, TWICE_AS_SLOW) is Verdict.BELOW


def test_a_slow_disk_counts_half_where_half_of_the_time_is_waiting_for_it() -> None:
    slow_disk = Calibration(LOOP_REFERENCE_MS, 3 * FSYNC_REFERENCE_MS, LOOP_REFERENCE_MS)
    assert slow_disk.slowness(Scaling.CPU) == 1.0
    assert slow_disk.slowness(Scaling.CPU_AND_DISK) == pytest.approx(2.0)


def test_processor_time_is_not_scaled_by_waiting_for_the_processor() -> None:
    crowded = Calibration(2 * LOOP_REFERENCE_MS, FSYNC_REFERENCE_MS, LOOP_REFERENCE_MS)
    row = Row("cpu", "CPU per task", "us", 4.0, 2.0, "lower", Scaling.CPU_TIME)
    assert crowded.slowness(Scaling.CPU) == 2.0
    assert row.judge(4.1, crowded) is Verdict.BELOW


def test_a_figure_without_a_floor_is_told_and_not_judged() -> None:
    assert Row("rate", "16 in flight", "/s").judge(1.0, REFERENCE) is Verdict.NO_BAR


def test_the_machine_of_several_rounds_is_their_median() -> None:
    taken = [Calibration(34, 0.07, 33), Calibration(40, 4.0, 34), Calibration(35, 0.08, 35)]
    assert Calibration.median(taken) == Calibration(35, 0.08, 34)


def test_calibrating_measures_something() -> None:
    machine = calibrate()
    assert machine.loop_ms > 0
    assert machine.loop_cpu_ms > 0
    assert machine.fsync_ms > 0
