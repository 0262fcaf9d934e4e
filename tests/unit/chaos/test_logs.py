"""Logs of nodes and clients are read for what must never be there."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from chaos import run
from chaos.logs import excuses, troubles
from chaos.run import Options, play


def halt(error: str, text: str = "the database: Corruption") -> str:
    return json.dumps(
        {
            "level": "critical",
            "event": f"node 2 halts: {error}('{text}')",
            "exception": "Traceback (most recent call last):\n  File ...",
        }
    )


UNANSWERED = json.dumps({"level": "error", "event": "a Complete could not be answered"})


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("node-1.log", UNANSWERED),
        (
            "node-1.log",
            json.dumps({"event": "x", "exception": "Traceback (most recent call last)"}),
        ),
        ("node-1.log", json.dumps({"event": "Task exception was never retrieved\nfuture: <Task"})),
        ("node-1.log", json.dumps({"event": "Exception in callback step()"})),
        ("node-1.log", '{"ts": "2026-01-01T0{"event": "a read could not be answered"}'),
        ("node-1.log", "Fatal Python error: Segmentation fault"),
        ("clients-main.log", "Traceback (most recent call last):"),
        ("clients-workers-1.log", "coroutine 'x' was never awaited"),
        ("proxy.log", "Task exception was never retrieved"),
    ],
)
def test_what_must_never_be_said_is_told_with_the_log_it_is_in(
    tmp_path: Path, name: str, line: str
) -> None:
    (tmp_path / name).write_text(f'{{"event": "node_starting"}}\n{line}\n{line}\n')
    [told] = troubles(tmp_path, excused={1: {"DiskDamagedError"}})
    assert told.startswith(f"{name}: {line[:250]}")
    assert told.endswith("(and 1 lines more)")


def test_what_nodes_say_of_every_fault_is_none_of_it(tmp_path: Path) -> None:
    lines = [
        {"level": "warning", "event": "cannot reach node 1: [Errno 111] Connection refused"},
        {"level": "error", "event": "disk low: 21827584 bytes are left, no new tasks are taken"},
        {"level": "critical", "event": "node_failed", "text": "DiskFailedError('fsync: EIO')"},
    ]
    (tmp_path / "node-1.log").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert troubles(tmp_path) == []


@pytest.mark.parametrize(
    ("kind", "error", "excused"),
    [
        ("flip table", "DiskDamagedError", True),
        ("flip table", "DiskFailedError", False),
        ("fsync error", "DiskFailedError", True),
        ("fsync error", "DiskDamagedError", False),
        ("kill leader", "DiskDamagedError", False),
        ("kill leader", "DiskFailedError", False),
    ],
)
def test_a_node_halts_with_a_traceback_rightly_for_what_a_fault_has_done_to_its_disk(
    tmp_path: Path, kind: str, error: str, excused: bool
) -> None:
    (tmp_path / "node-2.log").write_text(halt(error) + "\n")
    assert excuses(tmp_path / "faults.jsonl") == {}
    fault = {"kind": kind, "nodes": [2], "detail": "", "at": 1, "to": 2}
    (tmp_path / "faults.jsonl").write_text(json.dumps(fault) + "\n")
    found = excuses(tmp_path / "faults.jsonl")
    assert bool(troubles(tmp_path, excused=found)) is not excused
    assert len(troubles(tmp_path, excused={1: {error}})) == 1
    # That it halts for its disk excuses nothing else it says.
    (tmp_path / "node-2.log").write_text(f"{halt(error)}\n{UNANSWERED}\n")
    assert "could not be answered" in troubles(tmp_path, excused={2: {error}})[0]


def test_damage_that_a_compaction_has_met_is_damage_though_it_is_a_write_that_fails(
    tmp_path: Path,
) -> None:
    (tmp_path / "node-2.log").write_text(halt("DiskFailedError", "db is damaged: Corruption"))
    assert troubles(tmp_path, excused={2: {"DiskDamagedError"}}) == []
    assert len(troubles(tmp_path, excused={2: {"DiskFailedError"}})) == 1


class Sound:
    """Stands for cluster and clients of a run in which nothing is seen but what logs say."""

    servers = ""

    def __init__(self, directory: Path, **_: object) -> None:
        (directory / "node-1.log").write_text(UNANSWERED + "\n")
        self.network = self
        self.access = None

    async def start(self) -> None:
        """Do nothing."""

    def close(self) -> Any:
        told: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        told.set_result(["node 3 was to end in good order (the end) and ended with exit code 1"])
        return told

    def gather(self) -> int:
        return 0


async def test_a_run_is_in_trouble_for_its_logs_and_for_how_nodes_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def well(*_: object, **__: object) -> None:
        """Play without any trouble."""

    monkeypatch.setattr(run, "ChaosCluster", Sound)
    monkeypatch.setattr(run, "Clients", Sound)
    monkeypatch.setattr(run, "_play", well)
    options = Options(
        seed=1, minutes=1, scenarios=["kill"], nodes=3, directory=tmp_path, tasks_per_s=1
    )
    report = await play(options)
    at_the_end, in_a_log = report.troubles
    assert at_the_end == (
        "at the end: node 3 was to end in good order (the end) and ended with exit code 1"
    )
    assert "could not be answered" in in_a_log
    assert json.loads((tmp_path / "run.json").read_bytes())["troubles"] == report.troubles
