"""The log: what is in memory is on the disk, and a damaged disk is refused by name."""

from __future__ import annotations

from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.configuration import CONFIGURATION_MARK, Configuration, ConfigurationError
from cluster.interface import (
    APPLIED_KEY,
    CONFIGURATION_KEY,
    FIRST_KEY,
    RAFT_LOG,
    RAFT_META,
    VOTE_KEY,
)
from cluster.log import HASHED_BYTES, DamagedLog, Log
from tests.support.sim_disk import SimDisk
from tests.support.sim_machine import FAMILIES

_ENTRIES = st.binary(max_size=8).filter(lambda entry: entry[:1] != CONFIGURATION_MARK)


def _disk_with(*entries: bytes, term: int = 3) -> SimDisk:
    disk = SimDisk(FAMILIES)
    log = Log(disk)
    for entry in entries:
        log.append(entry, term)
    log.save_vote(term, 2)
    disk.write()
    return disk


def _same(one: Log, other: Log) -> bool:
    fields = ("entries", "base_index", "last_index", "tail_bytes", "term", "voted_for")
    return all(getattr(one, field) == getattr(other, field) for field in fields)


def test_an_empty_disk_is_an_empty_log() -> None:
    log = Log(SimDisk(FAMILIES))
    assert (log.base_index, log.last_index, log.last_term) == (0, 0, 0)
    assert (log.term, log.voted_for) == (0, None)
    assert log.term_at(0) == 0
    assert log.term_at(1) is None


def test_a_reopened_log_is_the_same_log() -> None:
    log = Log(_disk_with(b"a", b"", b"c"))
    assert log.entries == [(b"", 0, 0), (b"a", 1, 3), (b"", 2, 3), (b"c", 3, 3)]
    assert (log.term, log.voted_for, log.tail_bytes) == (3, 2, 2)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), _ENTRIES),
            st.tuples(st.just("truncate"), st.integers(0, 9)),
            st.tuples(st.just("cut"), st.integers(0, 9)),
            st.tuples(st.just("restart"), st.integers(1, 9)),
        ),
        max_size=40,
    )
)
def test_memory_and_disk_agree_after_any_history(history: list[tuple[str, bytes | int]]) -> None:
    disk = SimDisk(FAMILIES)
    log = Log(disk)
    for act, value in history:
        if isinstance(value, bytes):
            log.append(value, 1)
        elif act == "truncate" and log.last_index > log.base_index:
            log.truncate_from(max(log.base_index + 1, log.last_index - value))
            log.save_applied(log.base_index, 1)
        elif act == "cut":
            log.cut_to(min(log.base_index + value, log.last_index))
            log.save_applied(log.base_index, 1)
        elif act == "restart":
            log.restart_at(log.last_index + value, 2)
            log.save_applied(log.base_index, 2)
        disk.write()
        assert _same(log, Log(disk))
        assert log.tail_bytes == sum(len(entry) for entry, _, _ in log.entries[1:])


def test_a_cut_keeps_the_longest_tail_within_its_bound() -> None:
    log = Log(_disk_with(b"xxx", b"yy", b"z"))
    assert log.cut_point(3, 3) == 1
    assert log.cut_point(2, 3) == 2
    assert log.cut_point(0, 2) == 2  # what is not applied stays, whatever its size
    assert log.cut_point(100, 3) == 0


def test_a_batch_is_bounded_but_never_empty() -> None:
    log = Log(_disk_with(b"xxxxxxxxxx", b"yy", b"z"))
    assert log.batch(1, 5) == ([(b"xxxxxxxxxx", 3)], 10)
    assert log.batch(2, 5) == ([(b"yy", 3), (b"z", 3)], 3)
    assert log.batch(2, 2) == ([(b"yy", 3)], 2)


