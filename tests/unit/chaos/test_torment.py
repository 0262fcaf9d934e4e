"""How a scenario is played: so many times or until told to stop, one fault at a time."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chaos import run
from chaos.clients import Clients
from chaos.cluster import ChaosCluster
from chaos.faults import FAULTS, Fault, MissedError, Record
from chaos.run import Options, Report, RunFailedError
from chaos.scenarios import Scenario
from chaos.torment import Course, torment
from tests.support.virtual_time import in_virtual_time

PRETENCE = "pretence"


class Calm:
    """Stands for a cluster: notes what is done to it."""

    def __init__(self) -> None:
        self.story: list[str] = []
        self.nodes: dict[int, Any] = {}

    async def heal_all(self) -> None:
        self.story.append("all healed")

    async def wait_ready(self, *, timeout_s: float = 60) -> None:
        self.story.append("ready")

    def clear_quarantines(self) -> None:
        self.story.append("no quarantine")

    async def wait_for(
        self, probe: Callable[[], Awaitable[object]], *, what: str, timeout_s: float = 20
    ) -> None:
        assert await probe()

    def surprises(self) -> list[str]:
        return []

    @property
    def as_cluster(self) -> ChaosCluster:
        return cast("ChaosCluster", self)


class Pretence(Fault):
    """A fault that does nothing but say so."""

    def __init__(self, story: list[str], *, why_not: str = "") -> None:
        super().__init__(PRETENCE, hold_s=(0.0, 0.0))
        self._story = story
        self._why_not = why_not

    async def begin(self, cluster: ChaosCluster, rng: random.Random) -> list[Record]:
        self._story.append("begin")
        return self.note([])

    async def heal(self) -> None:
        self._story.append(f"heal at {asyncio.get_running_loop().time():g} s")

    def refuses(self, cluster: ChaosCluster) -> str:
        return self._why_not


class Fallen(Calm):
    """One of whose nodes has ended by itself, which nobody can see once a fault has begun."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes = {2: SimpleNamespace(running=False, status=self._status)}

    async def _status(self) -> dict[str, bool]:
        return {"disk_low": False}

    async def heal_all(self) -> None:
        await super().heal_all()
        self.nodes[2].running = True

    def surprises(self) -> list[str]:
        return [] if self.story else ["node 2 ended by itself with exit code 70"]


@in_virtual_time
async def test_a_node_that_has_ended_before_a_fault_is_told_and_whole_again_when_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Fallen()
    monkeypatch.setitem(FAULTS, PRETENCE, lambda: Pretence(cluster.story))
    rng = random.Random(1)
    one = scenario(times=1)
    course = await torment(cluster.as_cluster, one, rng, tmp_path / "faults", asyncio.Event())
    assert course.surprises == [f"before {PRETENCE}: node 2 ended by itself with exit code 70"]
    assert cluster.story[:3] == ["all healed", "ready", "begin"]


class Miss(Pretence):
    """A fault that finds nothing to hit."""

    async def begin(self, cluster: ChaosCluster, rng: random.Random) -> list[Record]:
        await super().begin(cluster, rng)
        raise MissedError("nobody asked for anything")


@in_virtual_time
async def test_a_fault_that_hits_nothing_is_not_counted_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Calm()
    monkeypatch.setitem(FAULTS, PRETENCE, lambda: Miss(cluster.story))
    log = tmp_path / "faults"
    rng = random.Random(1)
    course = await torment(cluster.as_cluster, scenario(times=5), rng, log, asyncio.Event())
    assert course.faults.total() == 0
    assert log.read_text() == ""
    assert course.surprises == [f"{PRETENCE}: nobody asked for anything"] * 3
    assert course.skipped == {PRETENCE: "it hit nothing 3 times"}


class Damaging(Pretence):
    """A fault that damages the files of a node."""

    async def begin(self, cluster: ChaosCluster, rng: random.Random) -> list[Record]:
        self.kind = "flip table"
        return self.note(cluster.nodes.values())


@in_virtual_time
async def test_it_is_remembered_whose_files_a_fault_has_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Fallen()
    cluster.nodes[2].node_id = 2
    monkeypatch.setitem(FAULTS, PRETENCE, lambda: Damaging(cluster.story))
    one = scenario(times=1)
    rng = random.Random(1)
    await torment(cluster.as_cluster, one, rng, tmp_path / "faults", asyncio.Event())
    assert cluster.nodes[2].damaged == "flip table"


