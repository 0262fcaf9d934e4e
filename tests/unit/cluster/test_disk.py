"""The disk: atomic batches, a prefix after a crash, one whole generation, clear refusals."""

from __future__ import annotations

import gc
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.disk import RocksDisk
from cluster.faults import (
    DirectoryDeniedError,
    DirectoryInUseError,
    DiskDamagedError,
    DiskFailedError,
    DiskFullError,
    StartError,
    open_error,
)
from cluster.interface import Disk

FAMILIES = ("pending", "metadata")
Opener = Callable[..., RocksDisk]


@pytest.fixture
def opener() -> Iterator[Opener]:
    """Open disks that the test's end closes."""
    opened: list[RocksDisk] = []

    def open_disk(path: Path, families: tuple[str, ...] = FAMILIES) -> RocksDisk:
        opened.append(RocksDisk(path, families))
        return opened[-1]

    yield open_disk
    for disk in opened:
        disk.close()


def crashed_copy(path: Path, name: str) -> Path:
    """What a process killed at this moment leaves behind: the files as the system has them."""
    copy = path.parent / name
    shutil.copytree(path, copy)
    return copy


def all_records(disk: RocksDisk, family: str = "pending") -> dict[bytes, bytes]:
    return dict(disk.iterate(family))


def test_it_is_the_disk_the_engine_asks_for(opener: Opener, tmp_path: Path) -> None:
    disk: Disk = opener(tmp_path / "db")
    assert disk.write() is None


def test_a_batch_is_seen_whole_after_write_and_not_before(opener: Opener, tmp_path: Path) -> None:
    disk = opener(tmp_path / "db")
    disk.put("raft_log", b"1", b"entry")
    disk.put("pending", b"task", b"record")
    assert disk.get("raft_log", b"1") is None
    assert disk.write() == 1
    assert disk.get("raft_log", b"1") == b"entry"
    assert disk.get("pending", b"task") == b"record"


def test_the_order_within_a_batch_counts(opener: Opener, tmp_path: Path) -> None:
    disk = opener(tmp_path / "db")
    for key in (b"a", b"b", b"c", b"d"):
        disk.put("raft_log", key, b"old")
    disk.write()
    disk.delete_range("raft_log", b"b", b"d")
    disk.put("raft_log", b"c", b"new")
    disk.delete("raft_log", b"d")
    disk.delete("raft_log", b"never there")
    disk.write()
    assert dict(disk.iterate("raft_log")) == {b"a": b"old", b"c": b"new"}
    assert list(disk.iterate("raft_log", b"b")) == [(b"c", b"new")]


def test_scan_gives_at_most_the_limit_from_the_start_key_on(opener: Opener, tmp_path: Path) -> None:
    disk = opener(tmp_path / "db")
    for number in range(5):
        disk.put("pending", bytes([number]), b"x")
    disk.write()
    assert [key for key, _ in disk.scan("pending", b"\x01", 3)] == [b"\x01", b"\x02", b"\x03"]
    assert [key for key, _ in disk.scan("pending", b"\x04", 3)] == [b"\x04"]
    assert disk.scan("pending", b"\x00", 0) == []


def test_sequence_numbers_grow_over_restarts(opener: Opener, tmp_path: Path) -> None:
    disk = opener(tmp_path / "db")
    for _ in range(3):
        disk.put("raft_meta", b"vote", b"1")
        disk.write()
    assert disk.sync() == 3
    disk.close()
    again = opener(tmp_path / "db")
    assert again.sequence == 3
    again.put("raft_meta", b"vote", b"2")
    assert again.write() == 4


def test_a_damaged_log_shows_as_a_lower_sequence(opener: Opener, tmp_path: Path) -> None:
    disk = opener(tmp_path / "db")
    for number in range(200):
        disk.put("raft_log", number.to_bytes(8, "big"), b"entry" * 20)
        disk.write()
    assert disk.sync() == 200
    copy = crashed_copy(tmp_path / "db", "copy")
    log = max(copy.glob("*.log"), key=lambda file: file.stat().st_size)
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 1
    log.write_bytes(content)
    recovered = opener(copy)
    kept = len(list(recovered.iterate("raft_log")))
    assert 0 < kept < 200
    assert recovered.sequence == kept


