"""What `make demo` and `make cluster` run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.cluster import ROOT
from tests.process.raw_client import ACK, REDIRECT, SUBMIT_TASK, RawClient, new_task_id

pytestmark = pytest.mark.process


@pytest.mark.long
@pytest.mark.alone  # it fails when nobody leads for 3 s
@pytest.mark.timeout(200)
def test_the_demo_kills_the_leader_and_loses_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    figures = dict(line.rsplit(None, 1) for line in done.stdout.splitlines() if "  " in line)
    assert ("0", "0", "0") == (figures["lost"], figures["finished twice"], figures["wrong result"])
    assert int(figures["tasks"]) > 500
    assert "killed with SIGKILL" in done.stdout


def test_the_local_cluster_prints_where_it_is_and_stops_on_ctrl_c(tmp_path: Path) -> None:
    cluster = subprocess.Popen(
        [sys.executable, "-m", "deploy.local"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert cluster.stdout is not None
        said = []
        for line in cluster.stdout:
            said.append(line)
            if line == "Ctrl-C stops them\n":
                break
        servers = next(line for line in said if line.startswith("export TQ_SERVERS="))
        answers = [submit(address)[0] for address in servers.strip().split("=")[1].split(",")]
        assert sorted([ACK, REDIRECT, REDIRECT]) == sorted(answers)
        cluster.send_signal(signal.SIGINT)
        assert 0 == cluster.wait(30)
    finally:
        cluster.kill()
        cluster.communicate()
    assert [] == list(tmp_path.iterdir()), "its data went with it"


def submit(address: str) -> tuple[int, list[object]]:
    with RawClient(address) as client:
        return client.request(SUBMIT_TASK, new_task_id(), "default", "x", b"", {})
