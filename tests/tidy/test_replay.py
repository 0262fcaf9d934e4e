"""A failing random test tells how to see it fail again, and that command does."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).resolve().parents[1]


def _failing_run(folder: Path, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


def test_a_failing_random_test_prints_its_seed_and_the_command_that_replays_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_default_fixture_loop_scope = function\n"
    )
    shutil.copy(TESTS / "conftest.py", tmp_path)
    (tmp_path / "test_dice.py").write_text(
        "def test_luck(rng):\n    assert not f'rolled {rng.random()}'\n"
    )
    first = _failing_run(tmp_path)
    command = re.search(
        r'replay with: python -m pytest "test_dice.py::test_luck" (--seed \d+)', first
    )
    assert command is not None, first
    rolled = re.findall(r"rolled [\d.]+", first)[-1]
    assert rolled in _failing_run(tmp_path, *command[1].split())
