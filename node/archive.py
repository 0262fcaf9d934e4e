"""The machine's view of its durable records, on top of the cluster's disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cluster.faults import DiskDamagedError


class Records(Protocol):
    """What is read of the disk (`cluster.interface.Disk`)."""

    def get(self, family: str, key: bytes) -> bytes | None:
        """Return the value as of the last written batch."""

    def scan(self, family: str, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return up to `limit` pairs from `start` on in key order, as of the last batch."""


class DiskArchive:
    """A `statemachine.Archive` that reads the database of this node.

    The machine is made before the replica opens the database, so the disk comes
    later; until then there is nothing to find.

    Args:
        damaged: Told of a record that cannot be read. Whoever asked for it may be one of
            many, and be passed over; a node whose disk is damaged must end.
    """

    def __init__(self, *, damaged: Callable[[str], None] = lambda _text: None) -> None:
        self._damaged = damaged
        self._disk: Records | None = None

    def attach(self, disk: Records) -> None:
        """Read from `disk` from now on."""
        self._disk = disk

    def get(self, family: str, key: bytes) -> bytes | None:
        """Return the record's value, or None.

        Raises:
            DiskDamagedError: It cannot be read.
        """
        if self._disk is None:
            return None
        try:
            return self._disk.get(family, key)
        except DiskDamagedError as error:
            self._damaged(str(error))
            raise

    def scan(self, family: str, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return up to `limit` records from `start` on, inclusive, ordered by key.

        Raises:
            DiskDamagedError: One of them cannot be read.
        """
        if self._disk is None:
            return []
        try:
            return self._disk.scan(family, start, limit)
        except DiskDamagedError as error:
            self._damaged(str(error))
            raise
