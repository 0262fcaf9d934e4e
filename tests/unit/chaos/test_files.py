"""The files of a run: written, read back, and damage told by file and line."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.check import main
from chaos.evidence import Evidence
from chaos.history import HistoryWriter, RecordError, read_history, to_line
from tests.unit.chaos.recorded import Record, life

GOOD = '{"n":1,"who":"c","op":"get","task":"","args":{},"at":5,"to":6,"out":"ok","value":{}}'


def run_folder(path: Path, record: Record) -> Path:
    run = {"nodes": [1, 2], "began_ns": 0, "settings": record.settings, "version": 1}
    run["ended_ns"] = 1
    (path / "run.json").write_text(json.dumps(run))
    lines = "".join(to_line(operation) for operation in record.operations)
    (path / "history.jsonl").write_text(lines)
    sample = {"at": 1, "node": 1, "up": True, "role": "leader", "term": 2, "leader": 1}
    rest = {"commit": 5, "applied": 5, "ready": 0, "disk_low": False}
    (path / "samples.jsonl").write_text(json.dumps(sample | rest) + "\n")
    fault = {"at": 3, "to": None, "kind": "kill", "nodes": [1], "detail": "", "scenario": "s"}
    (path / "faults.jsonl").write_text(json.dumps(fault) + "\n")
    for node in (1, 2):
        head = {"node": node, "applied": 9, "digest": "aa", "digest_index": 9}
        task = {"task": "t1", "state": "completed", "result": "aa"}
        entry = {"log": 9, "term": 2, "crc": 77}
        told = [head | {"first_index": 9, "last_index": 9}, task, entry]
        text = "".join(json.dumps(one) + "\n" for one in told)
        (path / f"export-{node}.jsonl").write_text(text)
    return path


def test_what_is_written_is_read_back_and_what_was_open_is_unknown(tmp_path: Path) -> None:
    ticks = itertools.count(100, 10)
    with HistoryWriter(tmp_path / "h", clock_ns=lambda: next(ticks)) as writer:
        first = writer.begin("p", "submit", "t1", {"queue": "a"})
        writer.begin("w", "claim", arguments={"queues": ["a"]})
        writer.end(first, "ok", {"index": 4})
        with pytest.raises(ValueError, match="operation 1 has ended before"):
            writer.end(first, "ok", {"index": 5})
    submit, claim = read_history(tmp_path / "h")
    assert (submit.task, submit.at, submit.to, submit.value) == ("t1", 100, 120, {"index": 4})
    assert (claim.kind, claim.at, claim.to, claim.outcome) == ("claim", 110, None, "unknown")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (GOOD[:40], "Invalid control character"),
        (GOOD.replace('"op":"get",', ""), "no field 'op'"),
        (GOOD.replace('"to":6', '"to":4'), "it ends at 4, before it begins at 5"),
        (GOOD.replace('"to":6', '"to":null'), "answered, and no time of the answer"),
        (GOOD.replace('"ok"', '"fine"'), "outcome 'fine' is none of"),
        (GOOD.replace('"args":{}', '"args":[]'), "args is a map"),
        (GOOD.replace('"at":5', '"at":"5"'), "number and times are integers"),
        (GOOD, "operation 1 is there twice"),
        ("\x00\x00", "Expecting value"),
        ("7", "not subscriptable"),
    ],
)
def test_damage_is_told_with_its_line(tmp_path: Path, line: str, why: str) -> None:
    (tmp_path / "h").write_text(f"{GOOD}\n{line}\n")
    with pytest.raises(RecordError, match=f"h, line 2: .*{why}"):
        read_history(tmp_path / "h")


def test_the_folder_of_a_run_is_read(tmp_path: Path) -> None:
    record = Record()
    life(record)
    evidence = Evidence.from_directory(run_folder(tmp_path, record))
    assert len(evidence.history) == 5
    assert (evidence.nodes, evidence.origin_ns, evidence.faults[0].kind) == (2, 0, "kill")
    assert (evidence.samples[0].leader, evidence.exports[1].log) == (1, {9: (2, 77)})


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("run.json", "{", "run.json"),
        ("run.json", "[]", "not a map"),
        ("faults.jsonl", '{"at": 1}\n', "faults.jsonl, line 1: no field 'to'"),
        ("samples.jsonl", "{}\n[]\n", "samples.jsonl, line 1: no field 'at'"),
        ("export-1.jsonl", "", "export-1.jsonl, line 1: says of no node"),
        ("export-1.jsonl", '{"node": 1}\n{}\n', "line 2: neither a task nor a log entry"),
        ("export-1.jsonl", '{"node": 1}\n', "line 1"),
    ],
)
def test_a_damaged_folder_is_said_to_be_one(
    tmp_path: Path, file: str, text: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder(tmp_path, Record())
    (tmp_path / file).write_text(text)
    assert main([str(tmp_path)]) == 2
    assert told in capsys.readouterr().err


def test_a_kept_run_is_judged_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = Record()
    held = life(record)
    assert main([str(run_folder(tmp_path, record))]) == 0
    told = json.loads((tmp_path / "verdicts.json").read_text())
    assert [verdict["name"] for verdict in told][:2] == ["durable", "once"]
    assert all(verdict["ok"] and verdict["seconds"] >= 0 for verdict in told)
    record.complete("t1", 70, 80, held + 1)
    assert main([str(run_folder(tmp_path, record))]) == 1
    assert "task t1 ended 2 times" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"troubles": ["node 2 ended by itself"]}, "trouble: node 2 ended by itself"),
        ({"ended_ns": None}, "trouble: the run did not come to its end"),
    ],
)
def test_a_kept_run_that_went_wrong_is_not_called_good(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, object], told: str
) -> None:
    record = Record()
    life(record)
    folder = run_folder(tmp_path, record)
    assert main([str(folder)]) == 0
    run = json.loads((folder / "run.json").read_bytes())
    (folder / "run.json").write_text(json.dumps(run | changes))
    assert main([str(folder)]) == 1
    assert told in capsys.readouterr().out
    assert main([str(folder), "--only", "once"]) == 1


def test_one_checker_alone_can_be_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run_folder(tmp_path, Record())), "--only", "agreement"]) == 0
    assert capsys.readouterr().out.startswith("agreement     kept")
    assert not (tmp_path / "verdicts.json").exists()


def test_the_command_says_plainly_that_there_is_no_run(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "chaos.check", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "run.json" in done.stderr
    assert "Traceback" not in done.stderr
