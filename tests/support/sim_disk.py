"""A disk and a data directory in memory, with everything a real one may do to a node.

`SimDirectory` is what outlives the processes of one node: the small files and the database.
It stands in for `cluster.directory.DataDirectory`, its `open_disk` for `cluster.disk.RocksDisk`:

    directory = SimDirectory()
    Storage(directory.path, ..., open_directory=directory.open, open_disk=directory.open_disk)

A process ends with `close` of its storage (orderly), or with one of

    directory.kill()            what was written survives; only the lock and the pending batch go
    directory.lose_power(rng)   a suffix of the unsynced batches goes; returns how many
    directory.wipe()            the whole directory is replaced by an empty one

Each opening hands out a new `SimDisk`; the one before it refuses every call from then on, so
that nothing of a dead process can reach the data. `directory.disk` is the one that counts.

Durability: a batch is durable once a `sync` that began after its `write` has returned. Who
decides how long a sync takes remembers `disk.sequence` when it begins and calls
`disk.sync(that)` when it ends; power may be lost in between. A `replace` of a small file is
durable when it returns, unless `replaces_are_synced` was taken away (a planted bug).

Faults, while the node runs or is down; each has an effect when it is met:

    directory.flip(rng)         one bit anywhere; says where. In the write-ahead log: the next
                                open silently forgets that batch and all after it. In a table:
                                reading those records raises. In the manifest: the next open
                                raises. In a small file: the file differs.
    directory.fail_sync()       the next sync or replace fails (EIO); the disk stays failed
    directory.fill(room)        that many bytes are left: then writes fail, and opening too;
                                a ballast that is given up makes room
    directory.free()            there is room again

What the last sync left in the write-ahead log moves to tables when the log is long enough, at
an orderly close and at every open, as in RocksDB; a batch in tables is durable.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from cluster.condition import Condition
from cluster.faults import DirectoryInUseError, DiskDamagedError, DiskFullError, StartError
from cluster.interface import RAFT_LOG, RAFT_META, SnapshotRecord
from cluster.space import Room

Place = Literal["log", "table", "manifest", "file"]
"""Where a bit may flip."""

_PATH = Path("data/db")

LOG_RECORDS = 500
"""Records in the write-ahead log before a sync moves them to tables."""

BLOCK_RECORDS = 8
"""Records of a table that one flipped bit makes unreadable."""

OPEN_BYTES = 64 << 10
"""Room that opening a database takes."""

DISK_BYTES = 100 << 30
"""Size of the disk; all of it is free unless it was filled."""


class _Family:
    """Records of one family, with their keys in order while somebody needs them."""

    __slots__ = ("damaged", "keys", "records", "shared")

    def __init__(self, records: dict[bytes, bytes]) -> None:
        self.records = records
        self.keys: list[bytes] | None = None
        self.damaged: set[bytes] = set()
        self.shared = False
        """A reader looks at it: whoever changes it changes a copy."""

    def copy(self) -> _Family:
        family = _Family(self.records.copy())
        family.keys = None if self.keys is None else self.keys.copy()
        family.damaged = self.damaged.copy()
        return family

    def sorted_keys(self) -> list[bytes]:
        if self.keys is None:
            self.keys = sorted(self.records)
        return self.keys

    def put(self, key: bytes, value: bytes) -> bytes | None:
        """Store a record and return the one before it."""
        old = self.records.get(key)
        self.records[key] = value
        if old is None and self.keys is not None:
            if not self.keys or key > self.keys[-1]:
                self.keys.append(key)
            else:
                self.keys = None
        if self.damaged:
            self.damaged.discard(key)
        return old

    def delete(self, key: bytes) -> bytes | None:
        """Remove a record and return it."""
        old = self.records.pop(key, None)
        if old is not None:
            if self.keys is not None:
                if self.keys[-1] == key:
                    self.keys.pop()
                else:
                    self.keys = None
            if self.damaged:
                self.damaged.discard(key)
        return old

    def delete_range(self, start: bytes, end: bytes) -> list[tuple[bytes, bytes]]:
        """Remove records with `start <= key < end` and return them."""
        keys = self.sorted_keys()
        low, high = bisect_left(keys, start), bisect_left(keys, end)
        removed = [(key, self.records.pop(key)) for key in keys[low:high]]
        del keys[low:high]
        if self.damaged:
            self.damaged.difference_update(key for key, _ in removed)
        return removed

    def view(self, condition: Condition, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Records from a key on, as they are now."""
        keys = self.sorted_keys()
        at = bisect_left(keys, start) if start else 0
        pairs = [(key, self.records[key]) for key in keys[at:]]
        if not self.damaged:
            return iter(pairs)
        return _up_to_damage(pairs, frozenset(self.damaged), condition)


