"""What all tests share: reproducible randomness, golden files, patience with a busy machine.

A test that wants randomness takes the fixture `seed` (or `rng`). The seed is drawn
anew in each run; a failure prints it together with the command that replays it.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

# A shared machine is slow at times: a deadline per example would fail for that alone.
settings.register_profile(
    "tq", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tq")

_SEED = pytest.StashKey[int]()


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
