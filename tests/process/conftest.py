"""Clusters of real processes; every one is ended when its test ends, passed or failed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.local.cluster import LocalCluster
from tests.process.raw_client import RawClient
from tests.support.ports import free_ports

ClusterMaker = Callable[..., LocalCluster]
Connect = Callable[..., RawClient]

GUARDED = (sys.executable, "-m", "tests.process.guarded_node")
"""Every node of these tests dies if it ever unpickles anything."""


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[ClusterMaker]:
    """Build clusters in the test's own directory with ports of its own; not yet started."""
    with ExitStack() as stack:

        def make(*, size: int = 3, name: str = "cluster", **options: object) -> LocalCluster:
            made = LocalCluster(
                tmp_path / name,
                size=size,
                launcher=GUARDED,
                ports=free_ports(3 * size),
                **options,  # type: ignore[arg-type]  # passed on as they are
            )
            return stack.enter_context(made)

        yield make


@pytest.fixture
def cluster(make_cluster: ClusterMaker) -> LocalCluster:
    """Three nodes of this test alone, ready, with a leader."""
    made = make_cluster()
    made.start()
    return made


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Three nodes for the tests of a module that neither stop nor fill them."""
    with LocalCluster(
        tmp_path_factory.mktemp("shared"), ports=free_ports(9), launcher=GUARDED
    ) as made:
        made.start()
        yield made


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Open raw connections to an address; all are closed when the test ends."""
    with ExitStack() as stack:

        def open_one(address: str, **options: bool) -> RawClient:
            client = RawClient(address, **options)
            stack.callback(client.close)
            return client

        yield open_one