def test_an_iterator_does_not_see_later_writes(opener: Opener, tmp_path: Path) -> None:
    disk = opener(tmp_path / "db")
    disk.put("pending", b"1", b"x")
    disk.write()
    records = disk.iterate("pending")
    disk.put("pending", b"2", b"x")
    disk.write()
    assert list(records) == [(b"1", b"x")]


def test_a_snapshot_reader_sees_no_later_write_in_any_family(
    opener: Opener, tmp_path: Path
) -> None:
    disk = opener(tmp_path / "db")
    for family in FAMILIES:
        disk.put(family, b"1", b"before")
        disk.put(family, b"2", b"before")
    disk.write()
    reader = disk.open_snapshot()
    for family in FAMILIES:
        disk.put(family, b"0", b"after")
        disk.put(family, b"1", b"after")
        disk.delete(family, b"2")
        disk.put(family, b"3", b"after")
    disk.write()
    first = reader.next_chunk(1)
    for family in FAMILIES:
        disk.put(family, b"4", b"after")
    disk.write()
    assert first + reader.next_chunk(1000) == [
        (family, key, b"before") for family in FAMILIES for key in (b"1", b"2")
    ]
    assert reader.next_chunk(1000) == []
    reader.close()
    reader.close()


def test_a_snapshot_reader_survives_an_install(opener: Opener, tmp_path: Path) -> None:
    disk = opener(tmp_path / "db")
    disk.put("pending", b"1", b"before")
    disk.write()
    reader = disk.open_snapshot()
    for _ in range(2):
        disk.begin_install()
        disk.add_install([("pending", b"1", b"installed")])
        disk.finish_install()
        disk.write()
    assert reader.next_chunk(1000) == [("pending", b"1", b"before")]


def test_a_chunk_stays_below_its_bound_unless_one_record_is_larger(
    opener: Opener, tmp_path: Path
) -> None:
    disk = opener(tmp_path / "db")
    for key, length in ((b"1", 9), (b"2", 9), (b"3", 50), (b"4", 1)):
        disk.put("pending", key, b"x" * length)
    disk.write()
    reader = disk.open_snapshot()
    chunks = []
    while chunk := reader.next_chunk(20):
        chunks.append([key for _, key, _ in chunk])
    assert chunks == [[b"1", b"2"], [b"3"], [b"4"]]


def test_an_install_replaces_every_machine_family_and_nothing_else(
    opener: Opener, tmp_path: Path
) -> None:
    disk = opener(tmp_path / "db")
    for family in (*FAMILIES, "raft_log", "raft_meta"):
        disk.put(family, b"old", b"1")
    disk.write()
    disk.begin_install()
    disk.add_install([("pending", b"new", b"2")])
    disk.add_install([("metadata", b"new", b"2"), ("pending", b"newer", b"3")])
    disk.put("raft_meta", b"applied", b"77")
    disk.finish_install()
    disk.put("pending", b"with the flip", b"4")
    assert all_records(disk) == {b"old": b"1"}
    disk.write()
    assert all_records(disk) == {b"new": b"2", b"newer": b"3", b"with the flip": b"4"}
    assert all_records(disk, "metadata") == {b"new": b"2"}
    assert disk.get("raft_meta", b"applied") == b"77"
    assert disk.get("raft_meta", b"old") == b"1"
    assert disk.get("raft_log", b"old") == b"1"


