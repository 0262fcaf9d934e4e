"""What a simulated node gets of the world does as the real one."""

from __future__ import annotations

from cluster.faults import DiskDamagedError
from tests.simulation.options import Options
from tests.simulation.rim import SimTicker
from tests.simulation.world import World


def test_a_tick_that_raises_is_not_the_last() -> None:
    """Seed 195186147372995: a node that had met damage never looked whether it should end."""
    world = World(1, Options(nodes=1, kinds=()))
    node = world.nodes[1]
    node.start()
    node.hurts.add("flip")
    ticks: list[float] = []

    def tick() -> None:
        ticks.append(world.now)
        if len(ticks) == 1:
            raise DiskDamagedError("a block")

    world.plan(world.now, node.process, SimTicker(node, tick, lambda: None).start, ())
    world.run_until(world.now + 3.0)
    assert len(ticks) > 1
