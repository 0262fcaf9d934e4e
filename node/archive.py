"""The machine's view of its durable records, on top of the cluster's disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cluster.faults import StartError


class Condition(Protocol):
    """Whether a disk can be trusted (`cluster.condition.Condition`)."""

    def check(self) -> None:
        """Raise `DiskFailedError` once a write or an fsync has failed."""


class Records(Protocol):
    """What is read of the disk (`cluster.interface.Disk`)."""

    @property
    def condition(self) -> Condition:
        """Whether it works."""

    def get(self, family: str, key: bytes) -> bytes | None:
        """Return the value as of the last written batch."""

    def scan(self, family: str, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return up to `limit` pairs from `start` on in key order, as of the last batch."""


class DiskArchive:
    """A `statemachine.Archive` that reads the database of this node.

    The machine is made before the replica opens the database, so the disk comes
    later; until then there is nothing to find. Once a write has failed nothing can be
    looked up: what the machine has let go of for that write is not there.

    Args:
        unreadable: Told of a record that cannot be read, for whatever reason. Whoever asked
            for it may be one of many, and be passed over; the node must end.
    """

    def __init__(self, *, unreadable: Callable[[str], None] = lambda _text: None) -> None:
        self._unreadable = unreadable
        self._disk: Records | None = None

    def attach(self, disk: Records) -> None:
        """Read from `disk` from now on."""
        self._disk = disk

    def get(self, family: str, key: bytes) -> bytes | None:
        """Return the record's value, or None.

        Raises:
            StartError: It cannot be read, damaged (`DiskDamagedError`) or not.
            DiskFailedError: It may be missing: a write has failed.
        """
        if self._disk is None:
            return None
        self._disk.condition.check()
        try:
            return self._disk.get(family, key)
        except StartError as error:
            self._unreadable(str(error))
            raise

    def scan(self, family: str, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return up to `limit` records from `start` on, inclusive, ordered by key.

        Raises:
            StartError: One of them cannot be read, damaged (`DiskDamagedError`) or not.
            DiskFailedError: Some may be missing: a write has failed.
        """
        if self._disk is None:
            return []
        self._disk.condition.check()
        try:
            return self._disk.scan(family, start, limit)
        except StartError as error:
            self._unreadable(str(error))
            raise