def scenario(**more: Any) -> Scenario:
    return Scenario(PRETENCE, "nothing", (PRETENCE,), calm_s=(0.0, 0.0), **more)


@in_virtual_time
async def test_so_many_faults_are_done_each_when_all_nodes_are_ready_after_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Calm()
    monkeypatch.setitem(FAULTS, PRETENCE, lambda: Pretence(cluster.story))
    log = tmp_path / "faults"
    rng = random.Random(1)
    story = scenario(times=3, hold_s=(2.0, 2.0))
    course = await torment(cluster.as_cluster, story, rng, log, asyncio.Event())
    assert cluster.story == [
        *("begin", "heal at 2 s", "all healed", "ready", "no quarantine"),
        *("begin", "heal at 4 s", "all healed", "ready", "no quarantine"),
        *("begin", "heal at 6 s", "all healed", "ready", "no quarantine"),
    ]
    assert course.faults.total() == 3
    kinds = [json.loads(line)["kind"] for line in log.read_text().splitlines()]
    assert kinds == [PRETENCE] * 3


@in_virtual_time
async def test_without_a_number_it_goes_on_until_it_is_told_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, stop = Calm(), asyncio.Event()
    monkeypatch.setitem(FAULTS, PRETENCE, lambda: Pretence(cluster.story))
    asyncio.get_running_loop().call_later(50, stop.set)
    story = scenario(hold_s=(2.0, 2.0))
    rng = random.Random(1)
    course = await torment(cluster.as_cluster, story, rng, tmp_path / "faults", stop)
    assert 20 <= course.faults.total() <= 26


class Steady:
    """Stands for the clients of a run."""

    def __init__(self, idle: tuple[str, ...] = ()) -> None:
        self._idle = list(idle)

    def trouble(self) -> str:
        return ""

    def idle(self) -> list[str]:
        return [self._idle.pop()] if self._idle else []


def options(place: Path, **more: Any) -> Options:
    return Options(
        seed=1,
        scenarios=["leader-kills", "power-all"],
        nodes=3,
        directory=place,
        tasks_per_s=1,
        **{"minutes": 5, **more},
    )


async def hurt(asked: Options, does: Callable[[Scenario, asyncio.Event], Awaitable[None]]) -> Any:
    """Play scenarios whose faults are all refused but one; return the report."""
    report = Report()

    async def one_of_them(*given: Any) -> Course:
        await does(given[1], given[4])
        course = Course(skipped={"power all": "no C compiler"})
        course.faults["kill leader"] += 1
        return course

    clients = cast("Clients", Steady())
    await run._torment(asked, Calm().as_cluster, clients, one_of_them, report)
    return report


@in_virtual_time
async def test_a_run_of_so_many_faults_has_no_end_in_time_and_says_how_many_are_missing(
    tmp_path: Path,
) -> None:
    played: list[tuple[str, int]] = []
    said: list[str] = []

    async def for_hours(scenario: Scenario, stop: asyncio.Event) -> None:
        played.append((scenario.name, scenario.times))
        await asyncio.sleep(7_000)
        assert not stop.is_set()

    report = await hurt(options(tmp_path, times=20, tell=said.append), for_hours)
    assert played == [("leader-kills", 20), ("power-all", 20)]
    assert report.troubles == [
        "leader-kills: 1 of 20 faults were done",
        "power-all: 1 of 20 faults were done",
    ]
    assert said == ["leader-kills begins, 1 of 2", "power-all begins, 2 of 2"]


@in_virtual_time
async def test_a_run_of_so_many_minutes_shares_them_between_scenarios(tmp_path: Path) -> None:
    async def until_told(scenario: Scenario, stop: asyncio.Event) -> None:
        assert scenario.times == 0
        await stop.wait()

    report = await hurt(options(tmp_path), until_told)
    assert report.troubles == []
    assert asyncio.get_running_loop().time() == pytest.approx(300, abs=5)


@in_virtual_time
async def test_nothing_is_done_before_every_process_of_clients_is_at_work() -> None:
    await run._warm_up(cast("Clients", Steady(idle=("main", "workers-1"))))
    assert asyncio.get_running_loop().time() == pytest.approx(run.WARM_UP_S + 1.0)


@in_virtual_time
async def test_clients_that_never_begin_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "WARM_UP_MAX_S", -1.0)
    with pytest.raises(RunFailedError, match="no calls within -1 s from workers-1"):
        await run._warm_up(cast("Clients", Steady(idle=("workers-1",))))
