"""Partial partitions, a few seeds of each; `python -m tests.simulation.partitions` plays more."""

from __future__ import annotations

import pytest

from tests.simulation.partitions import SHAPES, Shape, judge, part
from tests.simulation.plants import consensus
from tests.simulation.world import Parts

pytestmark = pytest.mark.sim

PARTED_S = 15.0


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_cluster_that_reaches_a_quorum_serves_and_keeps_its_leader(shape: Shape) -> None:
    seen = [part(shape, seed, parted_s=PARTED_S) for seed in (1, 2)]
    assert judge(shape, seen, late=False) is None, seen


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_late_messages_cost_few_slots(shape: Shape) -> None:
    seen = [part(shape, seed, late=True, parted_s=PARTED_S) for seed in (1, 2, 3)]
    assert judge(shape, seen, late=True) is None, seen


@pytest.mark.parametrize(
    ("shape", "engine"),
    [
        ("one link", consensus.NoPreVote),
        ("hub", consensus.StaysInOffice),
    ],
)
def test_without_the_rule_the_leader_is_lost_or_leads_on_alone(shape: str, engine: type) -> None:
    (played,) = [one for one in SHAPES if one.name == shape]
    seen = [part(played, 1, parts=Parts(engine=engine), parted_s=PARTED_S)]
    assert judge(played, seen, late=False) is not None, seen
