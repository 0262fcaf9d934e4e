"""The power of all nodes goes at once, and with it every byte that was not synced."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.power import COMPILER, NO_COMPILER, Power
from deploy.local.cluster import LocalCluster
from tests.process.conftest import GUARDED
from tests.process.load import Load
from tests.process.replicas import equal_digests
from tests.process.test_leader_killed_under_load import not_found
from tests.support.ports import free_ports

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(COMPILER is None, reason=NO_COMPILER),
]

log = logging.getLogger(__name__)
"""`--log-cli-level=info` shows the figures of a run."""


class PoweredCluster(LocalCluster):
    """Three nodes on disks whose power can be cut."""

    def __init__(self, directory: Path) -> None:
        self.power = Power(directory / "disks", directory / "power")
        super().__init__(
            self.power.root, launcher=self.power.launcher(GUARDED), ports=free_ports(9)
        )

    def lose_power(self) -> None:
        """Kill all nodes before the first is waited for, and take back what was not synced."""
        for node in self.nodes.values():
            node.signal(signal.SIGKILL)
        for node in self.nodes.values():
            node.kill()
        self.power.cut(node.data_dir.name for node in self.nodes.values())


@pytest.fixture
def powered(tmp_path: Path) -> Iterator[PoweredCluster]:
    """Three running nodes with a leader."""
    with PoweredCluster(tmp_path) as cluster:
        cluster.start()
        yield cluster


async def cut_under_load(cluster: PoweredCluster, rounds: int) -> set[str]:
    """Cut the power in every round while tasks are submitted; return what was acknowledged."""
    accepted: set[str] = set()
    for number in range(rounds):
        load = Load(cluster.servers, total=1_000, seconds=1.0, workers=0)
        half = load.mark(0.5)
        producer = asyncio.create_task(load.produce())
        try:
            await half.wait()
            promised = len(load.accepted)
            await asyncio.to_thread(cluster.lose_power)
            await asyncio.to_thread(cluster.start)
            await producer
        finally:
            producer.cancel()
        accepted |= load.accepted
        log.info("round %d: cut with %d of 1000 tasks acknowledged", number + 1, promised)
    assert len(accepted) == rounds * 1_000
    return accepted


async def test_a_power_loss_of_all_nodes_loses_no_acknowledged_task(
    powered: PoweredCluster,
) -> None:
    accepted = await cut_under_load(powered, 1)
    assert set() == await not_found(powered.servers, accepted)
    equal_digests(powered)


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_twenty_power_losses_lose_no_acknowledged_task(powered: PoweredCluster) -> None:
    accepted = await cut_under_load(powered, 20)
    missing = await not_found(powered.servers, accepted)
    log.info("%d tasks acknowledged over 20 power losses, %d lost", len(accepted), len(missing))
    assert set() == missing
    equal_digests(powered)


async def test_with_the_fsync_switched_off_acknowledged_tasks_are_lost(
    powered: PoweredCluster,
) -> None:
    before, after = (Load(powered.servers, total=500, seconds=1, workers=0) for _ in range(2))
    await before.produce()
    await asyncio.to_thread(equal_digests, powered)
    powered.power.order("lie")
    await after.produce()
    await asyncio.to_thread(powered.lose_power)
    await asyncio.to_thread(powered.start)
    assert after.accepted <= await not_found(powered.servers, after.accepted), (
        "nothing was lost: this test does not take unsynced bytes back, and so proves nothing"
    )
    assert set() == await not_found(powered.servers, before.accepted)