@pytest.mark.parametrize("at", range(13))
def test_any_flipped_byte_of_a_record_is_found_and_named(at: int) -> None:
    disk = _disk_with(b"a", b"b", b"c")
    key = (2).to_bytes(8, "big")
    value = bytearray(disk.content[RAFT_LOG][key])
    value[at] ^= 1
    disk.content[RAFT_LOG][key] = bytes(value)
    with pytest.raises(DamagedLog, match="index 2: the checksum") as found:
        Log(disk)
    assert found.value.index == 2


def test_a_missing_record_is_found_and_named() -> None:
    disk = _disk_with(b"a", b"b", b"c")
    del disk.content[RAFT_LOG][(2).to_bytes(8, "big")]
    with pytest.raises(DamagedLog, match="index 2: the next record is of index 3"):
        Log(disk)


def test_a_record_in_the_place_of_another_is_found() -> None:
    disk = _disk_with(b"a", b"b")
    records = disk.content[RAFT_LOG]
    records[(1).to_bytes(8, "big")] = records[(2).to_bytes(8, "big")]
    with pytest.raises(DamagedLog, match="index 1"):
        Log(disk)


def test_a_short_record_is_found() -> None:
    disk = _disk_with(b"a")
    disk.content[RAFT_LOG][(1).to_bytes(8, "big")] = b"short"
    with pytest.raises(DamagedLog, match="too short"):
        Log(disk)


@pytest.mark.parametrize("key", [VOTE_KEY, FIRST_KEY, APPLIED_KEY])
def test_a_damaged_record_of_the_node_itself_is_found(key: bytes) -> None:
    disk = _disk_with(b"a", b"b")
    log = Log(disk)
    log.save_applied(2, 3)
    log.cut_to(1)
    disk.write()
    disk.content[RAFT_META][key] = disk.content[RAFT_META][key][:-1] + b"\xff"
    with pytest.raises(DamagedLog, match=key.decode()) as found:
        Log(disk)
    assert found.value.index == 0


def test_a_state_beyond_the_log_is_refused() -> None:
    disk = _disk_with(b"a")
    Log(disk).save_applied(5, 3)
    disk.write()
    with pytest.raises(DamagedLog, match="index 5: the state stands there"):
        Log(disk)


FOUNDING = Configuration((1, 2, 3))
GROWN = FOUNDING.with_learner(4, ("127.0.0.1", 7404))
LARGER = GROWN.promoted(4)


def _in_force(log: Log) -> tuple[int, Configuration]:
    return log.configuration_index, log.configuration


def _with_members() -> tuple[SimDisk, Log]:
    """Entries a, GROWN at 2, b, LARGER at 4, c."""
    disk = SimDisk(FAMILIES)
    log = Log(disk, FOUNDING)
    for entry in (b"a", GROWN.to_entry(), b"b", LARGER.to_entry(), b"c"):
        log.append(entry, 1)
    disk.write()
    return disk, log


def test_the_founding_configuration_counts_only_on_a_new_disk() -> None:
    disk = SimDisk(FAMILIES)
    assert _in_force(Log(disk, FOUNDING)) == (0, FOUNDING)
    disk.write()
    assert _in_force(Log(disk, Configuration((1, 2)))) == (0, FOUNDING)
    assert _in_force(Log(disk)) == (0, FOUNDING)


def test_the_latest_configuration_of_the_log_is_in_force() -> None:
    disk, log = _with_members()
    assert _in_force(log) == (4, LARGER)
    assert _in_force(Log(disk)) == (4, LARGER)
    at = [log.configuration_at(index) for index in range(6)]
    assert at == [(0, FOUNDING), (0, FOUNDING), (2, GROWN), (2, GROWN), (4, LARGER), (4, LARGER)]


@pytest.mark.parametrize(("index", "left"), [(5, (4, LARGER)), (4, (2, GROWN)), (1, (0, FOUNDING))])
def test_a_truncated_configuration_is_not_in_force(
    index: int, left: tuple[int, Configuration]
) -> None:
    disk, log = _with_members()
    log.truncate_from(index)
    disk.write()
    assert _in_force(log) == left
    assert _in_force(Log(disk)) == left


