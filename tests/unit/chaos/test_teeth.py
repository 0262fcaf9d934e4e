"""The teeth of the chaos suite: bugs go where they say, and a run is read as it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from statemachine import submitting
from tests.chaos_teeth import __main__ as teeth
from tests.chaos_teeth import bugs
from tests.chaos_teeth.plants import PLANTS, Plant
from tests.simulation.plants import queue
from tests.unit.node import world
from tq.protocol import Type

ROOT = Path(__file__).resolve().parents[3]
FENCING = PLANTS["fencing"]


@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
def test_a_bug_takes_the_place_of_something_the_node_has(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    for (owner, name), value in plant.places:
        before = _there(owner, name)
        assert before is not value
        if isinstance(owner, dict):
            monkeypatch.setitem(owner, name, before)
        else:
            monkeypatch.setattr(owner, str(name), before)
    plant.plant()
    assert [value for _, value in plant.places] == [_there(*place) for place, _ in plant.places]


def _there(owner: Any, name: Any) -> object:
    return owner[name] if isinstance(owner, dict) else getattr(owner, name)


def test_a_node_with_a_bug_takes_the_flags_of_a_node() -> None:
    command = [sys.executable, "-m", "tests.chaos_teeth.planted_node", "fencing", "--help"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert "--peers" in told.stdout


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> world.World:
    monkeypatch.setattr(submitting, "_submit", queue.forgets_what_has_ended)
    monkeypatch.setattr(world, "Broker", bugs.LeaderRemembers)
    return world.World()


def test_a_leader_that_keeps_ids_to_itself_is_right_until_it_falls(forgetful: world.World) -> None:
    client = forgetful.client()

    def submitted(task_id: bytes, payload: bytes = b"x") -> tuple[int, list[Any]]:
        return client.ask(Type.SUBMIT_TASK, task_id, "q", "work", payload, {})

    task_id = forgetful.task_id()
    _, [first] = submitted(task_id)
    client.ack(Type.CANCEL_TASK, task_id, "over")

    assert submitted(task_id) == (Type.ACK, [first])
    assert submitted(task_id, b"other")[1][0] == "CONFLICT"
    forgetful.follow()
    forgetful.lead()
    kind, [again] = submitted(task_id)
    assert kind == Type.ACK
    assert again > first


def run_files(place: Path, *, broken: tuple[str, ...] = (), troubles: tuple[str, ...] = ()) -> None:
    folder = place / "20260101-000000-1"
    folder.mkdir(parents=True)
    verdicts = [
        {"name": name, "ok": name not in broken, "violations": [f"{name} is broken\nlong"]}
        for name in ("durable", "fencing")
    ]
    (folder / "verdicts.json").write_text(json.dumps(verdicts))
    (folder / "run.json").write_text(json.dumps({"troubles": troubles}))


def test_what_a_run_noticed_is_read_from_its_verdicts_and_troubles(tmp_path: Path) -> None:
    run_files(tmp_path / "a", broken=("fencing",), troubles=("node 1 ended by itself",))
    run_files(tmp_path / "b", troubles=("node 1 ended by itself",))
    (tmp_path / "c").mkdir()
    assert teeth.told(tmp_path / "a") == (("fencing", "trouble"), "fencing is broken", "")
    assert teeth.told(tmp_path / "b") == (("trouble",), "node 1 ended by itself", "")
    assert teeth.told(tmp_path / "c") == ((), "", "")
    crash = "the client process main ended by itself"
    run_files(tmp_path / "d", broken=("durable",), troubles=(f"{crash}:\nTraceback",))
    assert teeth.told(tmp_path / "d")[2] == f"{crash}:"


class Player:
    """Stands for the suite: ends with given exit codes, planted and sound."""

    def __init__(
        self, *planted: int, sound: int = 0, checker: str = "fencing", crash: str = ""
    ) -> None:
        self._planted = list(planted)
        self._sound = sound
        self._checker = checker
        self._crash = crash
        self.seeds: list[tuple[int, bool]] = []

    def __call__(self, plant: Plant, seed: int, place: Path, *, planted: bool) -> teeth.Run:
        self.seeds.append((seed, planted))
        code = self._planted.pop(0) if planted else self._sound
        red = (self._checker,) if code == 1 else ()
        return teeth.Run(code, seed, 1.0, red, "a stale token wins", self._crash, place / "log")


@pytest.mark.parametrize(
    ("player", "played", "code", "said"),
    [
        (Player(1), [(1, True), (1, False)], 0, "1 found, and nothing without them"),
        (Player(0, 1), [(1, True), (2, True), (2, False)], 0, "a stale token wins"),
        (Player(1, sound=1), [(1, True), (1, False)], 1, "exit code 1 WITHOUT THE BUG"),
        (Player(3), [(1, True)], 1, "exit code 3"),
        (Player(1, crash="the client process"), [(1, True)], 1, "the client process"),
    ],
)
def test_a_bug_is_found_when_the_suite_is_red_with_it_and_green_without(
    player: Player,
    played: list[tuple[int, bool]],
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(teeth, "play", player)
    assert teeth.main(["--only", "fencing"]) == code
    assert player.seeds == played
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("player", "budget_s"),
    [(Player(), 0.0), (Player(1), 1e-9), (Player(1, checker="order"), 1e-9)],
    ids=["no time", "too late", "another checker"],
)
def test_a_bug_that_stays_hidden_for_too_long_is_not_found(
    player: Player,
    budget_s: float,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(teeth, "BUDGET_S", budget_s)
    monkeypatch.setattr(teeth, "play", player)
    assert teeth.main(["--only", "fencing"]) == 1
    assert "NOT FOUND" in capsys.readouterr().out
