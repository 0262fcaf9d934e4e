"""What all tests share: reproducible randomness, golden files, patience with a busy machine.

A test that wants randomness takes the fixture `seed` (or `rng`). The seed is drawn
anew in each run; a failure prints it together with the command that replays it.

A test that holds real processes to a time is marked `alone`: where several processes share
the tests of a run (`-n`), no other test runs meanwhile. Such tests come last.
"""

from __future__ import annotations

import fcntl
import os
import random
import secrets
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

# A shared machine is slow at times: a deadline per example would fail for that alone.
settings.register_profile(
    "tq", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tq")

_SEED = pytest.StashKey[int]()

DOOR: Final = Path(__file__)
"""Locked while a test waits to begin: whoever wants to be alone is not overtaken for ever."""
ROOM: Final = DOOR.parent
"""Locked while a test runs, shared by those that bear company."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that replay a random test and accept new golden files."""
    group = parser.getgroup("tq")
    group.addoption("--seed", type=int, default=None, help="replay tests that take a seed")
    group.addoption(
        "--rewrite",
        action="store_true",
        help="write what golden tests saw; commit it only if you understand the difference",
    )


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A seed of this run alone, or the one given with --seed."""
    given: int | None = request.config.getoption("--seed")
    drawn = secrets.randbits(32) if given is None else given
    request.node.stash[_SEED] = drawn
    return drawn


@pytest.fixture
def rng(seed: int) -> random.Random:
    """A generator started from the test's seed."""
    return random.Random(seed)


@pytest.fixture
def rewrite(request: pytest.FixtureRequest) -> bool:
    """Whether golden tests write what they saw instead of comparing."""
    return bool(request.config.getoption("--rewrite"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell how to replay a failed test that used a seed."""
    report = yield
    seed = item.stash.get(_SEED, None)
    if report.failed and seed is not None:
        command = f'python -m pytest "{item.nodeid}" --seed {seed}'
        report.sections.append(("replay", f"seed {seed}; replay with: {command}"))
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let those that want to be alone come last: one at a time, they wait for nobody else."""
    items.sort(key=_is_alone)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Begin when there is room; waiting is outside of the test's timeout."""
    if not hasattr(item.config, "workerinput"):  # one process runs one test after the other
        return (yield)
    with room(alone=_is_alone(item)):
        return (yield)


def _is_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


@contextmanager
def room(*, alone: bool) -> Iterator[None]:
    """Be where tests run, alone or with others; the system lets go of it if the process ends."""
    inside = os.open(ROOM, os.O_RDONLY)
    try:
        door = os.open(DOOR, os.O_RDONLY)
        try:
            fcntl.flock(door, fcntl.LOCK_EX)
            fcntl.flock(inside, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        finally:
            os.close(door)
        yield
    finally:
        os.close(inside)
