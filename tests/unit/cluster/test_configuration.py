"""Configurations: values that survive their bytes, and nothing else is taken for one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.configuration import (
    CONFIGURATION_MARK,
    MEMBERS_MAX,
    NOBODY,
    Configuration,
    ConfigurationError,
)

ADDRESS = ("127.0.0.1", 7400)

_IDS = st.integers(0, 2**32 - 1)
_ADDRESSES = st.tuples(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=255),
    st.integers(1, 65535),
)


@st.composite
def configurations(draw: st.DrawFn) -> Configuration:
    members = draw(st.lists(_IDS, unique=True, max_size=MEMBERS_MAX))
    split = draw(st.integers(0, len(members)))
    known = draw(st.lists(st.sampled_from(members), unique=True)) if members else []
    addresses = {member: draw(_ADDRESSES) for member in known}
    return Configuration(tuple(members[:split]), tuple(members[split:]), addresses)


@given(configurations())
def test_a_configuration_survives_its_bytes_and_its_entry(configuration: Configuration) -> None:
    assert Configuration.from_bytes(configuration.to_bytes()) == configuration
    entry = configuration.to_entry()
    assert entry[:1] == CONFIGURATION_MARK
    assert Configuration.from_entry(entry) == configuration


@given(configurations(), st.integers(1, 9))
def test_bytes_that_are_cut_short_or_longer_are_refused(
    configuration: Configuration, count: int
) -> None:
    data = configuration.to_bytes()
    for wrong in (data[:-count], data + b"\0" * count):
        with pytest.raises(ConfigurationError):
            Configuration.from_bytes(wrong)


@given(st.binary(max_size=80))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    try:
        configuration = Configuration.from_bytes(data)
    except ConfigurationError:
        return
    assert configuration.to_bytes() == data


@given(configurations(), st.data())
def test_a_flipped_bit_is_another_configuration_or_none(
    configuration: Configuration, data: st.DataObject
) -> None:
    content = bytearray(configuration.to_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        other = Configuration.from_bytes(bytes(content))
    except ConfigurationError:
        return
    assert other != configuration


@pytest.mark.parametrize(
    ("voters", "learners", "addresses", "reason"),
    [
        ((1, 1), (), {}, "twice"),
        ((1,), (1,), {}, "twice"),
        ((-1,), (), {}, "node id"),
        ((1 << 32,), (), {}, "node id"),
        (tuple(range(MEMBERS_MAX)), (99,), {}, "more than 32"),
        ((1,), (), {1: ("", 7400)}, "not an address"),
        ((1,), (), {1: ("höst", 7400)}, "not an address"),
        ((1,), (), {1: ("host" * 64, 7400)}, "not an address"),
        ((1,), (), {1: ("host", 0)}, "not an address"),
        ((1,), (), {1: ("host", 65536)}, "not an address"),
    ],
)
def test_what_is_no_configuration_cannot_be_made(
    voters: tuple[int, ...],
    learners: tuple[int, ...],
    addresses: dict[int, tuple[str, int]],
    reason: str,
) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        Configuration(voters, learners, addresses)


def test_order_does_not_matter_and_strangers_have_no_address() -> None:
    one = Configuration((3, 1), (7, 5), {1: ADDRESS, 9: ADDRESS})
    assert one == Configuration((1, 3), (5, 7), {1: ADDRESS})
    assert one.members == (1, 3, 5, 7)
    assert one.to_bytes() == Configuration((1, 3), (5, 7), {1: ADDRESS}).to_bytes()


@pytest.mark.parametrize(("voters", "quorum"), [(0, 1), (1, 1), (2, 2), (3, 2), (4, 3), (5, 3)])
def test_a_quorum_is_more_than_half_of_the_voters(voters: int, quorum: int) -> None:
    learners = (100, 101, 102)
    assert Configuration(tuple(range(voters)), learners).quorum == quorum


def test_a_node_comes_as_a_learner_is_promoted_and_leaves() -> None:
    founding = Configuration((1, 2, 3))
    grown = founding.with_learner(4, ADDRESS)
    assert (grown.voters, grown.learners, grown.addresses) == ((1, 2, 3), (4,), {4: ADDRESS})
    promoted = grown.promoted(4)
    assert (promoted.voters, promoted.learners) == ((1, 2, 3, 4), ())
    assert promoted.addresses == {4: ADDRESS}
    assert promoted.without(4) == founding
    assert grown.without(4) == founding
    assert founding.without(3).voters == (1, 2)


def test_a_change_that_is_none_is_refused() -> None:
    one = Configuration((1, 2), (3,))
    changes: tuple[Callable[[], Configuration], ...] = (
        lambda: one.with_learner(1, ADDRESS),
        lambda: one.with_learner(3, ADDRESS),
        lambda: one.promoted(1),
        lambda: one.promoted(9),
        lambda: one.without(9),
    )
    for change in changes:
        with pytest.raises(ConfigurationError):
            change()


def test_nobody_is_the_configuration_without_members() -> None:
    assert Configuration.nobody() == NOBODY
    assert (NOBODY.members, NOBODY.addresses) == ((), {})
