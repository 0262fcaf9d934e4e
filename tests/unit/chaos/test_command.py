"""`python -m chaos`: what is asked for, and what is said when it cannot be."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import chaos.__main__ as command
from chaos.check import main as check
from chaos.cluster import ClusterError, Equipment
from chaos.disks import MountError
from chaos.evidence import Evidence
from chaos.proxies import ProxyError
from chaos.run import Options, Report
from chaos.scenarios import DEFAULT, SCENARIOS
from chaos.workload.recorder import Journal
from tests.unit.chaos.recorded import Record, life
from tests.unit.chaos.test_files import run_folder


class Player:
    """Stands for the run itself: keeps what it was asked, and leaves a small record."""

    def __init__(self, *errors: Exception, troubles: tuple[str, ...] = ()) -> None:
        self.asked: list[Options] = []
        self._errors = list(errors)
        self._troubles = list(troubles)

    async def __call__(self, options: Options) -> Report:
        self.asked.append(options)
        if self._errors:
            raise self._errors.pop(0)
        record = Record()
        life(record, "t1")
        run_folder(options.directory, record)
        (options.directory / "node-1").mkdir()
        (options.directory / "node-1.log").touch()
        return Report(troubles=self._troubles, skipped={"disk full all": "no root"})


def invoke(player: Player, monkeypatch: pytest.MonkeyPatch, *words: str) -> Result:
    monkeypatch.setattr(command, "play", player)
    monkeypatch.setattr(command, "judge", lambda evidence: [])
    return CliRunner().invoke(command.main, words)


def test_a_run_says_how_to_play_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    player = Player()
    result = invoke(
        player,
        monkeypatch,
        *("--out", str(tmp_path), "--seed", "7", "--minutes", "0.5", "--nodes", "5"),
        *("--scenario", "kill", "--scenario", "pause"),
    )
    assert result.exit_code == 0, result.output
    [line] = [line for line in result.output.splitlines() if line.startswith("replay: ")]
    again = shlex.split(line.removeprefix("replay: python -m chaos "))
    invoke(player, monkeypatch, *again, "--out", str(tmp_path / "b"))
    first, second = player.asked
    assert first.directory != second.directory
    for name in ("seed", "minutes", "scenarios", "nodes", "tasks_per_s", "settings", "command"):
        assert getattr(first, name) == getattr(second, name)
    assert (first.seed, first.nodes, list(first.scenarios)) == (7, 5, ["kill", "pause"])
    assert "not done: disk full all: no root" in result.output


def test_what_nobody_looks_at_is_thrown_away_after_a_good_run_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = Player(), Player(troubles=("node 2 ended by itself",))
    assert invoke(good, monkeypatch, "--out", str(tmp_path)).exit_code == 0
    result = invoke(bad, monkeypatch, "--out", str(tmp_path))
    assert result.exit_code == 1
    assert "trouble: node 2 ended by itself" in result.output
    [first], [second] = good.asked, bad.asked
    left = {path.name for path in first.directory.iterdir()}
    assert "node-1.log" in left
    assert "node-1" not in left
    assert (second.directory / "node-1").is_dir()
    assert (second.directory / "report.html").exists()


def test_a_scenario_that_does_not_exist_is_said_and_one_like_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    player = Player()
    result = invoke(player, monkeypatch, "--out", str(tmp_path), "--scenario", "partitoin")
    assert result.exit_code == 2
    assert "did you mean 'partition'?" in result.output
    assert all(name in result.output for name in SCENARIOS)
    assert player.asked == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [ClusterError("no leader: address already in use"), ProxyError("port 17000 is in use")],
)
def test_a_run_that_cannot_begin_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    result = invoke(Player(error), monkeypatch, "--out", str(tmp_path))
    assert result.exit_code == 3
    assert f"error: the run could not begin: {error}" in result.output
    assert "Traceback" not in result.output


def test_where_nothing_can_be_mounted_the_rest_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "has_root", lambda: True)
    player = Player(MountError("a disk of its own takes a mount: not permitted"))
    result = invoke(player, monkeypatch, "--out", str(tmp_path), "--scenario", "disk-full")
    assert result.exit_code == 0
    assert "without disks of their own" in result.output
    assert [options.equipment.disk_mib > 0 for options in player.asked] == [True, False]


def test_without_root_and_compiler_nodes_are_given_neither_disks_nor_libraries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command, "has_root", lambda: False)
    monkeypatch.setattr(command, "COMPILER", None)
    assert command.possible(Equipment(disk_mib=64, power=True, clock=True)) == Equipment()


def told(**changes: Any) -> dict[str, Any]:
    asked = {"seed": 4, "minutes": 1.5, "scenario": "kill,pause", "nodes": 3, "tasks_per_s": 50}
    return {"version": 1, "commit": "abc", **asked, **changes}


def test_a_run_is_played_again_from_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.json").write_text(json.dumps(told()))
    player = Player()
    out = str(tmp_path / "out")
    assert invoke(player, monkeypatch, "--replay", str(tmp_path), "--out", out).exit_code == 0
    [options] = player.asked
    assert (options.seed, options.minutes, options.tasks_per_s) == (4, 1.5, 50)
    assert set(options.scenarios) == {"kill", "pause"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (json.dumps(told(version=2)), "is of version 2, and this is version 1: .* (abc)"),
        (json.dumps(told(scenario="kil")), "did you mean 'kill'"),
        (json.dumps({"version": 1}), "is not the run.json of a run"),
        ("[]", "is not the run.json of a run"),
        ("not JSON", "is not the run.json of a run"),
        (None, "No such file"),
    ],
)
def test_a_folder_that_cannot_be_played_again_is_refused_plainly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, said: str
) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    player = Player()
    result = invoke(player, monkeypatch, "--replay", str(tmp_path))
    assert result.exit_code == 2
    assert player.asked == []
    assert result.output.startswith("error: ")
    assert len(result.output.splitlines()) < 25
    assert all(word in result.output for word in said.split(" .* "))


def test_what_a_killed_harness_left_is_judged_from_its_journals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(tmp_path, Record())
    (folder / "history.jsonl").unlink()
    with Journal(folder / "journal-main-00.jsonl") as journal:
        submit = journal.begin("p", "submit", "t9", {"queue": "a"})
        journal.end(submit, "ok", {"index": 3})
    assert check([str(folder)]) == 1
    assert "task t9 is lost" in capsys.readouterr().out


def test_a_record_of_another_version_is_not_judged(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, Record())
    run = json.loads((folder / "run.json").read_bytes())
    (folder / "run.json").write_text(json.dumps(run | {"version": 9}))
    with pytest.raises(ValueError, match="a run of version 9, and this reads version 1"):
        Evidence.from_directory(folder)


@pytest.mark.parametrize(("minutes", "turns"), [(5, 1), (13, 1), (60, 5)])
def test_a_long_run_takes_scenarios_in_several_rounds(minutes: float, turns: int) -> None:
    asked = command.Asked(1, minutes, DEFAULT, 3, 80)
    assert asked.turns() == list(DEFAULT) * turns


def test_scenarios_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    result = invoke(Player(), monkeypatch, "--list")
    assert result.exit_code == 0
    assert all(name in result.output for name in SCENARIOS)
