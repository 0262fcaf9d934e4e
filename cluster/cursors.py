"""Reading records in order: a cursor over one family, and a consistent view of several.

A RocksDB iterator shows the records as they were when it was made, whatever is written
later. It also keeps their files, and the lock of the database, for as long as it lives: so
everything here can be closed by the disk that gave it out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from cluster.faults import DiskDamagedError


class RawIterator(Protocol):
    """The part of a RocksDB iterator that is used."""

    def valid(self) -> bool:
        """Whether it stands on a record."""

    def status(self) -> None:
        """Raise when it stopped because a block could not be read."""

    def seek_to_first(self) -> None:
        """Stand on the first record."""

    def key(self) -> bytes:
        """The key it stands on."""

    def value(self) -> bytes:
        """The value it stands on."""

    def next(self) -> None:
        """Go to the next record."""


def check_end(raw: RawIterator) -> None:
    """Tell the end of the records from a block that could not be read.

    Raises:
        DiskDamagedError: The iterator stopped early.
    """
    try:
        raw.status()
    except Exception as error:
        raise DiskDamagedError(f"the database cannot be read: {error}") from error


class Cursor:
    """The records of one family from a positioned iterator on, as (key, value)."""

    def __init__(self, raw: RawIterator) -> None:
        self._raw: RawIterator | None = raw

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return self

    def __next__(self) -> tuple[bytes, bytes]:
        raw = self._raw
        if raw is None:
            raise StopIteration
        if not raw.valid():
            self._raw = None
            check_end(raw)
            raise StopIteration
        record = raw.key(), raw.value()
        raw.next()
        return record

    def close(self) -> None:
        """End the iteration where it is."""
        self._raw = None


class Snapshot:
    """A consistent view of several families as they were when it was made.

    A rocksdict `Snapshot` shows later writes to whoever iterates it, so this holds one
    iterator per family instead, all made and positioned in one turn of the event loop with
    no write in between.
    """

    def __init__(self, sources: Sequence[tuple[str, RawIterator]]) -> None:
        self._sources = list(sources)
        for _, raw in self._sources:
            raw.seek_to_first()

    def next_chunk(self, max_bytes: int) -> list[tuple[str, bytes, bytes]]:
        """Return the next records as (family, key, value), an empty list at the end.

        Args:
            max_bytes: Keys and values together stay at or below this, unless a single
                record is larger.

        Raises:
            DiskDamagedError: A block of the database does not match its checksum.
        """
        chunk: list[tuple[str, bytes, bytes]] = []
        size = 0
        while self._sources:
            family, raw = self._sources[0]
            if not raw.valid():
                check_end(raw)
                del self._sources[0]
                continue
            key, value = raw.key(), raw.value()
            size += len(key) + len(value)
            if chunk and size > max_bytes:
                break
            chunk.append((family, key, value))
            raw.next()
        return chunk

    def close(self) -> None:
        """Let go of the view; may be called twice."""
        self._sources.clear()
