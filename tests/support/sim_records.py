"""What a simulated disk is made of: families with their order, batches that can be taken back."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence

from cluster.condition import Condition
from cluster.interface import SnapshotRecord


class Family:
    """Records of one family, with their keys in order while somebody needs them."""

    __slots__ = ("damaged", "keys", "records", "shared")

    def __init__(self, records: dict[bytes, bytes]) -> None:
        self.records = records
        self.keys: list[bytes] | None = None
        self.damaged: set[bytes] = set()
        self.shared = False
        """A reader looks at it: whoever changes it changes a copy."""

    def copy(self) -> Family:
        family = Family(self.records.copy())
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
            raise condition.unreadable(MISMATCH)
        yield key, value


MISMATCH = Exception("Corruption: block checksum mismatch")


class End:
    """In the place of a value: the record is the range from its key up to here."""

    __slots__ = ("key",)

    def __init__(self, key: bytes) -> None:
        self.key = key


Operation = tuple[str, bytes, bytes | End | None]
INSTALLED: Operation = ("", b"", None)
"""In a batch: here the machine's families are exchanged for the installed ones."""


def size_of(value: bytes | End | None) -> int:
    return len(value) if isinstance(value, bytes) else 0


class Batch:
    """One written batch in the write-ahead log, with what takes it back."""

    __slots__ = ("before", "families", "sequence")

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence
        self.before: list[tuple[str, bytes, bytes | None]] = []
        self.families: tuple[int, dict[str, Family]] | None = None
        """Where in `before` an install stands, and what it replaced."""


class SimReader:
    """The machine's families as they were when it was opened."""

    def __init__(self, families: Mapping[str, Family], condition: Condition) -> None:
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
