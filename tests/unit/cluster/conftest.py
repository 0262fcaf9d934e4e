"""Clusters of real replicas for the tests of this folder."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.peer_counter import Cluster


@pytest.fixture
async def make_cluster(tmp_path: Path, rng: random.Random) -> AsyncIterator[Callable[..., Cluster]]:
    """Make clusters whose members the test's end stops."""
    made: list[Cluster] = []

    def make(**options: Any) -> Cluster:
        made.append(Cluster(tmp_path / f"cluster-{len(made)}", rng, **options))
        return made[-1]

    yield make
    for cluster in made:
        await cluster.close()