def test_a_crash_at_any_step_of_an_install_leaves_one_whole_generation(
    opener: Opener, tmp_path: Path
) -> None:
    path = tmp_path / "db"
    disk = opener(path)
    old = {b"%d" % number: b"old" for number in range(100)}
    new = {b"%d" % number: b"new" for number in range(50, 150)}
    for key, value in old.items():
        disk.put("pending", key, value)
    disk.write()

    def finish() -> None:
        disk.put("raft_meta", b"applied", b"9")
        disk.finish_install()

    records = list(new.items())
    steps: list[tuple[Callable[[], object], bool]] = [
        (disk.begin_install, False),
        (lambda: disk.add_install([("pending", *record) for record in records[:50]]), False),
        (lambda: disk.add_install([("pending", *record) for record in records[50:]]), False),
        (finish, False),
        (disk.write, True),
        (disk.sync, True),
        (lambda: disk.put("pending", b"later", b"x"), True),
    ]
    for number, (step, flipped) in enumerate(steps):
        step()
        copy = crashed_copy(path, f"crash-{number}")
        for _ in range(2):  # cleaning up at open must itself be repeatable
            recovered = opener(copy)
            assert all_records(recovered) == (new if flipped else old), number
            assert (recovered.get("raft_meta", b"applied") == b"9") is flipped
            assert recovered.generation == int(flipped)
            recovered.close()


def test_the_old_generation_is_emptied_by_the_batch_that_leaves_it(
    opener: Opener, tmp_path: Path
) -> None:
    disk = opener(tmp_path / "db")
    disk.put("pending", b"old", b"x")
    disk.write()
    disk.begin_install()
    disk.add_install([("pending", b"new", b"x")])
    disk.finish_install()
    disk.write()
    assert list(disk._columns["pending@0"].items()) == []
    assert all_records(disk) == {b"new": b"x"}


def test_what_an_unfinished_install_left_is_gone_after_open(opener: Opener, tmp_path: Path) -> None:
    disk = opener(tmp_path / "db")
    disk.begin_install()
    disk.add_install([("pending", b"left over", b"x")])
    disk.close()
    again = opener(tmp_path / "db")
    slot = again._columns["pending@1"]
    assert list(slot.items()) == []
    assert slot.property_int_value("rocksdb.total-sst-files-size") == 0
    del slot


def test_an_aborted_install_leaves_nothing_in_the_next_one(opener: Opener, tmp_path: Path) -> None:
    disk = opener(tmp_path / "db")
    disk.abort_install()
    for end in (disk.abort_install, lambda: None):
        disk.begin_install()
        disk.add_install([("pending", b"from the first try", b"x")])
        end()
    disk.begin_install()
    disk.add_install([("pending", b"from the last", b"x")])
    disk.finish_install()
    disk.write()
    assert all_records(disk) == {b"from the last": b"x"}
    disk.begin_install()
    disk.add_install([("pending", b"third", b"x")])
    disk.finish_install()
    disk.write()
    assert all_records(disk) == {b"third": b"x"}


def test_a_second_opening_is_told_that_the_directory_is_in_use(
    opener: Opener, tmp_path: Path
) -> None:
    opener(tmp_path / "db")
    with pytest.raises(DirectoryInUseError, match=r"in use by another process: stop that process"):
        opener(tmp_path / "db")


