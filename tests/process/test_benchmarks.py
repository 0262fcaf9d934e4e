"""`python -m benchmarks` on real nodes, as short as it gets."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        cwd=ROOT,
    )


@pytest.mark.process
def test_a_smoke_run_prints_a_line_per_figure_and_a_table(tmp_path: Path) -> None:
    path = tmp_path / "figures.jsonl"
    names = ("--only", "submit_256", "--only", "lifecycle", "--only", "nats")
    ran = run("--quick", "--seconds", "0.5", *names, "--json", str(path))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    lines = {one["figure"]: one for one in map(json.loads, path.read_text().splitlines())}
    for name in ("submit_256", "submit_fsyncs", "submit_cpu", "lifecycle", "lifecycle_fsyncs"):
        assert lines[name]["value"] > 0, name
        assert lines[name]["verdict"] == "smoke"
    assert lines["nats_submit"]["verdict"] == "not built"
    # A majority syncs each entry, and an entry holds no more than the 256 tasks in flight.
    assert lines["submit_fsyncs"]["value"] > 2 * 1000 / 256
    assert "submit, 256 in flight" in ran.stdout


def test_the_list_names_every_figure_and_says_what_is_not_built() -> None:
    ran = run("--list")
    assert ran.returncode == 0
    rows = ran.stdout.splitlines()
    assert len(rows) > 30
    assert [row.split()[0] for row in rows if row.endswith("not built")] == [
        *("rabbitmq", "rabbitmq", "nats", "nats", "retained_10m")
    ]


def test_a_name_that_is_not_there_is_refused() -> None:
    ran = run("--only", "sumbit_256")
    assert ran.returncode == 2
    assert "sumbit_256" in ran.stderr
