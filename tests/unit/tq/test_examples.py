"""The example tasks, and the command that runs them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tests.unit.tq.doubles import FakeCluster
from tq import examples
from tq.log_format import JsonFormatter, TextFormatter
from tq.worker import Worker
from tq.worker_cli import load_app, main

MODULE = "shop_tasks_of_a_test"


def test_echo_gives_back_what_it_got() -> None:
    assert "hello" == examples.echo("hello")


def test_sleep_gives_back_its_seconds() -> None:
    assert 0.01 == asyncio.run(examples.sleep(0.01))


def test_the_json_processor_groups_and_adds_up() -> None:
    records: list[dict[str, object]] = [
        {"city": "Paris", "sold": 2, "open": True},
        {"city": "Paris", "sold": 3.5},
        {"city": "Rome", "note": "closed"},
        {"sold": 1},
    ]
    assert {
        "Paris": {"count": 2, "sold": 5.5},
        "Rome": {"count": 1},
        "": {"count": 1, "sold": 1},
    } == examples.json_processor(records, group_by="city")


@pytest.mark.parametrize("size", [0, 1, 262_144, 600_001])
def test_the_digest_of_a_file_is_what_hashlib_says(tmp_path: Path, size: int) -> None:
    content = (b"line\n" * (size // 5 + 1))[:size]
    path = tmp_path / "file"
    path.write_bytes(content)
    assert {
        "sha256": hashlib.sha256(content).hexdigest(),
        "lines": content.count(b"\n"),
        "bytes": size,
    } == examples.file_digest(str(path))


async def test_a_worker_runs_the_examples(tmp_path: Path) -> None:
    cluster = FakeCluster()
    worker = Worker(examples.app, client=lambda: cluster)
    serving = asyncio.create_task(worker.serve())
    assert ("complete", b'"hi"') == await cluster.end_of(cluster.offer("tq.examples:echo", "hi"))
    verb, (error, _) = await cluster.end_of(
        cluster.offer("tq.examples:file_digest", str(tmp_path / "missing"))
    )
    assert "fail" == verb
    assert error.startswith("FileNotFoundError: ")
    worker.stop()
    await serving


# ------------------------------------------------------------------------------ tq-worker


def test_an_app_is_found_by_module_and_name() -> None:
    assert examples.app is load_app("tq.examples:app", Path())


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("tq.examples", "write it like"),
        ("tq.nothing:app", "no module 'tq.nothing'"),
        ("nothing_at_all:app", "no module 'nothing_at_all'"),
        ("tq.examples:nothing", "is not a tq.App"),
        ("tq.examples:echo", "is not a tq.App"),
    ],
)
def test_a_wrong_app_is_one_line_and_exit_code_2(path: str, words: str) -> None:
    result = CliRunner().invoke(main, [path, "--servers", "n1"])
    assert 2 == result.exit_code
    assert words in result.stderr


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("import a_module_that_is_missing", "ModuleNotFoundError.*a_module_that_is_missing"),
        ("raise OSError('no licence')", "OSError: no licence"),
    ],
)
def test_a_module_that_cannot_be_imported_shows_where_and_says_so_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, words: str
) -> None:
    (tmp_path / f"{MODULE}.py").write_text(f"{line}\n")
    with pytest.raises(click.UsageError, match=f"cannot be imported: .*{words}"):
        load_app(f"{MODULE}:app", tmp_path)
    assert line in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--heartbeat", "soon"], "no duration"),
        (["--concurrency", "0"], "range"),
        (["--queues", "a b"], "queue names"),
        ([], "TQ_SERVERS"),
    ],
)
def test_wrong_options_are_one_line_and_exit_code_2(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(main, ["tq.examples:app", *arguments], env={"TQ_SERVERS": None})
    assert 2 == result.exit_code
    assert words in result.stderr


def test_options_come_from_the_environment_too() -> None:
    result = CliRunner().invoke(
        main, ["tq.examples:app"], env={"TQ_SERVERS": "n1", "TQ_CONCURRENCY": "none"}
    )
    assert 2 == result.exit_code
    assert "TQ_CONCURRENCY" in result.stderr or "concurrency" in result.stderr


# ----------------------------------------------------------------------------------- logs


def test_a_log_line_for_people_and_one_for_programs() -> None:
    record = logging.LogRecord("tq.worker", logging.WARNING, "", 0, "lease_lost", (), None)
    record.created = 0.0
    record.facts = {"token": 7, "why": "it ended", "empty": ""}
    assert (
        '1970-01-01T00:00:00.000+00:00 warning  lease_lost token=7 why="it ended" empty=""'
        == TextFormatter().format(record)
    )
    assert {
        "time": "1970-01-01T00:00:00.000+00:00",
        "level": "warning",
        "logger": "tq.worker",
        "event": "lease_lost",
        "token": 7,
        "why": "it ended",
        "empty": "",
    } == json.loads(JsonFormatter().format(record))