def test_closing_ends_open_readers_so_that_the_directory_can_be_opened_again(
    opener: Opener, tmp_path: Path
) -> None:
    disk = opener(tmp_path / "db")
    disk.put("pending", b"1", b"x")
    disk.put("pending", b"2", b"x")
    disk.write()
    reader, records = disk.open_snapshot(), disk.iterate("pending")
    next(records)
    disk.close()
    disk.close()
    assert reader.next_chunk(100) == []
    assert list(records) == []
    opener(tmp_path / "db")


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize("damage", ["current", "manifest", "table", "missing table", "no current"])
def test_damage_is_named_as_damage(opener: Opener, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "db"
    disk = opener(path)
    for number in range(100):
        disk.put("pending", b"%d" % number, b"record")
    disk.write()
    disk.close()
    gc.collect()
    table = next(path.glob("*.sst"), None)
    assert table is not None, "closing wrote no table"
    match damage:
        case "current":
            (path / "CURRENT").write_text("junk\n")
        case "manifest":
            flip(next(path.glob("MANIFEST-*")), 20)
        case "table":
            flip(table, 10)
        case "missing table":
            table.unlink()
        case _:
            (path / "CURRENT").unlink()
    with pytest.raises(DiskDamagedError, match=r"damaged|cannot be read"):
        all_records(opener(path))


def test_a_family_of_another_version_is_not_opened(opener: Opener, tmp_path: Path) -> None:
    opener(tmp_path / "db", (*FAMILIES, "schedules")).close()
    with pytest.raises(StartError, match=r"does not know \(schedules@0, schedules@1\)"):
        opener(tmp_path / "db")


def test_a_new_family_of_this_version_starts_empty(opener: Opener, tmp_path: Path) -> None:
    disk = opener(tmp_path / "db")
    disk.put("pending", b"1", b"x")
    disk.write()
    disk.close()
    wider = opener(tmp_path / "db", (*FAMILIES, "schedules"))
    assert all_records(wider, "schedules") == {}
    assert all_records(wider) == {b"1": b"x"}


@pytest.mark.parametrize(
    ("text", "kind", "advice"),
    [
        ("IO error: No space left on device: While ...", DiskFullError, "free some"),
        ("Corruption: IO error: No space left on device", DiskFullError, "free some"),
        ("IO error: ... /LOCK: Permission denied", DirectoryDeniedError, "give it to the user"),
        ("IO error: Read-only file system", StartError, "cannot be used"),
    ],
)
def test_errors_of_the_system_say_what_to_do(
    text: str, kind: type[StartError], advice: str
) -> None:
    error = open_error(Path("data/db"), text)
    assert type(error) is kind
    assert advice in str(error)
    assert "data/db" in str(error)


FAILING_DISK = """
import resource, signal, sys
from pathlib import Path
from cluster.disk import RocksDisk
from cluster.faults import DiskFailedError

disk = RocksDisk(Path(sys.argv[1]), ["pending"])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
for attempt in range(1000):
    disk.put("pending", b"%d" % attempt, b"x" * 1000)
    try:
        disk.write()
    except DiskFailedError as error:
        print("failed", error)
        break
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
disk.put("pending", b"small", b"x")
for action in (disk.write, disk.sync, disk.begin_install):
    try:
        action()
        print("went on")
    except DiskFailedError as error:
        print("still failed")
disk.close()
"""


def test_a_failed_write_stays_failed_when_there_is_space_again(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", FAILING_DISK, str(tmp_path / "db")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    first, *later = ran.stdout.splitlines()
    assert first.startswith("failed the database")
    assert "failed to write" in first
    assert later == ["still failed"] * 3


def test_damage_that_a_compaction_meets_is_told_by_the_write_after_it(
    opener: Opener, tmp_path: Path
) -> None:
    path = tmp_path / "db"
    disk = opener(path)
    column = disk._columns["pending@0"]
    for _ in range(2):  # one file alone is moved and not read
        for number in range(200):
            disk.put("pending", b"%03d" % number, random.Random(number).randbytes(100))
        disk.write()
        column.flush()
    noted: list[str] = []
    disk.condition.on_damage = noted.append
    flip(max(path.glob("*.sst")), 5000)
    column.compact_range(None, None)
    disk.put("pending", b"more", b"")
    with pytest.raises(DiskFailedError, match="is damaged: Corruption"):
        disk.write()
    with pytest.raises(DiskFailedError, match="is damaged: Corruption"):
        disk.sync()
    assert [disk.condition.damage] == noted


class Undroppable:
    """A database that gives up everything but what an earlier generation has left."""

    def __init__(self, database: Any, text: str) -> None:
        self._database = database
        self._text = text

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    def drop_column_family(self, _name: str) -> None:
        raise Exception(self._text)  # noqa: TRY002 - as rocksdict does


@pytest.mark.parametrize(
    ("text", "kind"),
    [("IO error: No space left on device", DiskFullError), ("Corruption: bad", DiskDamagedError)],
)
def test_leftovers_that_cannot_be_dropped_are_told_like_every_other_error_of_an_open(
    opener: Opener,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    kind: type[StartError],
) -> None:
    disk = opener(tmp_path / "db")
    disk.begin_install()
    disk.add_install([("pending", b"half", b"installed")])
    disk.close()
    whole: Any = RocksDisk._open
    with monkeypatch.context() as patch:
        patch.setattr(RocksDisk, "_open", lambda disk: Undroppable(whole(disk), text))
        with pytest.raises(kind):
            opener(tmp_path / "db")
    assert all_records(opener(tmp_path / "db")) == {}