def _up_to_damage(
    pairs: Sequence[tuple[bytes, bytes]], damaged: frozenset[bytes], condition: Condition
) -> Iterator[tuple[bytes, bytes]]:
    for key, value in pairs:
        if key in damaged:
            raise condition.unreadable(_MISMATCH)
        yield key, value


_MISMATCH = Exception("Corruption: block checksum mismatch")
_GONE = "the process that opened this disk is gone"


class _End:
    """In the place of a value: the record is the range from its key up to here."""

    __slots__ = ("key",)

    def __init__(self, key: bytes) -> None:
        self.key = key


_Operation = tuple[str, bytes, bytes | _End | None]
_INSTALLED: _Operation = ("", b"", None)
"""In a batch: here the machine's families are exchanged for the installed ones."""


def _size(value: bytes | _End | None) -> int:
    return len(value) if isinstance(value, bytes) else 0


class _Batch:
    """One written batch in the write-ahead log, with what takes it back."""

    __slots__ = ("before", "families", "sequence")

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence
        self.before: list[tuple[str, bytes, bytes | None]] = []
        self.families: tuple[int, dict[str, _Family]] | None = None
        """Where in `before` an install stands, and what it replaced."""


class SimReader:
    """The machine's families as they were when it was opened."""

    def __init__(self, families: Mapping[str, _Family], condition: Condition) -> None:
        self._families = list(families.items())
        self._condition = condition
        self._at: Iterator[tuple[bytes, bytes]] | None = None
        self._ahead: SnapshotRecord | None = None
        self.closed = False

    def next_chunk(self, max_bytes: int) -> list[SnapshotRecord]:
        chunk: list[SnapshotRecord] = []
        size = 0
        while not self.closed:
            record = self._ahead or self._read()
            self._ahead = None
            if record is None:
                break
            size += len(record[1]) + len(record[2])
            if chunk and size > max_bytes:
                self._ahead = record
                break
            chunk.append(record)
        return chunk

    def _read(self) -> SnapshotRecord | None:
        while self._families:
            name, family = self._families[0]
            if self._at is None:
                self._at = family.view(self._condition)
            for key, value in self._at:
                return name, key, value
            del self._families[0]
            self._at = None
        return None

    def close(self) -> None:
        self.closed = True


