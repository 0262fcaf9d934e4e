"""Flipped bits: where they are said to be, and flipped back as long as nobody has found them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from chaos.cluster import ChaosCluster
from chaos.faults import FAULTS
from chaos.spots import flip

CONTENT = bytes(range(200))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "000245.sst"
    path.write_bytes(CONTENT)
    return path


def test_one_bit_is_flipped_and_flipped_back(path: Path) -> None:
    spot = flip(path, range(50, 60), random.Random(1))
    flipped = path.read_bytes()
    [at] = [at for at, byte in enumerate(flipped) if byte != CONTENT[at]]
    assert at in range(50, 60)
    assert (flipped[at] ^ CONTENT[at]).bit_count() == 1
    assert str(spot) == f"bit {spot.bit} of byte {at} of 200 in 000245.sst"

    assert spot.mend()
    assert path.read_bytes() == CONTENT
    assert not spot.mend()
    assert path.read_bytes() == CONTENT


def move(path: Path) -> None:
    """As a node does with a database that it has found to be damaged."""
    kept = path.rename(path.with_name("quarantine"))
    assert kept.exists()


def replace(path: Path) -> None:
    """As a node does that was filled again: a file of that name, and another one."""
    flipped = path.read_bytes()
    move(path)
    path.write_bytes(flipped)


def overwrite(path: Path) -> None:
    path.write_bytes(bytes(200))


@pytest.mark.parametrize("happens", [move, replace, overwrite])
def test_what_is_another_file_by_now_is_left_alone(
    path: Path, happens: Callable[[Path], None]
) -> None:
    spot = flip(path, range(200), random.Random(2))
    happens(path)
    found = path.read_bytes() if path.exists() else b""

    assert not spot.mend()
    assert (path.read_bytes() if path.exists() else b"") == found


def content_of(path: Path) -> bytes:
    return path.read_bytes()


class WasAskedError(Exception):
    """The cluster was asked whether all is well."""


@pytest.mark.parametrize(
    "kind", ["torn tail", "flip wal", "flip table", "damaged witness", "replace member"]
)
async def test_before_a_second_node_loses_data_the_first_is_put_right(
    path: Path, kind: str
) -> None:
    spot = flip(path, range(200), random.Random(3))

    async def wait_ready() -> None:
        raise WasAskedError(spot.mend())

    cluster = SimpleNamespace(spots=[spot], wait_ready=wait_ready)
    cluster.mend_spots = lambda: ChaosCluster.mend_spots(cast("ChaosCluster", cluster))
    with pytest.raises(WasAskedError, match="False"):  # there is nothing left to mend
        await FAULTS[kind]().begin(cast("ChaosCluster", cluster), random.Random(4))
    assert cluster.spots == []
    assert content_of(path) == CONTENT
