"""Faults of whole nodes: hit together, put right one by one."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chaos.cluster import ChaosCluster
from chaos.disks import MIB
from chaos.faults import FAULTS, MissedError, disk_error
from chaos.scenarios import SCENARIOS, gap_bounds, tail_bounds


class Node:
    """Stands for a node: notes what is done to it in a story that all share."""

    def __init__(self, node_id: int, story: list[str]) -> None:
        self.node_id = node_id
        self.running = True
        self._story = story
        self.disk = SimpleNamespace(
            fill=self._fill,
            free=lambda: self._note("free"),
            data=SimpleNamespace(name="data"),
            power=SimpleNamespace(cut=lambda names: self._note(f"lose power below {names[0]}")),
        )

    def _note(self, what: str) -> None:
        self._story.append(f"{what} {self.node_id}")

    def _fill(self) -> int:
        self._note("fill")
        return self.node_id * MIB

    def strike(self, why: str) -> None:
        self._note("strike")

    def bury(self) -> None:
        self._note("bury")
        self.running = False

    def start(self) -> None:
        self._note("start")
        self.running = True

    def freeze(self) -> None:
        self._note("freeze")

    def thaw(self) -> None:
        self._note("thaw")


@pytest.mark.parametrize(
    ("kind", "hit", "mended", "detail"),
    [
        ("kill all", ["strike", "bury"], ["start"], ""),
        ("pause all", ["freeze"], ["thaw"], ""),
        ("power all", ["strike", "bury", "lose power below data"], ["start"], ""),
        ("disk full all", ["fill"], ["free"], "MiB taken, none left"),
    ],
)
async def test_all_nodes_are_hit_at_one_moment_and_each_is_put_right(
    kind: str, hit: list[str], mended: list[str], detail: str
) -> None:
    story: list[str] = []
    nodes = {number: Node(number, story) for number in (1, 2, 3)}
    cluster = cast("ChaosCluster", SimpleNamespace(nodes=nodes))
    fault = FAULTS[kind]()
    await fault.heal()
    assert story == [], "nothing was done yet, and there is nothing to take back"

    [record] = await fault.begin(cluster, random.Random(4))

    assert sorted(record.nodes) == [1, 2, 3]
    # None is waited for before all are hit.
    for number, what in enumerate(hit):
        assert {f"{what} {node}" for node in nodes} == set(story[number * 3 : number * 3 + 3])
    assert detail in record.detail
    story.clear()
    await fault.heal()
    await fault.heal()
    assert sorted(story) == sorted(f"{what} {node}" for what in mended for node in nodes)


async def test_a_node_that_somebody_started_already_is_not_started_again() -> None:
    story: list[str] = []
    nodes: dict[int, Any] = {number: Node(number, story) for number in (1, 2, 3)}
    fault = FAULTS["kill all"]()
    await fault.begin(cast("ChaosCluster", SimpleNamespace(nodes=nodes)), random.Random(4))
    nodes[2].running = True
    await fault.heal()
    assert sorted(one for one in story if one.startswith("start")) == ["start 1", "start 3"]


async def test_a_worker_that_has_ended_cannot_be_stopped_where_it_stands() -> None:
    ended = SimpleNamespace(running=False, signal=lambda _: None)
    fault = FAULTS["worker frozen"]()
    cluster = cast("ChaosCluster", SimpleNamespace(workers={"workers-1": ended}))
    with pytest.raises(MissedError, match="workers-1 has ended"):
        await fault.begin(cluster, random.Random(4))
    await fault.heal()
    assert fault.records == []


async def test_a_disk_that_nobody_asks_to_make_sure_has_not_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(disk_error, "_EXIT_S", 0.0)
    orders: list[str] = []
    power = SimpleNamespace(
        order=orders.append, ordered=orders.__contains__, repair=lambda: orders.append("repair")
    )
    node = SimpleNamespace(
        node_id=1, running=True, down="", disk=SimpleNamespace(power=power), exit_code=lambda: 70
    )

    async def leader() -> Any:
        return node

    cluster = cast("ChaosCluster", SimpleNamespace(nodes={1: node}, wait_leader=leader))
    fault = FAULTS["fsync error"]()
    with pytest.raises(MissedError, match="node 1 asked for no fsync"):
        await fault.begin(cluster, random.Random(4))
    await fault.heal()
    assert orders == ["once", "repair"]
    assert node.down == ""


def test_a_hundred_leader_kills_take_minutes_and_have_a_bound_on_their_tail() -> None:
    scenario = SCENARIOS["leader-kills"]
    assert scenario.hold_s is not None
    seconds = 100 * (sum(scenario.hold_s) + sum(scenario.calm_s)) / 2
    assert seconds < 3 * 60, "the rest goes to starting the node that was killed"
    assert tail_bounds(["leader-kills", "kill"]) == {"kill leader": 2_000}
    assert gap_bounds(["leader-kills"])["kill leader"] > 2_000


def test_all_nodes_lose_power_at_once_in_a_scenario_of_its_own() -> None:
    assert SCENARIOS["power-all"].kinds == ("power all",)
    assert "power all" in SCENARIOS["power"].kinds
