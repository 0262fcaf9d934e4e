"""What is remembered of deleted records, and that a reader who jumps misses nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cluster.tables
from cluster.disk import RocksDisk
from cluster.gaps import GAPS_MAX, RUNS_MAX, WORTH_MIN, Gaps, TooFarError

KEYS = [b"%04d" % number for number in range(400)]


class Records:
    """A family whose batches are told to `Gaps`; counts the looks."""

    def __init__(self) -> None:
        self.gaps = Gaps()
        self.keys: set[bytes] = set()
        self.looks = 0

    def first(self, start: bytes, end: bytes | None) -> bytes | None:
        self.looks += 1
        return min(
            (key for key in self.keys if key >= start and (end is None or key < end)), default=None
        )

    def batch(self, *, put: Sequence[bytes] = (), delete: Sequence[bytes] = ()) -> None:
        for key in put:
            self.gaps.put(key)
        for key in delete:
            self.gaps.delete(key)
        self.keys = self.keys - set(delete) | set(put)
        self.gaps.learn(self.first)

    def scan(self, start: bytes) -> list[bytes]:
        found: list[bytes] = []
        until: bytes | None = start
        while until is not None:
            start, until = self.gaps.way(until)
            found += sorted(k for k in self.keys if k >= start and (until is None or k < until))
        return found


def swept(*, kept: list[bytes], batch: int = 40) -> Records:
    """Records of `KEYS`, deleted from the first to the 300th, save some."""
    records = Records()
    records.batch(put=KEYS)
    gone = [key for key in KEYS[:300] if key not in kept]
    for at in range(0, len(gone), batch):
        records.batch(delete=gone[at : at + batch])
    return records


def test_a_sweep_leaves_one_gap() -> None:
    records = swept(kept=[])
    assert len(records.gaps) == 1
    assert records.gaps.way(b"") == (KEYS[300], None)
    assert records.gaps.way(KEYS[0]) == (KEYS[300], None)
    assert records.gaps.way(KEYS[299] + b"x") == (KEYS[300], None)


def test_a_record_that_a_sweep_passes_over_parts_the_gap() -> None:
    records = swept(kept=[KEYS[3], KEYS[150]])
    assert records.gaps.way(KEYS[4]) == (KEYS[150], KEYS[151])
    assert records.gaps.way(KEYS[151]) == (KEYS[300], None)
    records.batch(delete=[KEYS[150]])
    assert records.gaps.way(KEYS[4]) == (KEYS[300], None)


def test_when_everything_is_deleted_the_gap_grows_with_the_next_sweep() -> None:
    records = Records()
    for at in range(0, 400, 50):
        records.batch(put=KEYS[at : at + 50])
        records.batch(delete=KEYS[at : at + 50])
    assert len(records.gaps) == 1
    assert records.gaps.way(KEYS[0]) == (KEYS[399] + b"\0", None)


def test_a_record_put_into_a_gap_is_found() -> None:
    records = swept(kept=[])
    records.batch(put=[KEYS[100]])
    assert records.scan(b"") == [KEYS[100], *KEYS[300:]]


def test_what_a_batch_deletes_and_puts_again_is_there() -> None:
    records = Records()
    records.batch(put=KEYS)
    records.batch(delete=KEYS[:100], put=[KEYS[0], KEYS[50]])
    assert records.scan(b"") == [KEYS[0], KEYS[50], *KEYS[100:]]


def test_few_deleted_records_are_walked_over() -> None:
    records = Records()
    records.batch(put=KEYS)
    records.batch(delete=KEYS[1:WORTH_MIN])
    assert records.gaps.way(b"") == (b"", None)
    records.batch(delete=[KEYS[WORTH_MIN]])
    assert records.gaps.way(b"") == (b"", KEYS[1])


def test_a_batch_of_scattered_deletions_takes_a_few_looks() -> None:
    records = Records()
    records.batch(put=KEYS)
    records.batch(delete=KEYS[::2])
    assert records.looks <= 2 * RUNS_MAX
    for key in KEYS[1::4]:
        records.batch(delete=[key])
    assert len(records.gaps) <= GAPS_MAX
    assert records.scan(b"") == KEYS[3::4]


def test_a_look_that_is_given_up_teaches_nothing() -> None:
    gaps = Gaps()

    def too_far(_start: bytes, _end: bytes | None) -> bytes | None:
        raise TooFarError

    for key in KEYS:
        gaps.delete(key)
    gaps.learn(too_far)
    assert len(gaps) == 0
    assert gaps.way(b"") == (b"", None)


Batches = st.lists(
    st.tuples(st.booleans(), st.integers(0, 119), st.integers(1, 60), st.integers(1, 3)),
    max_size=25,
)
"""(put or delete, first key, how many, every how manieth)."""


@given(Batches, st.integers(0, 120))
@settings(max_examples=150, deadline=None)
def test_a_reader_who_jumps_finds_every_record(
    batches: list[tuple[bool, int, int, int]], at: int
) -> None:
    records = Records()
    for is_put, first, count, step in batches:
        keys = KEYS[first : first + count * step : step]
        records.batch(put=keys) if is_put else records.batch(delete=keys)
        assert records.scan(b"") == sorted(records.keys)
        assert records.scan(KEYS[at]) == sorted(key for key in records.keys if key >= KEYS[at])


# ------------------------------------------------------------------------------ RocksDB

TASKS = 12_000


def id_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


def a_swept_disk(path: Path, *, kept: set[int]) -> RocksDisk:
    disk = RocksDisk(path, ["completed"])
    for at in range(0, TASKS, 1000):
        for number in range(at, at + 1000):
            disk.put("completed", id_of(number), b"record")
        disk.write()
    disk._sources["completed"].compact_range(None, None)
    for at in range(0, TASKS - 1000, 1000):
        for number in set(range(at, at + 1000)) - kept:
            disk.delete("completed", id_of(number))
        disk.write()
    return disk


def make_strict(disk: RocksDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a reader that passes more deleted records than a batch has end as a damaged one."""
    monkeypatch.setattr(disk, "_reader", partial(disk._reader, passed_max=1200))


