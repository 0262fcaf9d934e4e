"""What is preloaded into nodes does what it says, seen from another process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.clocks import WallClock
from chaos.disks import MIB, Disk, MountError, sweep
from chaos.power import Power
from chaos.shims import CLOCK, COMPILER, NO_COMPILER, build

needs_compiler = pytest.mark.skipif(COMPILER is None, reason=NO_COMPILER)

TELL_TIME = """
import datetime, sys, threading, time
for line in sys.stdin:
    before = time.monotonic()
    threading.Event().wait(0.05)
    waited = time.monotonic() - before
    now = datetime.datetime.now(datetime.timezone.utc).timestamp()
    print(time.time_ns(), int(now * 1e9), time.monotonic_ns(), int(waited * 1e9), flush=True)
"""
HOUR_NS = 3_600 * 1_000_000_000
CLOSE_NS = 5_000_000_000


class Watch:
    """A process with a clock of its own that tells the time when asked."""

    def __init__(self, clock: WallClock) -> None:
        variables = {**clock.variables, "LD_PRELOAD": str(clock.library)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", TELL_TIME],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=variables,
        )

    def off_by_ns(self) -> int:
        """Ask; return how far its wall clock is from the one of this process."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        wall, date, monotonic, waited = map(int, self.process.stdout.readline().split())
        assert abs(wall - date) < CLOSE_NS, "its clocks differ"
        assert abs(monotonic - time.monotonic_ns()) < CLOSE_NS, "the monotonic clock has moved"
        assert 45_000_000 <= waited < CLOSE_NS, "a wait had another length"
        return wall - time.time_ns()


@pytest.fixture
def clock(tmp_path: Path) -> WallClock:
    return WallClock(tmp_path / "clock", build(CLOCK, tmp_path))


@pytest.fixture
def watch(clock: WallClock) -> Iterator[Watch]:
    made = Watch(clock)
    with made.process:
        yield made
        made.process.kill()


@needs_compiler
@pytest.mark.parametrize("hours", [1, -1])
def test_a_clock_jumps_under_a_running_process_and_is_put_right(
    clock: WallClock, watch: Watch, hours: int
) -> None:
    assert abs(watch.off_by_ns()) < CLOSE_NS
    clock.jump(3_600 * hours)
    assert abs(watch.off_by_ns() - hours * HOUR_NS) < CLOSE_NS
    clock.correct()
    assert abs(watch.off_by_ns()) < CLOSE_NS


@needs_compiler
def test_a_clock_drifts_from_where_it_is(clock: WallClock, watch: Watch) -> None:
    clock.jump(3_600)
    clock.drift(1_000)  # a thousand seconds more in each
    first = watch.off_by_ns()
    second = watch.off_by_ns()
    assert first > HOUR_NS - CLOSE_NS
    # At least the 50 ms that a question takes lie between them.
    assert second - first > 40 * 1_000_000_000
    assert abs(second - clock.moved_by_ns) < 2_000 * CLOSE_NS


SYNC_TWICE = """
import os, sys, time
with open(sys.argv[1], "wb") as file:
    for _ in range(2):
        file.write(b"x")
        file.flush()
        began = time.monotonic()
        try:
            os.fsync(file.fileno())
        except OSError as error:
            print(error.errno, end=" ")
        print(int((time.monotonic() - began) * 1000))
"""


@needs_compiler
def test_an_fsync_fails_once_or_takes_as_long_as_ordered(tmp_path: Path) -> None:
    power = Power(tmp_path / "disk", tmp_path / "power")

    def sync_twice() -> list[list[int]]:
        command = power.launcher([sys.executable, "-c", SYNC_TWICE, str(power.root / "file")])
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return [[int(word) for word in line.split()] for line in told.stdout.splitlines()]

    power.order("once")
    failed, passed = sync_twice()
    assert (2, 5) == (len(failed), failed[0])
    assert 1 == len(passed)
    assert not power.ordered("once")

    power.order("slow", "150")
    assert all(took_ms >= 150 for [took_ms] in sync_twice())

    power.repair()
    assert [1, 1] == [len(line) for line in sync_twice()]


def test_a_disk_of_its_own_is_filled_freed_and_unmounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        disk = Disk(tmp_path / "disk", mib=4)
    except MountError as refused:
        pytest.skip(str(refused))
    try:
        ballast = disk.root / "ballast"
        ballast.write_bytes(bytes(MIB))

        def given_up_meanwhile(handle: int, offset: int, size: int) -> None:
            os.truncate(ballast, 0)
            allocate(handle, offset, size)

        allocate = os.posix_fallocate
        with monkeypatch.context() as patched:
            patched.setattr(os, "posix_fallocate", given_up_meanwhile)
            assert 2 * MIB < disk.fill() <= 3 * MIB, "what the node gave up was taken, too"
        disk.fill()
        with pytest.raises(OSError, match="No space left"):
            (disk.root / "more").write_bytes(bytes(64 * 1024))
        disk.free()
        (disk.root / "more").write_bytes(bytes(3 * MIB))
        (disk.data / "db").mkdir(parents=True)
        (disk.data / "db" / "000001.log").write_bytes(b"entries")
        (disk.data / "ballast").write_bytes(bytes(MIB // 2))
        (disk.data / "quarantine" / "2026" / "db").mkdir(parents=True)
        disk.clear_quarantine()
        disk.clear_quarantine()
    finally:
        disk.close()
    assert [] == list(disk.root.iterdir())
    disk.data.mkdir()
    kept = tmp_path / "kept" / "data"
    assert (kept / "db" / "000001.log").read_bytes() == b"entries"
    assert not (kept / "ballast").exists(), "it says nothing"
    assert not (kept / "quarantine").exists(), "it was removed"
    (disk.data / "quarantine").mkdir()
    disk.clear_quarantine()
    assert (disk.data / "quarantine").exists(), "there is room, and somebody may want to look"
    assert disk.root not in sweep()
