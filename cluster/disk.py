"""One RocksDB per node: the `Disk` the engine writes its log and its machine's records to.

Durability is split in two, because `write(sync=True)` keeps the interpreter lock for as
long as the disk takes while `flush_wal(True)` gives it up: `write` hands a batch to the
operating system in microseconds, `sync` makes everything written before it durable and is
called in a thread. Recovery is point-in-time: what is found after a crash is a prefix of
the batches written. Every batch therefore carries a growing sequence number in
`raft_meta`; the sequence found at open says exactly how long that prefix is, and a
high-water mark kept in a file of its own (`cluster.watermark`) says how long it must be.

Each family of the machine is stored in one of two column families, `name@0` and `name@1`.
The record `generation` says which one counts; installing a snapshot fills the other and
flips the record in one batch, together with whatever else is pending and with the range
delete that empties the generation left behind. So a crash at any point leaves one whole
generation. Column families are never made or dropped while the node runs: that holds the
interpreter lock through several fsyncs (4 to 8 ms each on a fast disk).

This is the only module that works with rocksdict (`cluster.tables` has the options), which
raises plain `Exception` for everything that goes wrong: hence the broad excepts.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from weakref import WeakSet

from rocksdict import Cache, ColumnFamily, Rdict, ReadOptions, WriteBatch

from cluster.condition import Condition
from cluster.cursors import Cursor, RawIterator, Snapshot, failure
from cluster.faults import StartError, open_error
from cluster.gaps import Gaps, TooFarError
from cluster.interface import RAFT_LOG, RAFT_META, SnapshotRecord
from cluster.tables import BLOCK_CACHE_BYTES, database_options, family_options
from cluster.wal import disarm

_SEQUENCE_KEY = b"write_sequence"
_GENERATION_KEY = b"generation"
_U64 = struct.Struct(">Q")

# Bounds a range delete of every key: keys are shorter, and their order is that of memcmp.
_AFTER_EVERY_KEY = b"\xff" * 64

# How many deleted records a look for the next one passes before it is given up: some 10 ms.
_LOOK_MAX = 5000


class RocksDisk:
    """The durable store of one node; only `sync` may be called from another thread.

    Args:
        path: Directory of the database; made when it is missing.
        families: Names of the machine's families, without `@`.

    Attributes:
        condition: What has gone wrong since it was opened.
        before_write: Called with the size of each batch before it is handed over; makes room.

    Raises:
        StartError: What is wrong with the directory, in one sentence.
    """

    def __init__(self, path: Path, families: Sequence[str]) -> None:
        self._path = path
        self._machine_families = tuple(families)
        self.condition = Condition(path)
        self.before_write: Callable[[int], None] | None = None
        self._installing = False
        self._open_readers: WeakSet[Snapshot | Cursor] = WeakSet()
        self._cache = Cache(BLOCK_CACHE_BYTES)
        self._batch = WriteBatch(raw_mode=True)
        self._database = self._open()
        self._columns: dict[str, Rdict] = {}
        self._handles: dict[str, ColumnFamily] = {}
        self._sources: dict[str, Rdict] = {}
        self._targets: dict[str, ColumnFamily] = {}
        self._gaps = {name: Gaps() for name in self._machine_families}
        try:
            self._recover()
        except BaseException:
            self.close()  # or the lock is held for as long as the error is looked at
            raise

    def _recover(self) -> None:
        for name in self._stored():
            self._columns[name] = self._database.get_column_family(name)
            self._handles[name] = self._database.get_column_family_handle(name)
        self._sources[RAFT_META] = self._columns[RAFT_META]
        self._sequence = self._number(_SEQUENCE_KEY)
        self._generation = self._number(_GENERATION_KEY)
        self._pending_generation = self._generation
        try:
            self._drop_leftovers()
        except Exception as error:
            raise open_error(self._path, str(error)) from error
        self._read_from(self._generation)
        self._write_to(self._generation)
        for family, gaps in self._gaps.items():
            # Before anyone waits for an answer, however many deleted records come first.
            if (first := self._first(family, b"", None, passed_max=0)) is not None:
                gaps.found(b"", first)

    def _stored(self) -> list[str]:
        pairs = [f"{name}@{slot}" for name in self._machine_families for slot in (0, 1)]
        return [RAFT_LOG, RAFT_META, *pairs]

    def _open(self) -> Rdict:
        columns = {name: family_options(name, self._cache) for name in self._stored()}
        options = database_options()
        foreign: list[str] = []
        try:
            disarm(self._path)
            if (self._path / "CURRENT").exists():
                stored = set(Rdict.list_cf(str(self._path), options))
                foreign = sorted(stored - {"default", *columns})
            if not foreign:
                return Rdict(str(self._path), options, column_families=columns)
        except Exception as error:
            raise open_error(self._path, str(error)) from error
        raise StartError(
            f"the database {self._path} holds families this version does not know "
            f"({', '.join(foreign)}): start the version that wrote it"
        )

    def _number(self, key: bytes) -> int:
        return int(_U64.unpack(self.get(RAFT_META, key) or bytes(_U64.size))[0])

    def _drop_leftovers(self) -> None:
        """Give back the space of what an earlier generation, or half a one, left behind."""
        for family in self._machine_families:
            name = f"{family}@{1 - self._generation % 2}"
            # Deleted ranges leave no record, but files: both are asked for.
            files_bytes = self._columns[name].property_int_value("rocksdb.total-sst-files-size")
            records = self._columns[name].property_int_value("rocksdb.estimate-num-keys")
            if not files_bytes and not records:
                continue
            self._columns.pop(name).close()
            del self._handles[name]
            self._database.drop_column_family(name)
            options = family_options(name, self._cache)
            self._columns[name] = self._database.create_column_family(name, options)
            self._handles[name] = self._database.get_column_family_handle(name)

    def _read_from(self, generation: int) -> None:
        """Show readers this generation of the machine's families."""
        self._sources = {name: self._columns[name] for name in (RAFT_LOG, RAFT_META)}
        for name in self._machine_families:
            self._sources[name] = self._columns[f"{name}@{generation % 2}"]

    def _write_to(self, generation: int) -> None:
        """Have the pending batch write this generation of the machine's families."""
        self._targets = {name: self._handles[name] for name in (RAFT_LOG, RAFT_META)}
        for name in self._machine_families:
            self._targets[name] = self._handles[f"{name}@{generation % 2}"]

    @property
    def sequence(self) -> int:
        """Number of the last batch written; it survives a restart."""
        return self._sequence

    @property
    def generation(self) -> int:
        """How many snapshots have been installed into this database."""
        return self._generation

    def put(self, family: str, key: bytes, value: bytes) -> None:
        """Add a record to the pending batch."""
        self._batch.put(key, value, self._targets[family])
        if (gaps := self._gaps.get(family)) is not None and gaps.known:
            gaps.put(key)

    def delete(self, family: str, key: bytes) -> None:
        """Remove a record, or nothing, in the pending batch."""
        self._batch.delete(key, self._targets[family])
        if (gaps := self._gaps.get(family)) is not None:
            gaps.delete(key)

    def delete_range(self, family: str, start: bytes, end: bytes) -> None:
        """Remove every record with `start <= key < end` in the pending batch."""
        self._batch.delete_range(start, end, self._targets[family])

    def write(self) -> int | None:
        """Hand the pending batch to the system, atomically over all families.

        Returns:
            The batch's sequence number; it is durable once a `sync` that began later has
            returned. None when nothing was pending.

        Raises:
            DiskFailedError: This write or an earlier one failed.
        """
        if self._batch.is_empty():
            return None
        sequence = self._sequence + 1
        self._batch.put(_SEQUENCE_KEY, _U64.pack(sequence), self._handles[RAFT_META])
        batch, self._batch = self._batch, WriteBatch(raw_mode=True)
        self._hand_over(batch)
        self._sequence = sequence
        if self._generation != self._pending_generation:
            self._generation = self._pending_generation
            self._read_from(self._generation)
            for gaps in self._gaps.values():
                gaps.clear()
        for family, gaps in self._gaps.items():
            if gaps.deleted:
                gaps.learn(partial(self._first, family))
        return sequence

    def _hand_over(self, batch: WriteBatch) -> None:
        self.condition.check()
        if self.before_write is not None:
            self.before_write(batch.size_in_bytes())
        try:
            self._database.write(batch)
        except Exception as error:
            raise self.condition.failed("write", error) from error

    def sync(self) -> int:
        """Make everything written so far durable; runs in a thread, frees the event loop.

        Returns:
            The sequence number up to which batches are durable.

        Raises:
            DiskFailedError: The fsync failed, or something failed before; it stays failed.
        """
        self.condition.check()
        sequence = self._sequence
        try:
            self._database.flush_wal(True)
        except Exception as error:
            raise self.condition.failed("sync", error) from error
        return sequence

    def get(self, family: str, key: bytes) -> bytes | None:
        """Return a written record's value, or None; `DiskDamagedError` if it is unreadable."""
        try:
            value: bytes | None = self._sources[family].get(key)
        except Exception as error:
            raise self.condition.unreadable(error) from error
        return value

    def iterate(self, family: str, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield the written records of a family with `key >= start` in the order of keys.

        The view is the one at the time of the call; later writes do not show.
        """
        if (gaps := self._gaps.get(family)) is not None:
            start, _ = gaps.way(start)
        cursor = Cursor(self._reader(family, start, None), self.condition)
        self._open_readers.add(cursor)
        return cursor

    def scan(self, family: str, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return up to `limit` written records with `key >= start` in the order of keys.

        It does not walk over stretches of deleted records that this process has made.
        """
        gaps = self._gaps[family]
        found: list[tuple[bytes, bytes]] = []
        until: bytes | None = start
        while until is not None and len(found) < limit:
            start, until = gaps.way(until)
            raw = self._reader(family, start, until)
            found += islice(Cursor(raw, self.condition), limit - len(found))
        return found

    def _first(
        self, family: str, start: bytes, end: bytes | None, *, passed_max: int = _LOOK_MAX
    ) -> bytes | None:
        raw = self._reader(family, start, end, passed_max=passed_max)
        if raw.valid():
            return raw.key()
        if failure(raw) is not None and passed_max:
            raise TooFarError
        return None  # or damaged: whoever reads there will be told

    def _reader(
        self, family: str, start: bytes, end: bytes | None, *, passed_max: int = 0
    ) -> RawIterator:
        """Return an iterator that stands on the first key with start <= key < end."""
        options = ReadOptions()
        if end is not None:
            options.set_iterate_upper_bound(end)
        if passed_max:
            options.set_max_skippable_internal_keys(passed_max)
        raw: RawIterator = self._sources[family].iter(options)
        raw.seek(start)
        return raw

    def open_snapshot(self) -> Snapshot:
        """Return a consistent view of all machine families as written by now."""
        heads = [(name, gaps.way(b"")[0]) for name, gaps in self._gaps.items()]
        sources = [(name, self._reader(name, head, None)) for name, head in heads]
        reader = Snapshot(sources, self.condition)
        self._open_readers.add(reader)
        return reader

    def begin_install(self) -> None:
        """Empty the generation that does not count, ready for `add_install`."""
        assert self._pending_generation == self._generation, "begin_install before the flip"
        self._hand_over(self._emptied(WriteBatch(raw_mode=True), self._generation + 1))
        self._installing = True

    def add_install(self, records: Sequence[SnapshotRecord]) -> None:
        """Write records of a snapshot as (family, key, value); no reader sees them yet."""
        assert self._installing, "add_install without begin_install"
        batch, slot = WriteBatch(raw_mode=True), (self._generation + 1) % 2
        for family, key, value in records:
            batch.put(key, value, self._handles[f"{family}@{slot}"])
        self._hand_over(batch)

    def finish_install(self) -> None:
        """Put the flip to the installed generation into the pending batch.

        Records put after this call belong to the installed generation; readers see it once
        `write` has returned. The old generation is emptied by the same batch.
        """
        assert self._installing, "finish_install without begin_install"
        self._installing = False
        self._pending_generation = self._generation + 1
        self._batch.put(
            _GENERATION_KEY, _U64.pack(self._pending_generation), self._handles[RAFT_META]
        )
        self._write_to(self._pending_generation)
        self._emptied(self._batch, self._generation)

    def abort_install(self) -> None:
        """Give up an install; what it wrote is emptied by the next one or at the next open."""
        self._installing = False

    def _emptied(self, batch: WriteBatch, generation: int) -> WriteBatch:
        for family in self._machine_families:
            batch.delete_range(b"", _AFTER_EVERY_KEY, self._handles[f"{family}@{generation % 2}"])
        return batch

    def close(self) -> None:
        """Close the database; open readers end. A failed database closes silently."""
        for reader in list(self._open_readers):
            reader.close()
        for held in (self._handles, self._targets, self._sources):
            held.clear()
        try:
            for column in self._columns.values():
                column.close()
            self._database.close()
        except Exception as error:  # noqa: BLE001 - it raises nothing narrower
            # Closing flushes what is in memory; what was synced is safe in any case.
            self.condition.failed("close", error)
        self._columns.clear()
