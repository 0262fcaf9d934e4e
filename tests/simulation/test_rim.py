"""What a simulated node gets of the world does as the real one, and when its ends are too many."""

from __future__ import annotations

import pytest

from cluster.faults import DiskDamagedError
from tests.simulation.invariants import Violation
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


@pytest.mark.parametrize("hurt_again", [True, False])
def test_a_node_may_end_as_often_as_something_is_done_to_it(*, hurt_again: bool) -> None:
    """Seed 82912578929419: each of six ends was for another fsync that failed."""
    world = World(1, Options(nodes=1, kinds=()))
    node = world.nodes[1]
    node.start()
    node.hurt("flip")

    def end_ten_times() -> None:
        for _ in range(10):
            if hurt_again:
                node.hurt("eio")
            node.failed("an fsync")

    if hurt_again:
        end_ten_times()
    else:
        with pytest.raises(Violation, match="ends again and again"):
            end_ten_times()