def test_a_scan_passes_no_deleted_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = a_swept_disk(tmp_path / "db", kept={7})
    make_strict(disk, monkeypatch)
    wanted = [7, *range(TASKS - 1000, TASKS - 997)]
    assert [key for key, _ in disk.scan("completed", b"", 4)] == [id_of(one) for one in wanted]
    assert [key for key, _ in disk.scan("completed", id_of(8), 1)] == [id_of(TASKS - 1000)]
    disk.put("completed", id_of(5000), b"late")
    disk.write()
    assert [key for key, _ in disk.scan("completed", id_of(8), 1)] == [id_of(5000)]
    disk.close()


def test_whoever_copies_a_swept_family_passes_no_deleted_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = a_swept_disk(tmp_path / "db", kept=set())
    make_strict(disk, monkeypatch)
    [(_, first, _)] = disk.open_snapshot().next_chunk(1)
    assert first == next(disk.iterate("completed"))[0] == id_of(TASKS - 1000)
    disk.close()


def test_an_installed_snapshot_has_no_gaps_of_the_records_before(tmp_path: Path) -> None:
    disk = a_swept_disk(tmp_path / "db", kept=set())
    disk.begin_install()
    disk.add_install([("completed", id_of(3), b"new")])
    disk.finish_install()
    disk.write()
    assert disk.scan("completed", b"", 10) == [(id_of(3), b"new")]
    disk.close()


def test_after_a_restart_the_first_scan_passes_no_deleted_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster.tables, "_DELETED_MIN", 1 << 30)  # and no compaction comes to help
    a_swept_disk(tmp_path / "db", kept=set()).close()
    disk = RocksDisk(tmp_path / "db", ["completed"])
    make_strict(disk, monkeypatch)
    wanted = [id_of(TASKS - 1000), id_of(TASKS - 999)]
    assert [key for key, _ in disk.scan("completed", b"", 2)] == wanted
    assert [key for key, _ in islice(disk.iterate("completed"), 2)] == wanted
    disk.close()


def test_marks_of_deleted_records_are_compacted_away_after_a_restart(tmp_path: Path) -> None:
    a_swept_disk(tmp_path / "db", kept=set()).close()
    disk = RocksDisk(tmp_path / "db", ["completed"])
    until_s = time.monotonic() + 20
    while not disk._reader("completed", b"", None, passed_max=1000).valid():
        assert time.monotonic() < until_s, "nothing was compacted"
    disk.close()
