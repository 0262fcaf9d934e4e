"""What mypy says of the SDK's types, as users meet them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
MISTAKES = ROOT / "tests" / "typing" / "mistakes.py"


@pytest.mark.timeout(300)
def test_a_checker_finds_each_mistake_and_nothing_else(tmp_path: Path) -> None:
    text = MISTAKES.read_text().replace("# mypy: ignore-errors\n", "\n")
    (tmp_path / "mistakes.py").write_text(text)
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--no-color-output"]
    command += ["--config-file", "pyproject.toml", "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run(
        [*command, "tests/typing/api.py", str(tmp_path / "mistakes.py")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )

    expected = {
        (number, code)
        for number, line in enumerate(text.splitlines(), start=1)
        if "# error: " in line
        for code in line.split("# error: ")[1].split(", ")
    }
    found = {
        (int(line), code)
        for line, code in re.findall(
            r"mistakes\.py:(\d+): error: .*  \[([a-z-]+)\]$", done.stdout, re.MULTILINE
        )
    }
    others = [line for line in done.stdout.splitlines() if "mistakes.py" not in line]
    assert (expected, [], "") == (found, others, done.stderr)
