"""Teeth: with one rule taken out, some seed must notice. `make sim-teeth` looks for all bugs."""

from __future__ import annotations

import pytest

from tests.simulation import teeth
from tests.simulation.plants.catalogue import PLANTS
from tests.simulation.plants.plant import Plant

pytestmark = pytest.mark.sim

QUICK = (
    *("SpeaksEarly", "StockTruncation", "VouchesAtOnce", "NoPreVote", "ManyAtOnce"),
    *("AcceptsAnyToken", "GrantsTheSameToken", "ReadsTheClockInApply"),
)
"""Found in a second or two each."""
SEEDS_MAX = 20


@pytest.mark.parametrize("name", QUICK)
def test_planted_bug_is_found(name: str) -> None:
    one = teeth.bite(name, seeds_max=SEEDS_MAX)
    assert one.found, teeth.show(one)


def test_planted_bugs_have_names_of_their_own() -> None:
    names = [plant.name for plant in PLANTS]
    assert len(set(names)) == len(names)
    assert set(QUICK) <= set(names)


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_what_was_planted_is_taken_out_again(plant: Plant) -> None:
    before = [_there(*place) for place, _ in plant.places]
    with plant.planted():
        changed = [_there(*place) for place, _ in plant.places]
    assert [_there(*place) for place, _ in plant.places] == before
    assert all(one is not other for one, other in zip(before, changed, strict=True))
    assert plant.places or plant.parts != plant.control, "nothing is planted"


def _there(owner: object, name: object) -> object:
    return owner[name] if isinstance(owner, dict) else getattr(owner, str(name))
