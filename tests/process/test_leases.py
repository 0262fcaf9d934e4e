"""A worker that outlives its lease cannot finish the task."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from deploy.local.cluster import ROOT, LocalCluster
from deploy.local.processes import ChildProcess
from tests.process.conftest import Connect
from tests.process.raw_client import (
    ACK,
    CLAIM_TASK,
    QUERY_STATUS,
    REGISTER_WORKER,
    SUBMIT_TASK,
    TASK_RESULT,
    new_task_id,
)

pytestmark = pytest.mark.process

QUEUE = "leases"
LEASE_MS = 1_000


@contextmanager
def stubborn_worker(address: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.process.stubborn_worker", address, QUEUE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_stopped_worker_loses_its_task_and_its_late_result_is_refused(
    shared_cluster: LocalCluster,
    connect: Connect,
) -> None:
    address = shared_cluster.wait_leader().client_address
    client = connect(address)
    task_id = new_task_id()
    client.request(SUBMIT_TASK, task_id, QUEUE, "x", b"", {"lease_ms": LEASE_MS})

    with stubborn_worker(address) as worker:
        assert worker.stdout is not None
        assert worker.stdin is not None
        stale_token = int(worker.stdout.readline().split()[1])
        worker.send_signal(signal.SIGSTOP)

        session = client.request(REGISTER_WORKER, new_task_id(), "w", [QUEUE], {})[1][0]
        [grant] = client.request(CLAIM_TASK, session, [QUEUE], 1, 20_000)[1][0]
        assert task_id == grant[0]
        assert grant[1] > stale_token
        answer = client.request(TASK_RESULT, task_id, grant[1], 0, b"in time", "")
        assert (ACK, ["completed"]) == answer

        worker.send_signal(signal.SIGCONT)
        worker.stdin.write("\n")
        worker.stdin.flush()
        assert worker.stdout.readline().startswith("LEASE_LOST")

    kind, (status,) = connect(address).request(QUERY_STATUS, task_id)
    assert (ACK, "completed", b"in time", 2) == (
        kind,
        status["state"],
        status["result"],
        status["attempt"],
    )


def test_a_stopped_tq_worker_notices_and_sends_nothing_once_it_goes_on(
    shared_cluster: LocalCluster, connect: Connect, tmp_path: Path
) -> None:
    servers = shared_cluster.servers
    workers = [
        ChildProcess(
            [
                *(sys.executable, "-m", "tq.worker_cli", "tq.examples:app"),
                *("--servers", servers, "--concurrency", "1", "--queues", "frozen"),
                *("--heartbeat", "0.3s"),
            ],
            log_path=tmp_path / f"worker{number}.log",
            directory=ROOT,
        )
        for number in (1, 2)
    ]
    client = connect(shared_cluster.wait_leader().client_address)
    task_id = new_task_id()
    options = {"lease_ms": LEASE_MS}
    payload = b'{"args": [2.0], "kwargs": {}}'
    client.request(SUBMIT_TASK, task_id, "frozen", "tq.examples:sleep", payload, options)

    def status() -> dict[str, object]:
        fields: dict[str, object] = client.request(QUERY_STATUS, task_id)[1][0]
        return fields

    try:
        workers[0].start()
        shared_cluster.wait_for(
            lambda: True if status()["state"] == "in_progress" else None, what="a first claim"
        )
        os.kill(workers[0].pid, signal.SIGSTOP)
        workers[1].start()
        shared_cluster.wait_for(
            lambda: True if status()["state"] == "completed" else None, what="a completion"
        )
        os.kill(workers[0].pid, signal.SIGCONT)
        shared_cluster.wait_for(
            lambda: True if "lease_lost" in workers[0].output() else None,
            what="the first worker noticing that its lease is lost",
        )
    finally:
        for worker in workers:
            worker.stop()

    after = status()
    assert ("completed", 2) == (after["state"], after["attempt"])
    assert "late_result" not in [event for _, event, _ in cast("list[list[str]]", after["history"])]
