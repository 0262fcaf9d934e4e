"""`python -m chaos`: what is asked for, and what is said when it cannot be."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
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
from chaos.scenarios import DEFAULT, LONG_PACKETS, PACKETS, SCENARIOS
from chaos.workload.recorder import Journal
from tests.unit.chaos.recorded import Record, life
from tests.unit.chaos.test_files import run_folder

ROOT = Path(__file__).resolve().parents[3]


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
        *("--scenario", "kill", "--scenario", "pause", "--node-command", "python -m other 'x y'"),
    )
    assert result.exit_code == 0, result.output
    [line] = [line for line in result.output.splitlines() if line.startswith("replay: ")]
    again = shlex.split(line.removeprefix("replay: python -m chaos "))
    invoke(player, monkeypatch, *again, "--out", str(tmp_path / "b"))
    first, second = player.asked
    assert first.directory != second.directory
    for name in (
        "seed",
        "minutes",
        "scenarios",
        "nodes",
        "tasks_per_s",
        "settings",
        "command",
        "node_command",
    ):
        assert getattr(first, name) == getattr(second, name)
    assert (first.seed, first.nodes, list(first.scenarios)) == (7, 5, ["kill", "pause"])
    assert first.node_command == "python -m other 'x y'"
    assert "not done: disk full all: no root" in result.output


def test_so_many_faults_are_asked_for_instead_of_minutes_and_told_and_played_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    player = Player()
    words = ("--scenario", "leader-kills", "--scenario", "power-all", "--times", "100")
    result = invoke(player, monkeypatch, *words, "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert "leader-kills, power-all; 100 faults each," in result.output
    [options] = player.asked
    assert (options.times, list(options.scenarios)) == (100, ["leader-kills", "power-all"])
    assert options.settings["gap_p99_max_ms"] == {"kill leader": 2_000}
    assert "--times 100 " in options.command
    assert "--minutes" not in options.command

    (options.directory / "run.json").write_text(
        json.dumps(told(scenario="leader-kills,power-all", times=100))
    )
    again = ("--replay", str(options.directory), "--out", str(tmp_path / "b"))
    assert invoke(player, monkeypatch, *again).exit_code == 0
    assert (player.asked[1].times, player.asked[1].scenarios) == (100, options.scenarios)


@pytest.mark.parametrize(
    "words",
    [
        ("--times", "3"),
        ("--times", "3", "--minutes", "1", "--scenario", "kill"),
        ("--times", "0", "--scenario", "kill"),
    ],
)
def test_so_many_faults_of_nothing_or_within_minutes_are_refused(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    player = Player()
    result = invoke(player, monkeypatch, *words)
    assert result.exit_code == 2
    assert "--times" in result.output
    assert player.asked == []


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
    result = invoke(Player(error), monkeypatch, "--out", str(tmp_path), "--seed", "73")
    assert result.exit_code == 3
    assert f"error: the run could not begin: {error}" in result.output
    assert "Traceback" not in result.output
    assert "\nreplay: python -m chaos --seed 73 " in result.output


def test_a_crash_of_the_harness_says_how_to_see_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--out", str(tmp_path), "--seed", "1099511627775")  # as many bits as a commit gives
    result = invoke(Player(RuntimeError("a bug")), monkeypatch, *words)
    assert str(result.exception) == "a bug"
    assert "\nreplay: python -m chaos --seed 1099511627775 " in result.output


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


@pytest.mark.parametrize("minutes", ["5", "60"])
def test_the_tier_of_namespaces_has_scenarios_of_its_own_and_is_played_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: str
) -> None:
    monkeypatch.setattr(command, "missing", lambda: "")
    player = Player()
    words = ("--out", str(tmp_path), "--tier", "namespaces", "--minutes", minutes)
    result = invoke(player, monkeypatch, *words)
    assert result.exit_code == 0, result.output
    [line] = [line for line in result.output.splitlines() if line.startswith("replay: ")]
    again = shlex.split(line.removeprefix("replay: python -m chaos "))
    invoke(player, monkeypatch, *again, "--out", str(tmp_path / "b"))
    first, second = player.asked
    assert first.equipment.packets
    assert first.equipment == second.equipment
    assert list(dict.fromkeys(first.scenarios)) == list(PACKETS if minutes == "5" else LONG_PACKETS)


def test_where_there_are_no_namespaces_it_is_said_what_is_not_done_and_nothing_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "missing", lambda: "it takes root")
    player = Player()
    result = invoke(player, monkeypatch, "--out", str(tmp_path), "--tier", "namespaces")
    assert result.exit_code == 3
    assert f"not done: {', '.join(PACKETS)}: no tier of namespaces here: it takes root" in (
        result.output
    )
    assert "nothing was run" in result.output
    assert player.asked == []
    assert list(tmp_path.iterdir()) == []
    # The other tier asks for none.
    result = invoke(player, monkeypatch, "--out", str(tmp_path), "--scenario", "kill")
    assert result.exit_code == 0
    [options] = player.asked
    assert not options.equipment.packets


def told(**changes: Any) -> dict[str, Any]:
    asked = {"seed": 4, "minutes": 1.5, "scenario": "kill,pause", "nodes": 3, "tasks_per_s": 50}
    return {"version": 1, "commit": "abc", **asked, **changes}


def test_a_run_is_played_again_from_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.json").write_text(json.dumps(told(node_command="other-node")))
    player = Player()
    out = str(tmp_path / "out")
    assert invoke(player, monkeypatch, "--replay", str(tmp_path), "--out", out).exit_code == 0
    [options] = player.asked
    assert not options.equipment.packets
    assert (options.seed, options.minutes, options.tasks_per_s) == (4, 1.5, 50)
    assert options.node_command == "other-node"
    assert set(options.scenarios) == {"kill", "pause"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (json.dumps(told(version=2)), "is of version 2, and this is version 1: .* (abc)"),
        (json.dumps(told(scenario="kil")), "did you mean 'kill'"),
        (json.dumps(told(tier="moon")), "is not the run.json of a run"),
        (json.dumps({"version": 1}), "is not the run.json of a run"),
        ("[]", "is not the run.json of a run"),
        ("not JSON", "is not the run.json of a run"),
        (
            None,
            "has no run.json, so it is not the folder of a run; name the folder",
        ),
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


@pytest.mark.parametrize("says", ["there is no", "is not a folder", "has no run.json"])
def test_a_place_without_a_run_is_named_with_what_to_name_instead(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], says: str
) -> None:
    places = {
        "there is no": tmp_path / "nowhere",
        "is not a folder": tmp_path / "file",
        "has no run.json": tmp_path,
    }
    (tmp_path / "file").touch()
    assert check([str(places[says])]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert str(places[says]) in said
    assert says in said
    assert "name the folder that a run told when it began" in said
    assert "Errno" not in said


def test_a_folder_that_is_not_there_cannot_be_played_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = invoke(Player(), monkeypatch, "--replay", str(tmp_path / "nowhere"))
    assert result.exit_code == 2
    assert f"error: there is no {tmp_path / 'nowhere'}; name the folder" in result.output
    assert "Errno" not in result.output


def test_a_run_that_ended_before_anybody_called_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(tmp_path, Record())
    (folder / "history.jsonl").unlink()
    assert check([str(folder)]) == 2
    said = capsys.readouterr().err
    assert "neither history.jsonl nor journal-*.jsonl" in said
    assert "before its first client called" in said


def test_a_file_that_cannot_be_read_is_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(tmp_path, Record())
    (folder / "history.jsonl").unlink()
    (folder / "history.jsonl").mkdir()
    assert check([str(folder)]) == 2
    assert f"error: {folder}/history.jsonl cannot be read: Is a dir" in capsys.readouterr().err
    (folder / "run.json").unlink()
    (folder / "run.json").mkdir()
    result = invoke(Player(), monkeypatch, "--replay", str(folder))
    assert f"error: {folder}/run.json cannot be read: Is a directory" in result.output
    assert result.exit_code == 2


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


DOCUMENT = (ROOT / "docs/chaos.md").read_text(encoding="utf-8")
COMMANDS = re.findall(
    r"^    ((?:make|python -m) chaos(?![.-])\b.*?)(?:\s{2,}|$)", DOCUMENT, re.MULTILINE
)


def test_the_document_has_commands() -> None:
    assert "make chaos SCENARIO=leader-kills TIMES=100" in COMMANDS
    assert "make chaos SCENARIO=power-all TIMES=20" in COMMANDS
    assert len(COMMANDS) >= 10


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_document_asks_for_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    run_json = tmp_path / "run.json"
    run_json.write_text(json.dumps(told()))
    player = Player()
    words = shlex.split(line.replace("chaos/out/RUN", str(tmp_path)))
    if words[0] == "make":
        # Shows what it would do, and does nothing.
        dry = ["make", "--dry-run", "--no-print-directory", *words[1:]]
        # The tests may themselves be run by `make`, with variables of their own.
        inherited = {"MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "ARGS"}
        alone = {name: value for name, value in os.environ.items() if name not in inherited}
        shown = subprocess.run(
            dry, cwd=ROOT, env=alone, capture_output=True, text=True, check=True
        ).stdout
        [command_line] = re.findall(r"python (-m chaos.*)", shown.replace("\\\n", " "))
        words = ["python", *shlex.split(command_line)]
    result = invoke(player, monkeypatch, *words[3:], "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    for options in player.asked:
        for name, value in re.findall(r"\b(SCENARIO|TIMES|MINUTES|SEED)=(\"[^\"]*\"|\S+)", line):
            asked = {
                "SCENARIO": " ".join(dict.fromkeys(options.scenarios)),
                "TIMES": str(options.times),
                "MINUTES": f"{options.minutes:g}",
                "SEED": str(options.seed),
            }
            assert asked[name] == value.strip('"')
    assert player.asked or "--list" in line


def test_scenarios_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    result = invoke(Player(), monkeypatch, "--list")
    assert result.exit_code == 0
    assert all(name in result.output for name in SCENARIOS)
