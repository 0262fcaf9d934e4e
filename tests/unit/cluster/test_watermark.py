"""The file of the high-water mark: whole at any time, and in need of no new room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.recovery import Storage
from cluster.watermark import COPIES, COPY_BYTES, HIGH_WATER_FILE, HighWater, copy_of, read_mark

OLD, NEW = HighWater(7, 100, 90, 3, b"vote"), HighWater(7, 140, 120, 4, b"another vote")
numbers = st.integers(0, 2**64 - 1)
marks = st.builds(HighWater, numbers, numbers, numbers, numbers, st.binary(max_size=40))


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    opened = Storage(tmp_path, node_id=1, voters=(1,), families=["pending"])
    yield opened
    opened.close()


@given(marks)
def test_a_mark_survives_its_file_and_so_does_one_of_an_earlier_version(mark: HighWater) -> None:
    assert read_mark(copy_of(mark) * COPIES) == mark
    assert read_mark(mark.to_bytes()) == mark


def test_a_power_cut_at_any_byte_leaves_the_old_mark_or_the_new_one() -> None:
    old, new = copy_of(OLD), copy_of(NEW)
    for cut in range(120):
        assert read_mark(new[:cut] + old[cut:] + old) in {OLD, NEW}, "the first is written"
        assert read_mark(new + new[:cut] + old[cut:]) == NEW, "the second is written"
        assert read_mark(bytes(cut) + old[cut:] + old) == OLD, "a sector came back empty"


@given(st.binary(max_size=COPIES * COPY_BYTES) | st.binary(max_size=4))
def test_junk_in_the_place_of_a_mark_is_refused(content: bytes) -> None:
    for file in (content, content.ljust(COPIES * COPY_BYTES, b"\xff")):
        with pytest.raises(ValueError, match=r"."):
            read_mark(file)


def test_one_damaged_copy_does_no_harm_and_two_are_noticed() -> None:
    file = bytearray(copy_of(OLD) * COPIES)
    file[5] ^= 1
    assert read_mark(bytes(file)) == OLD
    file[COPY_BYTES + 5] ^= 1
    with pytest.raises(ValueError, match="checksum"):
        read_mark(bytes(file))


def test_marks_are_written_in_place_each_copy_with_a_sync_of_its_own(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / HIGH_WATER_FILE
    before = file.stat()
    seen: list[set[HighWater]] = []

    def synced(_handle: int) -> None:
        content = file.read_bytes()
        parts = (content[:COPY_BYTES], content[COPY_BYTES:])
        seen.append({read_mark(part + part) for part in parts})

    first = read_mark(file.read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr("os.fdatasync", synced)
        storage.write_mark(OLD)
        storage.write_mark(NEW)
    assert seen == [{first, OLD}, {OLD}, {OLD, NEW}, {NEW}]
    after = file.stat()
    assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)
    assert not list(tmp_path.glob("*.new"))


def test_a_start_puts_the_file_in_place_anew_whatever_is_left_of_it(tmp_path: Path) -> None:
    for left in (OLD.to_bytes(), b"", copy_of(OLD) + b"torn", copy_of(OLD) * COPIES):
        storage = Storage(tmp_path, node_id=1, voters=(1,), families=["pending"])
        storage.close()
        (tmp_path / HIGH_WATER_FILE).write_bytes(left)
    storage = Storage(tmp_path, node_id=1, voters=(1,), families=["pending"])
    assert read_mark((tmp_path / HIGH_WATER_FILE).read_bytes()) == HighWater(5, 0)
    storage.write_mark(NEW)
    assert (tmp_path / HIGH_WATER_FILE).read_bytes() == copy_of(NEW) * COPIES
    storage.close()
