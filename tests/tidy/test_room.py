"""A test that is marked `alone` runs alone, and the others run side by side."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

TESTS: Final = Path(__file__).resolve().parents[1]
PROBE: Final = """
import fcntl, os, pathlib, pytest

def free(how):
    inside = os.open(pathlib.Path(__file__).parent, os.O_RDONLY)
    try:
        fcntl.flock(inside, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(inside)
    return True

@pytest.mark.alone
@pytest.mark.parametrize("number", range(3))
def test_alone(number):
    assert not free(fcntl.LOCK_SH)

@pytest.mark.parametrize("number", range(3))
def test_with_others(number):
    assert free(fcntl.LOCK_SH)
    assert not free(fcntl.LOCK_EX)
"""


@pytest.fixture
def probe(tmp_path: Path) -> Path:
    """A folder of tests under the same rules, that look whether there is room for more."""
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_default_fixture_loop_scope = function\nmarkers = alone\n"
    )
    shutil.copy(TESTS / "conftest.py", tmp_path)
    (tmp_path / "test_probe.py").write_text(PROBE)
    return tmp_path


def run(folder: Path, *options: str) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_processes_that_share_the_tests_keep_the_room_for_one_that_is_alone(probe: Path) -> None:
    assert "6 passed" in run(probe, "-n", "2")


def test_those_that_are_alone_come_last(probe: Path) -> None:
    found = [line for line in run(probe, "--collect-only").splitlines() if "::" in line]
    assert ["alone" in line for line in found] == [False] * 3 + [True] * 3