class SimDisk:
    """One node's database: a `cluster.recovery.SyncedDisk`.

    Args:
        families: Names of the machine's families.
    """

    def __init__(self, families: Sequence[str]) -> None:
        self.families = tuple(families)
        self.log_records = LOG_RECORDS
        self.room_bytes: int | None = None
        """Bytes left on the disk; None for more than enough."""
        self.condition = Condition(_PATH)
        self.before_write: Callable[[], None] | None = None
        self._empty()

    def _empty(self) -> None:
        self._content = {name: _Family({}) for name in (RAFT_LOG, RAFT_META, *self.families)}
        self.sequence = 0
        """Number of the last batch written; it survives a restart."""
        self.durable = 0
        """Number of the last batch that a power loss cannot take."""
        self.generation = 0
        self.existed = False
        self._log: list[_Batch] = []
        self._log_records = 0
        self._readers: list[SimReader] = []
        self._damaged_from: int | None = None
        self._manifest_damaged = False
        self._sync_fails = False
        self._forget_process()

    def _forget_process(self) -> None:
        self._pending: list[_Operation] = []
        self._staging: dict[str, _Family] | None = None
        self._staged: dict[str, _Family] = {}

    # ------------------------------------------------------------ what the node calls

    def put(self, family: str, key: bytes, value: bytes) -> None:
        self._content[family]  # KeyError for an unknown one
        self._pending.append((family, key, value))

    def delete(self, family: str, key: bytes) -> None:
        self._content[family]
        self._pending.append((family, key, None))

    def delete_range(self, family: str, start: bytes, end: bytes) -> None:
        self._content[family]
        self._pending.append((family, start, _End(end)))

    def write(self) -> int | None:
        pending = self._pending
        if not pending:
            return None
        self._pending = []
        self._check(pending)
        batch = _Batch(self.sequence + 1)
        note = batch.before.append
        for operation in pending:
            name, key, value = operation
            if operation is _INSTALLED:
                self._exchange(batch)
                continue
            family = self._content[name]
            if family.shared:
                family = self._content[name] = family.copy()
            if value is None:
                note((name, key, family.delete(key)))
            elif value.__class__ is _End:
                for gone, old in family.delete_range(key, value.key):
                    note((name, gone, old))
            else:
                note((name, key, family.put(key, value)))  # type: ignore[arg-type]  # the same
        self._log.append(batch)
        self._log_records += len(pending)
        self.sequence = batch.sequence
        return batch.sequence

    def _exchange(self, batch: _Batch) -> None:
        batch.families = (len(batch.before), {name: self._content[name] for name in self.families})
        self._content.update(self._staged)
        self._staged = {}
        self.generation += 1

    def _check(self, pending: Sequence[_Operation]) -> None:
        self.condition.check()
        if self.room_bytes is None:
            return
        if self.before_write is not None:
            self.before_write()
        size = sum(len(key) + _size(value) for _, key, value in pending)
        if size > self.room_bytes:
            raise self.condition.failed("write", Exception("No space left on device"))
        self.room_bytes -= size

    def sync(self, sequence: int | None = None) -> int:
        """Make batches durable.

        Args:
            sequence: What had been written when the sync began; all there is unless given.
        """
        self.condition.check()
        if self._sync_fails:
            self._sync_fails = False
            raise self.condition.failed("sync", Exception("Input/output error"))
        covered = self.sequence if sequence is None else min(sequence, self.sequence)
        self.durable = max(self.durable, covered)
        if self._log_records > self.log_records:
            self._to_tables()
        return covered

    def get(self, family: str, key: bytes) -> bytes | None:
        found = self._content[family]
        if found.damaged and key in found.damaged:
            raise self.condition.unreadable(_MISMATCH)
        return found.records.get(key)

    def iterate(self, family: str, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        return self._content[family].view(self.condition, start)

    def scan(self, family: str, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        found = self._content[family]
        keys = found.sorted_keys()
        at = bisect_left(keys, start)
        chosen = keys[at : at + limit]
        if found.damaged and not found.damaged.isdisjoint(chosen):
            raise self.condition.unreadable(_MISMATCH)
        return [(key, found.records[key]) for key in chosen]

    def open_snapshot(self) -> SimReader:
        families = {name: self._content[name] for name in self.families}
        for family in families.values():
            family.shared = True
        reader = SimReader(families, self.condition)
        self._readers = [*(reader for reader in self._readers if not reader.closed), reader]
        return reader

    def begin_install(self) -> None:
        assert _INSTALLED not in self._pending, "begin_install before the flip"
        self.condition.check()
        self._staging = {name: _Family({}) for name in self.families}

    def add_install(self, records: Sequence[SnapshotRecord]) -> None:
        assert self._staging is not None, "add_install without begin_install"
        unknown = {family for family, _, _ in records} - self._staging.keys()
        if unknown:
            raise KeyError(*unknown)
        self._check(records)
        for family, key, value in records:
            self._staging[family].put(key, value)

    def finish_install(self) -> None:
        assert self._staging is not None, "finish_install without begin_install"
        self._staged, self._staging = self._staging, None
        self._pending.append(_INSTALLED)

    def abort_install(self) -> None:
        self._staging = None

    def close(self) -> None:
        """End in order: what was written is in tables, unless the disk has failed."""
        for reader in self._readers:
            reader.close()
        if self.condition.failure is None:
            self.durable = self.sequence
            self._to_tables()
            self.condition.failure = "the database is closed"
        self._forget_process()

    def _to_tables(self) -> None:
        """Take durable batches out of the write-ahead log."""
        kept = [batch for batch in self._log if batch.sequence > self.durable]
        if self._damaged_from is not None and self._damaged_from <= self.durable:
            self._damaged_from = None  # the tables were written from memory
        self._log = kept
        self._log_records = sum(len(batch.before) for batch in kept)

    # ----------------------------------------------------------- what the world does

    @property
    def content(self) -> Mapping[str, dict[bytes, bytes]]:
        """The records by family, to look at or to damage; in no order."""
        for family in self._content.values():
            family.keys = None
        return {name: family.records for name, family in self._content.items()}

    @property
    def unsynced(self) -> int:
        """How many batches a power loss may take."""
        return self.sequence - self.durable

    def kill(self) -> None:
        """The process is gone: only what it had not yet written is lost."""
        self._forget_process()

    def lose_power(self, rng: random.Random, *, kept: int | None = None) -> int:
        """Lose a suffix of the unsynced batches.

        Wherever the cut falls, inside a batch too, that batch and all after it are gone.

        Args:
            rng: Draws the cut.
            kept: How many unsynced batches survive, instead of a drawn number.

        Returns:
            How many batches were lost.
        """
        self.kill()
        survivors = rng.randint(0, self.unsynced) if kept is None else min(kept, self.unsynced)
        lost = self.unsynced - survivors
        self._roll_back(self.durable + survivors)
        self.durable = self.sequence
        return lost

    def _roll_back(self, sequence: int) -> None:
        """Take back every batch after a sequence number."""
        while self._log and self._log[-1].sequence > sequence:
            self._take_back(self._log.pop())
        self._log_records = sum(len(batch.before) for batch in self._log)
        if self._damaged_from is not None and self._damaged_from > sequence:
            self._damaged_from = None

    def _take_back(self, batch: _Batch) -> None:
        split = batch.families[0] if batch.families else 0
        self._restore(batch.before[split:])
        if batch.families is not None:
            self._content.update(batch.families[1])
            self.generation -= 1
            self._restore(batch.before[:split])
        self.sequence = batch.sequence - 1

    def _restore(self, before: Sequence[tuple[str, bytes, bytes | None]]) -> None:
        for name, key, old in reversed(before):
            family = self._content[name]
            if family.shared:
                family = self._content[name] = family.copy()
            if old is None:
                family.delete(key)
            else:
                family.put(key, old)

    def wipe(self) -> None:
        """The disk is replaced by an empty one."""
        self._empty()

    def fail_sync(self) -> None:
        """The next sync fails, and with it every later call of this process."""
        self._sync_fails = True

    def flippable(self) -> list[Place]:
        """Where a bit can flip now."""
        places: list[Place] = ["manifest"]
        if self._log:
            places.append("log")
        if any(self._tabled()):
            places.append("table")
        return places

    def _tabled(self) -> Iterator[str]:
        """Families that have more records than the write-ahead log speaks of."""
        for name, family in self._content.items():
            if len(family.records) > self._log_records:
                yield name

    def flip(self, rng: random.Random, place: Place) -> str:
        """Flip one bit and say where."""
        if place == "manifest":
            self._manifest_damaged = True
            return "the manifest"
        if place == "log":
            batch = rng.choice(self._log).sequence
            self._damaged_from = min(batch, self._damaged_from or batch)
            return f"batch {batch} of {self.sequence} in the write-ahead log"
        name = rng.choice(list(self._tabled()))
        family = self._content[name]
        fresh = {key for batch in self._log for where, key, _ in batch.before if where == name}
        keys = [key for key in family.sorted_keys() if key not in fresh]
        at = rng.randrange(len(keys))
        family.damaged.update(keys[at : at + BLOCK_RECORDS])
        return f"a table of {name}, from record {at} of {len(keys)} on"

    def opened(self, families: Sequence[str]) -> SimDisk:
        """Open it for a new process; this object is of no use from now on.

        Raises:
            DiskDamagedError: The manifest is damaged.
            DiskFullError: There is no room.
        """
        if self._manifest_damaged:
            raise DiskDamagedError("the database is damaged: Corruption: MANIFEST")
        if self.room_bytes is not None and self.room_bytes < OPEN_BYTES:
            raise DiskFullError("no space left on the disk of the database: free some")
        successor = object.__new__(SimDisk)
        successor.__dict__.update(self.__dict__)
        self._content, self.condition.failure = {}, _GONE
        successor._start(families)
        return successor

    def _start(self, families: Sequence[str]) -> None:
        self.families = tuple(families)
        for name in self.families:
            self._content.setdefault(name, _Family({}))
        self.condition = Condition(_PATH)
        self.before_write = None
        self._sync_fails = False
        self._readers = []
        self._forget_process()
        if self._damaged_from is not None:
            self._roll_back(self._damaged_from - 1)
        self.existed = True
        self.durable = self.sequence
        self._to_tables()


class SimDirectory:
    """One node's data directory: a `cluster.recovery.Directory`.

    Args:
        families: Names of the machine's families.
        path: What messages call it.
    """

    def __init__(self, families: Sequence[str], path: Path = Path("data")) -> None:
        self.path = path
        self.disk = SimDisk(families)
        self.quarantined: list[SimDisk] = []
        self.replaces_are_synced = True
        self._files: dict[str, bytes] = {}
        self._safe_files: dict[str, bytes] = {}
        self._locked = False
        self._replace_fails = False
        self.ballast_bytes = 0

    # ------------------------------------------------------------ what the node calls

    def open(self, path: Path | None = None) -> SimDirectory:
        """Lock it for a process; the `open_directory` of a rim."""
        if self._locked:
            raise DirectoryInUseError(f"the data directory {self.path} is in use")
        self._locked = True
        self._replace_fails = False
        return self

    def open_disk(self, path: Path, families: Sequence[str]) -> SimDisk:
        """Open the database; the `open_disk` of a replica."""
        self.disk = self.disk.opened(families)
        return self.disk

    @property
    def database(self) -> Path:
        return self.path / "db"

    @property
    def has_database(self) -> bool:
        return self.disk.existed

    def read(self, name: str) -> bytes | None:
        return self._files.get(name)

    def replace(self, name: str, content: bytes) -> None:
        if self._replace_fails:
            raise StartError(f"{self.path / name} cannot be used: Input/output error")
        room = self.disk.room_bytes
        if room is not None and room < len(content):
            raise DiskFullError(f"no space left on the disk of {self.path / name}: free some")
        self._files[name] = content
        if self.replaces_are_synced:
            self._safe_files[name] = content

    def quarantine_database(self) -> Path:
        self.quarantined.append(self.disk)
        room = self.disk.room_bytes
        self.disk = SimDisk(self.disk.families)
        self.disk.room_bytes = room
        return self.path / "quarantine" / str(len(self.quarantined))

    def release(self) -> None:
        self._locked = False

    def room(self) -> Room:
        left = self.disk.room_bytes
        return Room(DISK_BYTES if left is None else left, DISK_BYTES)

    def resize_ballast(self, size_bytes: int) -> None:
        left = self.disk.room_bytes
        grown = size_bytes - self.ballast_bytes
        if left is not None:
            if grown > left:
                raise DiskFullError("no space left on the disk for the ballast: free some")
            self.disk.room_bytes = left - grown
        self.ballast_bytes = size_bytes

    # ----------------------------------------------------------- what the world does

    def kill(self) -> None:
        """The process is gone: what it handed to the system is still there."""
        self._locked = False
        self.disk.kill()

    def lose_power(self, rng: random.Random) -> int:
        """Whatever was not synced may be gone; returns how many batches are."""
        self._locked = False
        self._files = self._safe_files.copy()
        return self.disk.lose_power(rng)

    def wipe(self) -> None:
        """A new, empty disk in the place of this one; the quarantine is gone as well."""
        self._locked = False
        self._files, self._safe_files = {}, {}
        self.quarantined = []
        self.ballast_bytes = 0
        self.disk.wipe()

    def flip(self, rng: random.Random, place: Place | None = None) -> str:
        """Flip one bit somewhere, or in a given place if it is there; say where."""
        places = self.disk.flippable()
        if self._files:
            places.append("file")
        chosen = place if place in places else rng.choice(places)
        if chosen != "file":
            return self.disk.flip(rng, chosen)
        name = rng.choice(sorted(self._files))
        content = bytearray(self._files[name])
        bit = rng.randrange(len(content) * 8)
        content[bit // 8] ^= 1 << bit % 8
        self._files[name] = self._safe_files[name] = bytes(content)
        return f"bit {bit} of the file {name}"

    def fail_sync(self) -> None:
        """The next sync of the database, and every replace of this process, fails."""
        self.disk.fail_sync()
        self._replace_fails = True

    def fill(self, room_bytes: int = 0) -> None:
        """Leave only so much room."""
        self.disk.room_bytes = room_bytes

    def free(self) -> None:
        """There is room again. What has failed stays failed until the next opening."""
        self.disk.room_bytes = None
