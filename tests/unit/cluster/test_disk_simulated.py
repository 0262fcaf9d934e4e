"""The simulated disk does to a node what real ones do, and nothing a real one does not."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from cluster.faults import (
    DirectoryInUseError,
    DiskDamagedError,
    DiskFailedError,
    DiskFullError,
    StartError,
)
from cluster.identity import BootstrapState
from cluster.recovery import Storage
from cluster.watermark import COPY_BYTES, HIGH_WATER_FILE, NOTE_FILE, newer, read_mark
from tests.support.sim_directory import SimDirectory
from tests.support.sim_disk import SimDisk

FAMILIES = ("pending", "metadata")
VOTERS = (1, 2, 3)
Keys = list[int]


def open_storage(directory: SimDirectory, voters: tuple[int, ...] = VOTERS) -> Storage:
    return Storage(
        directory.path,
        node_id=1,
        voters=voters,
        families=FAMILIES,
        open_disk=directory.open_disk,
        open_directory=directory.open,
    )


@pytest.fixture
def directory() -> SimDirectory:
    """A bootstrapped node's, orderly closed."""
    made = SimDirectory(FAMILIES)
    storage = open_storage(made)
    storage.record(
        replace(storage.identity, cluster_id=bytes(16), state=BootstrapState.BOOTSTRAPPED)
    )
    storage.close()
    return made


def write(disk: SimDisk, *numbers: int) -> None:
    for number in numbers:
        disk.put("pending", number.to_bytes(2, "big"), b"x" * 20)
        disk.write()


def held(disk: SimDisk) -> Keys:
    return [int.from_bytes(key, "big") for key, _ in disk.iterate("pending")]


def test_a_power_loss_takes_a_suffix_of_what_was_not_synced(directory: SimDirectory) -> None:
    left = set()
    for seed in range(40):
        directory.wipe()
        disk = directory.open_disk(directory.database, FAMILIES)
        write(disk, *range(5))
        begun = disk.sequence
        write(disk, *range(5, 10))
        disk.sync(begun)
        lost = directory.lose_power(random.Random(seed))
        disk = directory.open_disk(directory.database, FAMILIES)
        assert held(disk) == list(range(10 - lost))
        assert disk.sequence == disk.durable == 10 - lost
        left.add(lost)
    assert left == set(range(6))


def test_a_power_loss_takes_back_changes_of_every_kind(directory: SimDirectory) -> None:
    disk = directory.open_disk(directory.database, FAMILIES)
    write(disk, 1, 2, 3, 4)
    disk.sync()
    reader = disk.open_snapshot()
    before = list(disk.iterate("pending"))
    disk.put("pending", (3).to_bytes(2, "big"), b"changed")
    disk.delete("pending", (1).to_bytes(2, "big"))
    disk.write()
    disk.delete_range("pending", b"", b"\xff")
    disk.put("pending", b"only", b"x")
    disk.begin_install()
    disk.add_install([("pending", b"new", b"x")])
    disk.finish_install()
    disk.put("pending", b"newer", b"x")
    disk.write()
    assert [key for key, _ in disk.iterate("pending")] == [b"new", b"newer"]
    assert directory.lose_power(random.Random(0)) in {0, 1, 2}
    disk.lose_power(random.Random(0), kept=0)
    directory.wipe()
    disk = directory.open_disk(directory.database, FAMILIES)
    write(disk, 1, 2, 3, 4)
    disk.sync()
    reader = disk.open_snapshot()
    disk.delete_range("pending", b"", b"\xff")
    disk.begin_install()
    disk.finish_install()
    write(disk, 9)
    assert disk.lose_power(random.Random(0), kept=0) == 1
    assert list(disk.iterate("pending")) == before
    assert disk.generation == 0
    assert len(reader.next_chunk(1000)) == 4


def test_a_small_file_that_was_not_synced_is_the_old_one_after_a_power_loss(
    directory: SimDirectory,
) -> None:
    directory.replace("high_water", b"old")
    directory.replaces_are_synced = False
    directory.replace("high_water", b"new")
    directory.kill()
    assert directory.read("high_water") == b"new"
    directory.lose_power(random.Random(0))
    assert directory.read("high_water") == b"old"


def noted(directory: SimDirectory) -> int:
    """Write and sync ten batches of which only the note speaks; return the last."""
    storage = open_storage(directory)
    write(directory.disk, *range(10))
    sequence = directory.disk.sync()
    storage.write_note(storage.mark(), sequence)
    return sequence


def test_a_flip_after_a_kill_in_what_only_the_note_speaks_of_is_noticed(
    directory: SimDirectory,
) -> None:
    last = noted(directory)
    directory.kill()
    directory.disk._damaged_from = last
    storage = open_storage(directory)
    assert held(directory.disk) == list(range(9))
    assert storage.amnesiac


def test_a_power_cut_keeps_loses_or_tears_a_note_and_never_the_mark() -> None:
    found: set[str] = set()
    for seed in range(40):
        made = SimDirectory(FAMILIES)
        storage = open_storage(made)
        storage.record(
            replace(storage.identity, cluster_id=bytes(16), state=BootstrapState.BOOTSTRAPPED)
        )
        storage.close()
        last = noted(made)
        mark, note = made.read(HIGH_WATER_FILE), made.read(NOTE_FILE)
        assert mark is not None
        assert note is not None
        made.lose_power(random.Random(seed))
        assert made.read(HIGH_WATER_FILE) == mark
        left = made.read(NOTE_FILE)
        counts = newer(read_mark(mark), left)
        if left == note:
            found.add("kept")
            assert counts.sequence == last
        else:
            found.add("torn" if left else "lost")
            assert counts == read_mark(mark)
        storage = open_storage(made)
        assert not storage.amnesiac, "nothing was damaged"
        assert held(made.disk) == list(range(10))
    assert found == {"kept", "torn", "lost"}


