"""How nodes end: by themselves, as asked, or because a fault had damaged their files."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chaos import cluster as clusters
from chaos.cluster import ChaosCluster, Equipment
from chaos.disks import Disk
from chaos.nodes import ChaosNode, Ports
from chaos.power import Power
from chaos.shims import COMPILER, NO_COMPILER, ShimError
from tests.support.ports import free_ports

STANDS = "import signal; signal.pause()"
DAMAGED = 'print(\'{"event": "node_failed", "text": "the database is damaged: Corruption"}\')'


class Nodes:
    """Makes nodes that run a line of Python, and ends them."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._made: list[ChaosNode] = []

    def __call__(self, code: str, *, power: object = None) -> ChaosNode:
        disk = Disk(self._place / "disk")
        disk.power = cast("Power | None", power)
        node = ChaosNode(
            7,
            [sys.executable, "-c", code],
            ports=Ports(raft=1, client=2, http=3, door=4),
            disk=disk,
            clock=None,
            log_path=self._place / "node-7.log",
            environment={},
            directory=self._place,
        )
        self._made.append(node)
        node.start()
        return node

    def close(self) -> None:
        for node in self._made:
            node.kill()


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    made = Nodes(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("hides", ["strike", "start", "freeze", "nothing"])
def test_a_node_that_has_ended_by_itself_is_told_once_whatever_is_done_to_it_next(
    nodes: Nodes, hides: str
) -> None:
    node = nodes("raise SystemExit(70)")
    node.wait(timeout_s=30)
    match hides:
        case "strike":
            node.strike("kill all")
        case "start":
            node.start()
        case "freeze":
            node.freeze()
    assert node.remarks()[:1] == ["node 7 ended by itself with exit code 70"]
    if hides != "start":
        assert node.remarks() == []


def test_a_node_that_was_struck_has_not_ended_by_itself(nodes: Nodes) -> None:
    node = nodes(STANDS)
    node.strike("kill leader")
    node.bury()
    assert node.remarks() == []
    assert node.exit_code() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("code", "patience_s", "ended"), [(STANDS, 0, -15), ("raise SystemExit(3)", 30, 3)]
)
async def test_a_node_that_does_not_end_in_good_order_when_it_has_to_is_told(
    nodes: Nodes, code: str, patience_s: float, ended: int
) -> None:
    node = nodes(code)
    node.down = "replace member" if patience_s else ""
    assert await node.leave("the end", patience_s=patience_s) == ended
    text = f"node 7 was to end in good order (the end) and ended with exit code {ended}"
    assert node.remarks() == [text]


async def test_a_node_that_ends_well_or_was_struck_before_is_in_good_order(nodes: Nodes) -> None:
    node = nodes("pass")
    node.down = "replace member"
    assert await node.leave("it was removed", patience_s=30) == 0
    assert node.remarks() == []
    node = nodes(STANDS)
    node.strike("kill all")
    node.bury()
    await node.leave("the end")
    assert node.remarks() == []


@pytest.mark.parametrize(
    ("damaged", "code", "rightly"),
    [
        ("flip table", DAMAGED, True),
        ("", DAMAGED, False),
        ("flip table", "raise SystemExit(70)", False),
        ("flip table", f"{DAMAGED}; print('something else')", False),
    ],
)
def test_a_node_may_end_for_its_files_if_a_fault_has_damaged_them(
    nodes: Nodes, damaged: str, code: str, rightly: bool
) -> None:
    node = nodes(code)
    node.damaged = damaged
    node.wait(timeout_s=30)
    assert node.ended_of_damage() is rightly
    assert bool(node.remarks()) is not rightly
    assert node.ended_of_damage() is rightly, "whoever looks after it starts it also then"
    node.down = "kill all"
    assert not node.ended_of_damage(), "the fault starts it when it is time"


@pytest.mark.skipif(COMPILER is None, reason=NO_COMPILER)
async def test_it_is_proved_that_a_node_has_loaded_what_faults_need(
    nodes: Nodes, tmp_path: Path
) -> None:
    power = Power(tmp_path / "disk", tmp_path / "power")
    ready = "open('ready', 'w').close()"
    node = nodes(f"{ready}; {STANDS}", power=power)

    async def loaded() -> bool | None:
        return not node.missing_libraries() or None

    cluster = cast("ChaosCluster", SimpleNamespace(tails=lambda: "", nodes={}))
    await ChaosCluster.wait_for(cluster, loaded, what="library")
    other = {**power.variables, "LD_PRELOAD": str(tmp_path / "other.so")}
    node = nodes(STANDS, power=SimpleNamespace(variables=other))
    assert node.missing_libraries() == [str(tmp_path / "other.so")]


async def test_the_last_stop_and_that_of_a_removed_node_are_judged(tmp_path: Path) -> None:
    launcher = [sys.executable, "-c", STANDS]
    cluster = ChaosCluster(tmp_path, ports=free_ports, launcher=launcher)
    removed, *rest = cluster.nodes.values()
    removed._libraries = []
    for node in cluster.nodes.values():
        node.start()
    removed.down = "replace member"
    removed.signal(signal.SIGTERM)
    await cluster.forget(removed)
    assert await cluster.close() == [
        f"node {removed.node_id} was to end in good order (it was removed) and ended with "
        "exit code -15",
        *(
            f"node {node.node_id} was to end in good order (the end) and ended with exit code -15"
            for node in rest
        ),
    ]


def test_a_cluster_that_cannot_be_made_leaves_no_disk_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted: list[Path] = []

    class Mounted(Disk):
        def __init__(self, root: Path, *, mib: int = 0) -> None:
            super().__init__(root)
            assert mib
            mounted.append(self.root)

        def close(self) -> None:
            mounted.remove(self.root)

    def refuse(*_: Any) -> Path:
        if len(mounted) > 1:
            raise ShimError("it does not compile")
        return tmp_path / "library.so"

    monkeypatch.setattr(clusters, "Disk", Mounted)
    monkeypatch.setattr(clusters, "build", refuse)
    with pytest.raises(ShimError):
        ChaosCluster(tmp_path, ports=free_ports, equipment=Equipment(disk_mib=4, power=True))
    assert mounted == []
