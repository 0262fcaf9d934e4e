"""Reading records in order: a cursor over one family, and a consistent view of several.

A RocksDB iterator shows the records as they were when it was made, whatever is written
later. It also keeps their files, and the lock of the database, for as long as it lives: so
everything here can be closed by the disk that gave it out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from cluster.condition import Condition


class RawIterator(Protocol):
    """The part of a RocksDB iterator that is used."""

    def valid(self) -> bool:
        """Whether it stands on a record."""

    def status(self) -> None:
        """Raise when it stopped because a block could not be read."""

    def seek(self, key: bytes) -> None:
        """Stand on the first record with this key or a larger one."""

    def key(self) -> bytes:
        """The key it stands on."""

    def value(self) -> bytes:
        """The value it stands on."""

    def next(self) -> None:
        """Go to the next record."""


def failure(raw: RawIterator) -> Exception | None:
    """Tell the end of the records (None) from a block that could not be read.

    The error is returned and not raised: a traceback would keep the iterator, and with it
    the lock of the database, for as long as somebody looks at the error.
    """
    try:
        raw.status()
    except Exception as error:  # noqa: BLE001 - it raises nothing narrower
        return error.with_traceback(None)
    return None


class Cursor:
    """The records of one family from a positioned iterator on, as (key, value).

    Args:
        raw: Is not used by anyone else.
        condition: Told of a block that could not be read.
    """

    def __init__(self, raw: RawIterator, condition: Condition) -> None:
        self._raw: RawIterator | None = raw
        self._condition = condition

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return self

    def __next__(self) -> tuple[bytes, bytes]:
        raw = self._raw
        if raw is None:
            raise StopIteration
        if raw.valid():
            record = raw.key(), raw.value()
            raw.next()
            return record
        found = failure(raw)
        raw = self._raw = None
        if found is not None:
            raise self._condition.unreadable(found)
        raise StopIteration

    def close(self) -> None:
        """End the iteration where it is."""
        self._raw = None


class Snapshot:
    """A consistent view of several families as they were when it was made.

    A rocksdict `Snapshot` shows later writes to whoever iterates it, so this holds one
    iterator per family instead, all made and positioned in one turn of the event loop with
    no write in between.

    Args:
        sources: Iterators that nobody else uses, by family, on its first record.
        condition: Told of a block that could not be read.
    """

    def __init__(self, sources: Sequence[tuple[str, RawIterator]], condition: Condition) -> None:
        self._sources = [(family, Cursor(raw, condition)) for family, raw in sources]
        self._ahead: tuple[str, bytes, bytes] | None = None

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
        while (record := self._ahead or self._read()) is not None:
            size += len(record[1]) + len(record[2])
            self._ahead = record if chunk and size > max_bytes else None
            if self._ahead is not None:
                break
            chunk.append(record)
        return chunk

    def _read(self) -> tuple[str, bytes, bytes] | None:
        while self._sources:
            family, cursor = self._sources[0]
            for key, value in cursor:
                return family, key, value
            del self._sources[0]
        return None

    def close(self) -> None:
        """Let go of the view; may be called twice."""
        for _, cursor in self._sources:
            cursor.close()
        self._sources.clear()
        self._ahead = None
