"""A database in memory, with a page cache and everything a real disk may do to it.

`tests.support.sim_directory` says how it is opened, killed and hurt.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from cluster.condition import Condition
from cluster.faults import DiskDamagedError, DiskFullError
from cluster.interface import RAFT_LOG, RAFT_META, SnapshotRecord
from tests.support.sim_records import (
    INSTALLED,
    MISMATCH,
    Batch,
    End,
    Family,
    Operation,
    SimReader,
    size_of,
)

Place = Literal["log", "table", "manifest", "file"]
"""Where a bit may flip."""

_PATH = Path("data/db")
_GONE = "the process that opened this disk is gone"

LOG_RECORDS = 500
"""Records in the write-ahead log before a sync moves them to tables."""

BLOCK_RECORDS = 8
"""Records of a table that one flipped bit makes unreadable."""

OPEN_BYTES = 64 << 10
"""Room that opening a database takes."""

DISK_BYTES = 100 << 30
"""Size of the disk; all of it is free unless it was filled."""


class SimDisk:
    """One node's database: a `cluster.seams.SyncedDisk`.

    Args:
        families: Names of the machine's families.
    """

    def __init__(self, families: Sequence[str]) -> None:
        self.families = tuple(families)
        self.log_records = LOG_RECORDS
        self.room_bytes: int | None = None
        """Bytes left on the disk; None for more than enough."""
        self.condition = Condition(_PATH)
        self.before_write: Callable[[int], None] | None = None
        self.around_write: Callable[[], None] | None = None
        """Called just before and just after a batch is written; it may raise."""
        self._empty()

    def _empty(self) -> None:
        self._content = {name: Family({}) for name in (RAFT_LOG, RAFT_META, *self.families)}
        self.sequence = 0
        """Number of the last batch written; it survives a restart."""
        self.durable = 0
        """Number of the last batch that a power loss cannot take."""
        self.generation = 0
        self.existed = False
        self._log: list[Batch] = []
        self._log_records = 0
        self._readers: list[SimReader] = []
        self._damaged_from: int | None = None
        self._manifest_damaged = False
        self._sync_fails = False
        self._forget_process()

    def _forget_process(self) -> None:
        self._pending: list[Operation] = []
        self._staging: dict[str, Family] | None = None
        self._staged: dict[str, Family] = {}

    # ------------------------------------------------------------ what the node calls

    def put(self, family: str, key: bytes, value: bytes) -> None:
        self._content[family]  # KeyError for an unknown one
        self._pending.append((family, key, value))

    def delete(self, family: str, key: bytes) -> None:
        self._content[family]
        self._pending.append((family, key, None))

    def delete_range(self, family: str, start: bytes, end: bytes) -> None:
        self._content[family]
        self._pending.append((family, start, End(end)))

    def write(self) -> int | None:
        pending = self._pending
        if not pending:
            return None
        around = self.around_write
        if around is not None:
            around()
        self._pending = []
        self._check(pending)
        batch = Batch(self.sequence + 1)
        note = batch.before.append
        for operation in pending:
            name, key, value = operation
            if operation is INSTALLED:
                self._exchange(batch)
                continue
            family = self._content[name]
            if family.shared:
                family = self._content[name] = family.copy()
            if value is None:
                note((name, key, family.delete(key)))
            elif value.__class__ is End:
                for gone, old in family.delete_range(key, value.key):
                    note((name, gone, old))
            else:
                note((name, key, family.put(key, value)))  # type: ignore[arg-type]  # the same
        self._log.append(batch)
        self._log_records += len(pending)
        self.sequence = batch.sequence
        if around is not None:
            around()
        return batch.sequence

    def _exchange(self, batch: Batch) -> None:
        batch.families = (len(batch.before), {name: self._content[name] for name in self.families})
        self._content.update(self._staged)
        self._staged = {}
        self.generation += 1

    def _check(self, pending: Sequence[Operation]) -> None:
        self.condition.check()
        if self.room_bytes is None:
            return
        size = sum(len(key) + size_of(value) for _, key, value in pending)
        if self.before_write is not None:
            self.before_write(size)
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
            raise self.condition.unreadable(MISMATCH)
        return found.records.get(key)

    def iterate(self, family: str, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        return self._content[family].view(self.condition, start)

    def scan(self, family: str, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        found = self._content[family]
        keys = found.sorted_keys()
        at = bisect_left(keys, start)
        chosen = keys[at : at + limit]
        if found.damaged and not found.damaged.isdisjoint(chosen):
            raise self.condition.unreadable(MISMATCH)
        return [(key, found.records[key]) for key in chosen]

    def open_snapshot(self) -> SimReader:
        families = {name: self._content[name] for name in self.families}
        for family in families.values():
            family.shared = True
        reader = SimReader(families, self.condition)
        self._readers = [*(reader for reader in self._readers if not reader.closed), reader]
        return reader

    def begin_install(self) -> None:
        assert INSTALLED not in self._pending, "begin_install before the flip"
        self.condition.check()
        self._staging = {name: Family({}) for name in self.families}

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
        self._pending.append(INSTALLED)

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
    def is_damaged(self) -> bool:
        """A bit has flipped, and nothing has met it yet."""
        known = self._manifest_damaged or self._damaged_from is not None
        return known or any(family.damaged for family in self._content.values())

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

    def _take_back(self, batch: Batch) -> None:
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

    def flip(self, rng: random.Random, place: Place, *, up_to: int | None = None) -> str:
        """Flip one bit and say where.

        Args:
            rng: Draws.
            place: Where.
            up_to: In the write-ahead log, the last batch it may hit.
        """
        if place == "manifest":
            self._manifest_damaged = True
            return "the manifest"
        if place == "log":
            batches = [one.sequence for one in self._log if up_to is None or one.sequence <= up_to]
            if not batches:
                return "nothing: the write-ahead log has no batch so old"
            batch = rng.choice(batches)
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
            self._content.setdefault(name, Family({}))
        self.condition = Condition(_PATH)
        self.before_write = self.around_write = None
        self._sync_fails = False
        self._readers = []
        self._forget_process()
        if self._damaged_from is not None:
            self._roll_back(self._damaged_from - 1)
        self.existed = True
        self.durable = self.sequence
        self._to_tables()
