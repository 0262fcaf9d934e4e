"""What the engine may rely on, asked of RocksDB and of the simulated disk alike."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.faults import DiskFailedError
from cluster.interface import RAFT_LOG, RAFT_META
from tests.support.disk_machines import FAMILIES, MAKERS, ConformingDisk, Machine

ALL_FAMILIES = (RAFT_LOG, RAFT_META, *FAMILIES)
OWN_RECORDS = {b"write_sequence", b"generation"}
"""What RocksDB keeps of its own in `raft_meta`."""
MEMORY = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
"""Where hundreds of databases are opened and closed; a killed process is all that is shown."""


@pytest.fixture(params=sorted(MAKERS))
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    """One of each."""
    made = MAKERS[request.param](tmp_path)
    yield made
    made.end()


def records(disk: ConformingDisk, family: str = "pending") -> dict[bytes, bytes]:
    return {k: v for k, v in disk.iterate(family) if k not in OWN_RECORDS}


def put_all(disk: ConformingDisk, family: str, *keys: bytes, value: bytes = b"x") -> int:
    for key in keys:
        disk.put(family, key, value)
    sequence = disk.write()
    assert sequence is not None
    return sequence


# -------------------------------------------------------------------------------- batches


def test_a_batch_shows_whole_after_write_and_not_before(machine: Machine) -> None:
    disk = machine.disk
    disk.put(RAFT_LOG, b"1", b"entry")
    disk.put("pending", b"task", b"record")
    assert records(disk, RAFT_LOG) == records(disk) == {}
    assert disk.write() == 1
    assert disk.get(RAFT_LOG, b"1") == b"entry"
    assert records(disk) == {b"task": b"record"}
    assert disk.get("pending", b"never") is None


def test_an_empty_batch_has_no_number(machine: Machine) -> None:
    assert machine.disk.write() is None
    assert machine.disk.sequence == 0


def test_the_order_within_a_batch_counts(machine: Machine) -> None:
    disk = machine.disk
    put_all(disk, RAFT_LOG, b"a", b"b", b"c", b"d", value=b"old")
    disk.delete_range(RAFT_LOG, b"b", b"d")
    disk.put(RAFT_LOG, b"c", b"new")
    disk.delete(RAFT_LOG, b"d")
    disk.delete(RAFT_LOG, b"never there")
    disk.put(RAFT_LOG, b"a", b"first")
    disk.put(RAFT_LOG, b"a", b"second")
    disk.write()
    assert records(disk, RAFT_LOG) == {b"a": b"second", b"c": b"new"}


def test_a_range_holds_its_start_and_not_its_end(machine: Machine) -> None:
    disk = machine.disk
    put_all(disk, "pending", b"a", b"b", b"ba", b"c")
    disk.delete_range("pending", b"b", b"c")
    disk.delete_range("pending", b"x", b"z")
    disk.delete_range("pending", b"c", b"c")
    disk.write()
    assert list(disk.iterate("pending")) == [(b"a", b"x"), (b"c", b"x")]


@pytest.mark.parametrize("action", ["put", "delete", "delete_range"])
def test_a_family_that_is_not_there_is_refused_at_once(machine: Machine, action: str) -> None:
    disk = machine.disk
    calls: dict[str, Callable[[], None]] = {
        "put": lambda: disk.put("unknown", b"1", b"x"),
        "delete": lambda: disk.delete("unknown", b"1"),
        "delete_range": lambda: disk.delete_range("unknown", b"1", b"2"),
    }
    with pytest.raises(KeyError):
        calls[action]()
    assert disk.write() is None


# ---------------------------------------------------------------------------------- order


def test_records_come_in_the_order_of_their_bytes(machine: Machine) -> None:
    disk = machine.disk
    keys = [b"\xff", b"\x00", b"b", b"a", b"\x7f\xff", b"\x80", b"aa", b"", b"a\x00"]
    put_all(disk, "pending", *keys)
    assert [key for key, _ in disk.iterate("pending")] == sorted(keys)
    assert [key for key, _ in disk.iterate("pending", b"a\x00")] == sorted(keys)[3:]
    put_all(disk, "pending", b"a\x01", b"\xff\xff")
    assert [key for key, _ in disk.iterate("pending", b"b")] == [
        b"b",
        b"\x7f\xff",
        b"\x80",
        b"\xff",
        b"\xff\xff",
    ]


def test_a_scan_gives_at_most_its_limit(machine: Machine) -> None:
    disk = machine.disk
    put_all(disk, "pending", b"1", b"3", b"5", b"7")
    assert disk.scan("pending", b"2", 2) == [(b"3", b"x"), (b"5", b"x")]
    assert disk.scan("pending", b"7", 9) == [(b"7", b"x")]
    assert disk.scan("pending", b"8", 9) == disk.scan("pending", b"", 0) == []


def test_an_iteration_shows_the_moment_of_its_call(machine: Machine) -> None:
    disk = machine.disk
    put_all(disk, "pending", b"1", b"2")
    shown = disk.iterate("pending")
    disk.delete("pending", b"1")
    put_all(disk, "pending", b"2", b"3", value=b"later")
    assert list(shown) == [(b"1", b"x"), (b"2", b"x")]


# ------------------------------------------------------------------------------- sequence


def test_sequence_numbers_go_on_over_restarts(machine: Machine) -> None:
    for number in (1, 2):
        assert put_all(machine.disk, RAFT_META, b"vote") == number
    assert machine.disk.sync() == 2
    machine.reopen()
    assert machine.disk.sequence == 2
    assert put_all(machine.disk, RAFT_META, b"vote") == 3
    machine.crash()
    assert machine.disk.sequence == 3
    assert put_all(machine.disk, RAFT_META, b"vote") == 4
    assert machine.disk.sync() == 4


def test_a_kill_takes_only_the_batch_that_was_not_written(machine: Machine) -> None:
    put_all(machine.disk, "pending", b"synced")
    machine.disk.sync()
    put_all(machine.disk, "pending", b"written")
    machine.disk.put("pending", b"pending", b"x")
    machine.crash()
    assert records(machine.disk) == {b"synced": b"x", b"written": b"x"}
    assert machine.disk.write() is None


# ------------------------------------------------------------------------------ snapshots


def test_a_snapshot_shows_no_later_write_in_any_family(machine: Machine) -> None:
    disk = machine.disk
    for family in FAMILIES:
        put_all(disk, family, b"1", b"2", value=b"before")
    reader = disk.open_snapshot()
    chunks = []
    for number in range(5):
        for family in FAMILIES:
            disk.put(family, b"0", b"after")
            disk.put(family, b"1", b"after")
            disk.delete(family, b"2")
            disk.put(family, b"3%d" % number, b"after")
        disk.write()
        chunks.append(reader.next_chunk(1))
    assert [record for chunk in chunks for record in chunk] == [
        (family, key, b"before") for family in FAMILIES for key in (b"1", b"2")
    ]
    assert chunks[-1] == reader.next_chunk(1000) == []
    reader.close()
    reader.close()


def test_a_chunk_stays_below_its_bound_unless_one_record_is_larger(machine: Machine) -> None:
    disk = machine.disk
    for key, length in ((b"1", 9), (b"2", 9), (b"3", 50), (b"4", 1)):
        disk.put("pending", key, b"x" * length)
    disk.write()
    reader = disk.open_snapshot()
    chunks = []
    while chunk := reader.next_chunk(20):
        chunks.append([key for _, key, _ in chunk])
    assert chunks == [[b"1", b"2"], [b"3"], [b"4"]]


def test_a_snapshot_outlives_installs(machine: Machine) -> None:
    disk = machine.disk
    put_all(disk, "pending", b"1", value=b"before")
    reader = disk.open_snapshot()
    for _ in range(2):
        install(disk, ("pending", b"1", b"installed"))
    assert reader.next_chunk(1000) == [("pending", b"1", b"before")]
    assert disk.open_snapshot().next_chunk(1000) == [("pending", b"1", b"installed")]


def test_a_snapshot_ends_with_its_disk(machine: Machine) -> None:
    put_all(machine.disk, "pending", b"1")
    reader = machine.disk.open_snapshot()
    machine.disk.close()
    assert reader.next_chunk(1000) == []
    machine.reopen()


# ------------------------------------------------------------------------------- installs


def install(disk: ConformingDisk, *new: tuple[str, bytes, bytes]) -> None:
    disk.begin_install()
    disk.add_install(new)
    disk.finish_install()
    disk.write()


def test_an_install_replaces_the_machine_and_nothing_else(machine: Machine) -> None:
    disk = machine.disk
    for family in ALL_FAMILIES:
        put_all(disk, family, b"old", value=b"1")
    disk.begin_install()
    disk.add_install([("pending", b"new", b"2")])
    disk.add_install([("metadata", b"new", b"2"), ("pending", b"newer", b"3")])
    disk.put(RAFT_META, b"applied", b"77")
    disk.put("pending", b"put before the flip", b"lost")
    disk.finish_install()
    disk.put("pending", b"with the flip", b"4")
    assert records(disk) == {b"old": b"1"}
    disk.write()
    for _ in range(2):
        disk = machine.disk
        assert records(disk) == {b"new": b"2", b"newer": b"3", b"with the flip": b"4"}
        assert records(disk, "metadata") == {b"new": b"2"}
        assert records(disk, RAFT_META) == {b"old": b"1", b"applied": b"77"}
        assert records(disk, RAFT_LOG) == {b"old": b"1"}
        assert disk.generation == 1
        machine.crash()


@pytest.mark.parametrize("end", ["abort", "forget", "crash", "reopen"])
def test_an_install_that_was_not_finished_leaves_nothing(machine: Machine, end: str) -> None:
    put_all(machine.disk, "pending", b"old")
    machine.disk.abort_install()
    machine.disk.begin_install()
    machine.disk.add_install([("pending", b"from the first try", b"x")])
    match end:
        case "abort":
            machine.disk.abort_install()
        case "crash":
            machine.crash()
        case "reopen":
            machine.reopen()
    assert records(machine.disk) == {b"old": b"x"}
    install(machine.disk, ("pending", b"from the last", b"x"))
    assert records(machine.disk) == {b"from the last": b"x"}


def test_a_flip_that_was_not_written_does_not_happen(machine: Machine) -> None:
    put_all(machine.disk, "pending", b"old")
    machine.disk.begin_install()
    machine.disk.add_install([("pending", b"new", b"x")])
    machine.disk.finish_install()
    machine.crash()
    assert records(machine.disk) == {b"old": b"x"}
    assert machine.disk.generation == 0


def test_an_install_of_a_strange_family_stores_nothing(machine: Machine) -> None:
    disk = machine.disk
    disk.begin_install()
    with pytest.raises(KeyError):
        disk.add_install([("pending", b"1", b"x"), ("unknown", b"1", b"x")])
    disk.finish_install()
    disk.write()
    assert records(disk) == {}


def test_an_install_does_not_begin_while_a_flip_is_pending(machine: Machine) -> None:
    machine.disk.begin_install()
    machine.disk.finish_install()
    with pytest.raises(AssertionError, match="before the flip"):
        machine.disk.begin_install()


# --------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("fault", ["write", "sync"])
def test_what_failed_once_stays_failed_until_it_is_opened_again(
    machine: Machine, fault: str
) -> None:
    put_all(machine.disk, "pending", b"before")
    machine.disk.sync()
    machine.disk.put("pending", b"refused", b"x")
    if fault == "write":
        machine.fail_next_write()
        with pytest.raises(DiskFailedError):
            machine.disk.write()
    else:
        machine.disk.write()
        machine.fail_next_sync()
        with pytest.raises(DiskFailedError):
            machine.disk.sync()
    machine.heal()
    machine.disk.put("pending", b"later", b"x")
    for action in (machine.disk.write, machine.disk.sync, machine.disk.begin_install):
        with pytest.raises(DiskFailedError):
            action()
    assert machine.disk.get("pending", b"before") == b"x", "what is there can still be read"
    machine.disk.close()
    machine.reopen()
    assert machine.disk.get("pending", b"before") == b"x"
    assert machine.disk.get("pending", b"later") is None
    put_all(machine.disk, "pending", b"again")
    assert machine.disk.sync() == machine.disk.sequence


# ------------------------------------------------------------------------------ histories

keys = st.sampled_from([b"", b"a", b"b", b"bb", b"c", b"\xff"])
families = st.sampled_from(ALL_FAMILIES)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), families, keys, st.binary(max_size=3)),
        st.tuples(st.just("delete"), families, keys),
        # Not of raft_meta, where a disk keeps what it needs itself.
        st.tuples(st.just("delete_range"), families.filter(RAFT_META.__ne__), keys, keys),
        st.tuples(st.just("write")),
        st.tuples(st.just("sync")),
        st.tuples(st.just("install"), st.dictionaries(keys, st.binary(max_size=3), max_size=3)),
        st.tuples(st.just("begin"), st.dictionaries(keys, st.binary(max_size=3), max_size=3)),
        st.tuples(st.just("snapshot")),
        st.tuples(st.just("crash")),
        st.tuples(st.just("reopen")),
    ),
    max_size=30,
)


def play(machine: Machine, history: Sequence[tuple[object, ...]]) -> list[object]:
    """Carry out a history and return everything that was to be seen on the way."""
    seen: list[object] = []
    readers = []
    for step in history:
        action, *arguments = step
        disk = machine.disk
        match action:
            case "install":
                begin(disk, arguments[0])
                disk.finish_install()
            case "begin":
                begin(disk, arguments[0])
            case "snapshot":
                readers.append(disk.open_snapshot())
            case "crash" | "reopen":
                seen.append([drain(reader) for reader in readers])
                readers.clear()
                getattr(machine, str(action))()
            case _:
                if action == "delete_range" and arguments[1] > arguments[2]:  # type: ignore[operator]  # both are keys
                    continue
                seen.append(getattr(disk, str(action))(*arguments))
        state = {family: list(records(machine.disk, family).items()) for family in ALL_FAMILIES}
        seen.append((state, machine.disk.sequence, machine.disk.generation))
    return [*seen, [drain(reader) for reader in readers]]


def begin(disk: ConformingDisk, new: object) -> None:
    assert isinstance(new, dict)
    disk.write()  # the flip of an earlier one must be through
    disk.begin_install()
    disk.add_install([("pending", key, value) for key, value in new.items()])


def drain(reader: object) -> list[object]:
    seen: list[object] = []
    while chunk := reader.next_chunk(4):  # type: ignore[attr-defined]  # a SnapshotReader
        seen.append(chunk)
    return seen


@settings(max_examples=40)
@given(history=steps)
def test_both_show_the_same_in_every_history(history: list[tuple[object, ...]]) -> None:
    with TemporaryDirectory(dir=MEMORY) as path, contextlib.ExitStack() as stack:
        shown = []
        for name, make in sorted(MAKERS.items()):
            machine = make(Path(path) / name)
            stack.callback(machine.end)
            shown.append(play(machine, history))
        assert shown[0] == shown[1]