@pytest.mark.parametrize("index", [1, 2, 3, 4, 5])
def test_a_cut_keeps_the_configuration_of_the_boundary(index: int) -> None:
    disk, log = _with_members()
    before = [log.configuration_at(at) for at in range(index, 6)]
    log.save_applied(index, 1)
    log.cut_to(index)
    disk.write()
    for one in (log, Log(disk)):
        assert [one.configuration_at(at) for at in range(index, 6)] == before
        assert _in_force(one) == (4, LARGER)


@pytest.mark.parametrize("index", [2, 3])
def test_what_was_truncated_after_a_cut_leaves_the_boundarys(index: int) -> None:
    disk, log = _with_members()
    log.save_applied(index, 1)
    log.cut_to(index)
    log.truncate_from(4)
    disk.write()
    assert _in_force(log) == _in_force(Log(disk)) == (2, GROWN)


def test_a_snapshots_configuration_takes_the_place_of_the_logs() -> None:
    disk, log = _with_members()
    log.restart_at(9, 2)
    log.save_applied(9, 2)
    log.found_on(7, FOUNDING)
    disk.write()
    assert _in_force(log) == _in_force(Log(disk)) == (7, FOUNDING)


def test_an_entry_marked_as_a_configuration_must_be_one() -> None:
    log = Log(SimDisk(FAMILIES), FOUNDING)
    with pytest.raises(ConfigurationError):
        log.append(b"\0nonsense", 1)
    assert (log.last_index, _in_force(log)) == (0, (0, FOUNDING))


@pytest.mark.parametrize("value", [b"", b"short", bytes(12), b"\xff" * 40])
def test_a_damaged_configuration_of_the_boundary_is_refused(value: bytes) -> None:
    disk, _ = _with_members()
    disk.put(RAFT_META, CONFIGURATION_KEY, value)
    disk.write()
    with pytest.raises(DamagedLog, match="'configuration' of raft_meta"):
        Log(disk)


def test_a_damaged_configuration_in_the_log_is_refused_by_its_index() -> None:
    disk = _disk_with(b"a")
    other = _disk_with(b"a", b"b")
    value = other.get(RAFT_LOG, (2).to_bytes(8, "big"))
    assert value is not None
    body = value[4:12] + b"\0nonsense"
    key = (2).to_bytes(8, "big")
    disk.put(RAFT_LOG, key, crc32(key + body).to_bytes(4, "big") + body)
    disk.write()
    with pytest.raises(DamagedLog, match="index 2: version"):
        Log(disk)


def test_the_checksums_of_committed_entries_are_told_and_of_no_others() -> None:
    log = Log(_disk_with(b"one", b"", b"three", b"four", b"five"))
    entries = [(1, 3, crc32(b"one")), (2, 3, 0), (3, 3, crc32(b"three"))]
    assert log.hashes(0, 100, 3) == (1, 3, entries)
    assert log.hashes(2, 1, 3) == (1, 3, entries[1:2])
    assert log.hashes(3, 100, 3) == (1, 3, entries[2:])
    assert log.hashes(4, 100, 3) == (1, 3, [])
    assert log.hashes(1, 100, 0) == (1, 0, [])


def test_the_checksums_begin_with_the_first_entry_that_is_kept() -> None:
    log = Log(_disk_with(b"one", b"two", b"three", b"four"))
    log.cut_to(2)
    assert log.hashes(0, 1, 4) == (3, 4, [(3, 3, crc32(b"three"))])
    assert log.hashes(4, 9, 4) == (3, 4, [(4, 3, crc32(b"four"))])


def test_no_more_bytes_are_read_for_checksums_than_take_a_moment() -> None:
    half = b"x" * (HASHED_BYTES // 2)
    log = Log(_disk_with(half, half, b"x", half * 3))
    assert [index for index, _, _ in log.hashes(1, 100, 4).entries] == [1, 2]
    assert [index for index, _, _ in log.hashes(3, 100, 4).entries] == [3]
    assert [index for index, _, _ in log.hashes(4, 100, 4).entries] == [4]
