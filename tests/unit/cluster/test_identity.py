"""The data directory: whose it is, what it promised, and when it cannot be believed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.directory import DataDirectory
from cluster.faults import (
    DirectoryInUseError,
    DiskDamagedError,
    DiskFullError,
    ForeignDirectoryError,
    RemovedError,
    StartError,
)
from cluster.identity import BootstrapState, Identity, load_identity, store_identity
from cluster.watermark import HighWater
from cluster.wire import encode

ID = bytes(range(16))
VOTERS = (1, 2, 3)
identities = st.builds(
    Identity,
    st.integers(0, 2**32),
    st.lists(st.integers(0, 2**32), max_size=9).map(tuple),
    st.none() | st.binary(min_size=16, max_size=16),
    st.sampled_from(BootstrapState),
    st.integers(0, 2**40),
    st.integers(0, 2**40),
    st.lists(st.integers(0, 2**32), max_size=9).map(tuple),
)
numbers = st.integers(0, 2**64 - 1)
marks = st.builds(HighWater, numbers, numbers, numbers, numbers, st.binary(max_size=40))


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[DataDirectory]:
    opened = DataDirectory(tmp_path / "data")
    yield opened
    opened.release()


@given(identities)
def test_an_identity_survives_its_file(identity: Identity) -> None:
    assert Identity.from_bytes(identity.to_bytes()) == identity


@given(marks)
def test_a_mark_survives_its_file(mark: HighWater) -> None:
    assert HighWater.from_bytes(mark.to_bytes()) == mark


def test_every_flipped_bit_and_every_cut_of_the_small_files_shows() -> None:
    identity = Identity(2, VOTERS, ID, BootstrapState.RECORDED, 7)
    mark = HighWater(1, 2, 3, 4, b"vote")
    for content, read in (
        (identity.to_bytes(), Identity.from_bytes),
        (mark.to_bytes(), HighWater.from_bytes),
    ):
        for position in range(len(content) * 8):
            damaged = bytearray(content)
            damaged[position // 8] ^= 1 << position % 8
            with pytest.raises(ValueError, match=r"."):
                read(bytes(damaged))
        for length in range(len(content)):
            with pytest.raises(ValueError, match=r"."):
                read(content[:length])


def test_a_damaged_identity_says_what_to_do(directory: DataDirectory) -> None:
    directory.replace("identity", b"junk")
    with pytest.raises(DiskDamagedError, match=r"identity is damaged .*restore it, or move"):
        load_identity(directory, 1, VOTERS)


def test_an_identity_is_checked_against_the_configuration(directory: DataDirectory) -> None:
    assert load_identity(directory, 2, VOTERS) is None
    store_identity(directory, Identity(2, VOTERS, ID, BootstrapState.RECORDED, 1))
    loaded = load_identity(directory, 2, (3, 2, 1))
    assert loaded is not None
    assert loaded.voters == VOTERS
    with pytest.raises(ForeignDirectoryError, match=f"belongs to node 2 of cluster {ID.hex()}"):
        load_identity(directory, 3, VOTERS)
    with pytest.raises(ForeignDirectoryError, match=r"voters 1, 2, 3 of cluster .* says 1, 2, 4"):
        load_identity(directory, 2, (1, 2, 4))


def test_a_bootstrapped_node_keeps_the_voters_its_cluster_was_founded_with(
    directory: DataDirectory,
) -> None:
    store_identity(directory, Identity(2, VOTERS, ID, BootstrapState.BOOTSTRAPPED, 1))
    for configured in [(1, 2, 4), (), (2,)]:
        loaded = load_identity(directory, 2, configured)
        assert loaded is not None
        assert loaded.voters == VOTERS


def test_a_node_may_be_told_to_join_while_it_knows_no_cluster(directory: DataDirectory) -> None:
    store_identity(directory, Identity(2, VOTERS, incarnation=4))
    assert load_identity(directory, 2, ()) == Identity(2, (), incarnation=4)
    store_identity(directory, Identity(2, VOTERS, ID, BootstrapState.RECORDED, 4))
    with pytest.raises(ForeignDirectoryError, match="correct the list of peers"):
        load_identity(directory, 2, ())


def test_a_removed_node_does_not_start_again(directory: DataDirectory) -> None:
    identity = Identity(2, VOTERS, ID, BootstrapState.BOOTSTRAPPED, 3, removed_at=60)
    store_identity(directory, identity)
    with pytest.raises(RemovedError) as caught:
        load_identity(directory, 2, VOTERS)
    said = str(caught.value)
    assert f"node 2 was removed from cluster {ID.hex()} at entry 60" in said
    assert "start with --join" in said


def test_a_file_of_the_first_version_is_read(directory: DataDirectory) -> None:
    directory.replace("identity", encode([1, 2, [1, 2, 3], ID, 2, 7]))
    assert load_identity(directory, 2, VOTERS) == Identity(
        2, VOTERS, ID, BootstrapState.BOOTSTRAPPED, 7
    )


def test_a_file_of_the_second_version_is_read(directory: DataDirectory) -> None:
    directory.replace("identity", encode([2, 2, [1, 2, 3], ID, 2, 7, 0]))
    loaded = load_identity(directory, 2, VOTERS)
    assert loaded == Identity(2, VOTERS, ID, BootstrapState.BOOTSTRAPPED, 7)
    assert loaded.latest_voters == VOTERS


@pytest.mark.parametrize(
    "fields",
    [
        [1, 2, [1], ID, 2, 7, 0],
        [2, 2, [1], ID, 2, 7],
        [3, 2, [1], ID, 2, 7, 0],
        [4, 2, [1], ID, 2, 7, 0, []],
        [],
        [None],
    ],
)
def test_a_file_of_another_version_is_refused(fields: list[object]) -> None:
    with pytest.raises(ValueError, match="another version"):
        Identity.from_bytes(encode(fields))


def test_the_voters_may_be_corrected_while_no_cluster_is_known(directory: DataDirectory) -> None:
    store_identity(directory, Identity(2, VOTERS, incarnation=4))
    loaded = load_identity(directory, 2, (1, 2))
    assert loaded == Identity(2, (1, 2), incarnation=4)


def test_a_directory_is_locked_until_it_is_released(tmp_path: Path) -> None:
    first = DataDirectory(tmp_path)
    with pytest.raises(DirectoryInUseError, match=r"in use by another process: stop"):
        DataDirectory(tmp_path)
    first.release()
    first.release()
    DataDirectory(tmp_path).release()


def test_a_file_in_the_place_of_the_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(StartError, match=r"data cannot be used as a data directory"):
        DataDirectory(tmp_path / "data")


@pytest.mark.skipif(os.getuid() == 0, reason="root may do anything")
def test_a_directory_of_someone_else_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o500)
    with pytest.raises(StartError, match="no permission to use"):
        DataDirectory(tmp_path / "data" / "inner")


def test_a_crash_while_a_small_file_is_replaced_leaves_the_old_one(
    directory: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.replace("high_water", b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DiskFullError):
        directory.replace("high_water", b"new")
    assert directory.read("high_water") == b"old"
