"""`python -m chaos` as a whole: a short run that ends well, and harnesses that are ended early."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from chaos.check import main as check
from chaos.workload.recorder import merge
from deploy.local.processes import ChildProcess

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.process, pytest.mark.long]


def command(place: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "chaos", "--out", str(place / "out"), "--rate", "40", *words]


def harness(place: Path, *words: str) -> ChildProcess:
    return ChildProcess(command(place, *words), log_path=place / "harness.log", directory=ROOT)


def run_of(place: Path) -> Path:
    [run] = (place / "out").iterdir()
    return run


def everybody(pid: int) -> list[psutil.Process]:
    """Return what a harness has started: three nodes, a proxy, three processes of clients.

    Look until nobody is missing: a node that it has killed comes back.
    """
    until_s = time.monotonic() + 60
    while len(found := psutil.Process(pid).children(recursive=True)) < 7:
        assert time.monotonic() < until_s, found
    return found


@pytest.mark.alone  # gaps are judged
def test_a_short_run_keeps_every_promise_and_leaves_its_record(tmp_path: Path) -> None:
    playing = harness(tmp_path, "--times", "3", "--scenario", "leader-kills", "--seed", "8")
    playing.start()
    code = playing.wait(timeout_s=600)
    assert code == 0, playing.output()
    assert "0 lost, 0 doubled, 0 violations" in playing.output()
    run = run_of(tmp_path)
    left = {path.name for path in run.iterdir()}
    assert {"history.jsonl", "faults.jsonl", "samples.jsonl", "report.html"} <= left
    assert {f"export-{node}.jsonl" for node in (1, 2, 3)} <= left
    assert {f"node-{node}.log" for node in (1, 2, 3)} <= left
    faults = [json.loads(line) for line in (run / "faults.jsonl").read_text().splitlines()]
    assert [fault["kind"] for fault in faults] == ["kill leader"] * 3
    # Each node that was killed was whole again before the next was.
    assert all(before["to"] < after["at"] for before, after in pairwise(faults))
    assert check([str(run)]) == 0
    counts = {
        verdict["name"]: verdict["counts"]
        for verdict in json.loads((run / "verdicts.json").read_text())
    }
    for what in ("digests compared", "tasks compared", "log entries compared"):
        assert counts["agreement"][what] > 0
    assert counts["stale"]["lists"] > 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_harness_that_is_ended_early_leaves_no_process_and_a_record_that_can_be_read(
    tmp_path: Path, number: signal.Signals
) -> None:
    words = command(tmp_path, "--minutes", "5", "--scenario", "kill")
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    ) as playing:
        try:
            assert playing.stdout is not None
            said: list[str] = []
            # It says so when every process of clients is at work.
            while "kill begins" not in "".join(said[-1:]):
                said.append(playing.stdout.readline())
                assert said[-1], "".join(said)
            children = everybody(playing.pid)
            playing.send_signal(number)
            code = playing.wait(60)
        finally:
            playing.kill()
    assert code == (-number if number == signal.SIGKILL else 3)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []
    run = run_of(tmp_path)
    if number == signal.SIGKILL:
        assert merge(run.glob("journal-*.jsonl"), tmp_path / "history") > 10
    check([str(run)])
    assert (run / "verdicts.json").exists()
