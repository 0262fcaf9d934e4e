"""The machine's view of its durable records, on top of the cluster's disk."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Protocol


class Records(Protocol):
    """What is read of the disk (`cluster.interface.Disk`)."""

    def get(self, family: str, key: bytes) -> bytes | None:
        """Return the value as of the last written batch."""

    def iterate(self, family: str, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield pairs from `start` on in key order, as of the last written batch."""


class DiskArchive:
    """A `statemachine.Archive` that reads the database of this node.

    The machine is made before the replica opens the database, so the disk comes
    later; until then there is nothing to find.
    """

    def __init__(self) -> None:
        self._disk: Records | None = None

    def attach(self, disk: Records) -> None:
        """Read from `disk` from now on."""
        self._disk = disk

    def get(self, family: str, key: bytes) -> bytes | None:
        """Return the record's value, or None."""
        return None if self._disk is None else self._disk.get(family, key)

    def scan(self, family: str, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return up to `limit` records from `start` on, inclusive, ordered by key."""
        if self._disk is None:
            return []
        return list(islice(self._disk.iterate(family, start), limit))