def test_the_disk_of_a_dead_process_refuses_every_call(directory: SimDirectory) -> None:
    stale = directory.open_disk(directory.database, FAMILIES)
    write(stale, 1)
    directory.kill()
    directory.open_disk(directory.database, FAMILIES)
    with pytest.raises(KeyError):
        stale.put("pending", b"2", b"x")
    with pytest.raises(DiskFailedError, match="gone"):
        stale.sync()
    assert held(directory.disk) == [1]


def test_one_process_at_a_time_has_the_directory(directory: SimDirectory) -> None:
    directory.open()
    with pytest.raises(DirectoryInUseError):
        directory.open()
    directory.kill()
    directory.open()


def test_a_flip_in_the_log_forgets_a_suffix_that_the_mark_remembers(
    directory: SimDirectory,
) -> None:
    storage = open_storage(directory)
    write(directory.disk, *range(10))
    directory.disk.sync()
    storage.write_mark(storage.mark())
    said = directory.flip(random.Random(1), "log")
    assert "write-ahead log" in said
    assert held(directory.disk) == list(range(10)), "a running node does not read its log"
    directory.kill()
    storage = open_storage(directory)
    assert storage.amnesiac
    assert held(directory.disk) == list(range(len(held(directory.disk))))
    assert len(held(directory.disk)) < 10


def test_a_flip_in_a_log_that_went_to_tables_is_harmless(directory: SimDirectory) -> None:
    open_storage(directory)
    directory.disk.log_records = 5
    write(directory.disk, *range(10))
    directory.flip(random.Random(1), "log")
    directory.disk.sync()
    directory.kill()
    open_storage(directory)
    assert held(directory.disk) == list(range(10))


def test_a_flip_in_a_table_shows_when_its_records_are_read(directory: SimDirectory) -> None:
    storage = open_storage(directory)
    write(directory.disk, *range(100))
    storage.close()
    storage = open_storage(directory)
    while "pending" not in directory.flip(random.Random(7), "table"):
        pass
    disk = directory.disk
    with pytest.raises(DiskDamagedError):
        held(disk)
    with pytest.raises(DiskDamagedError):
        disk.scan("pending", b"", 1000)
    with pytest.raises(DiskDamagedError):
        disk.open_snapshot().next_chunk(1 << 20)
    unreadable = 0
    for number in range(100):
        try:
            disk.get("pending", number.to_bytes(2, "big"))
        except DiskDamagedError:
            unreadable += 1
    assert 1 <= unreadable <= 8
    assert storage.damage is not None
    directory.kill()
    for _ in range(2):
        storage = open_storage(directory)
        assert storage.amnesiac
        assert held(directory.disk) == []
        assert len(directory.quarantined) == 1
        storage.close()


def test_a_flip_in_the_manifest_makes_place_for_an_empty_database(
    directory: SimDirectory,
) -> None:
    assert directory.flip(random.Random(1), "manifest") == "the manifest"
    storage = open_storage(directory)
    assert storage.amnesiac
    assert len(directory.quarantined) == 1


def test_a_flip_in_a_small_file_is_noticed(directory: SimDirectory) -> None:
    outcomes = set()
    for seed in range(20):
        files = dict(directory._files)
        said = directory.flip(random.Random(seed), "file")
        try:
            storage = open_storage(directory)
            outcomes.add(("amnesiac" if storage.amnesiac else "unnoticed", said.split()[-1]))
            storage.disk.delete("raft_meta", b"amnesiac")
            storage.disk.write()
            storage.close()
        except DiskDamagedError:
            outcomes.add(("refused", said.split()[-1]))
        directory.release()
        files |= {name: directory._files[name] for name in (HIGH_WATER_FILE, NOTE_FILE)}
        directory._files = directory._safe_files = files
        storage = open_storage(directory)
        storage.disk.delete("raft_meta", b"amnesiac")
        storage.disk.write()
        storage.close()
    assert outcomes == {
        ("refused", "identity"),
        ("unnoticed", HIGH_WATER_FILE),  # there is another copy in it
        ("unnoticed", NOTE_FILE),  # it looks like one that a power cut tore: the mark counts
    }


def test_a_mark_without_a_whole_copy_is_noticed(directory: SimDirectory) -> None:
    content = bytearray(directory.read(HIGH_WATER_FILE) or b"")
    for copy in (0, 1):
        content[copy * COPY_BYTES + 10] ^= 1
        directory.replace(HIGH_WATER_FILE, bytes(content))
        storage = open_storage(directory)
        assert storage.amnesiac is (copy == 1)
        storage.close()


def test_a_failed_sync_ends_the_process_and_not_the_data(directory: SimDirectory) -> None:
    storage = open_storage(directory)
    write(directory.disk, 1)
    directory.fail_sync()
    with pytest.raises(DiskFailedError):
        storage.disk.sync()
    with pytest.raises(StartError):
        storage.write_mark(storage.mark())
    with pytest.raises(DiskFailedError):
        write(directory.disk, 2)
    directory.kill()
    open_storage(directory)
    assert held(directory.disk) == [1]


def test_a_full_disk_refuses_writes_and_openings_until_there_is_room(
    directory: SimDirectory,
) -> None:
    storage = open_storage(directory)
    directory.fill(50)
    write(directory.disk, 1, 2)
    with pytest.raises(DiskFailedError):
        write(directory.disk, 3)
    with pytest.raises(DiskFullError):
        storage.mark_diverged("a story" * 100)
    storage.write_mark(storage.mark())
    directory.kill()
    with pytest.raises(DiskFullError):
        open_storage(directory)
    directory.free()
    open_storage(directory)
    assert held(directory.disk) == [1, 2]
