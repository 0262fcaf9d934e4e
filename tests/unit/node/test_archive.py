from __future__ import annotations

from pathlib import Path

import pytest

from cluster.condition import Condition
from cluster.faults import DiskDamagedError, DiskFailedError
from node.archive import DiskArchive


class Records:
    """A disk of one family, damaged at some key."""

    def __init__(self, *keys: bytes, damaged: bytes = b"") -> None:
        self._keys = keys
        self._damaged = damaged
        self.condition = Condition(Path("data/db"))

    def get(self, family: str, key: bytes) -> bytes | None:
        del family
        if key == self._damaged:
            raise DiskDamagedError("checksum mismatch")
        return key.upper() if key in self._keys else None

    def scan(self, family: str, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        keys = [key for key in self._keys if key >= start]
        return [(key, self.get(family, key) or b"") for key in keys[:limit]]


def test_an_archive_without_a_disk_is_empty() -> None:
    archive = DiskArchive()
    assert archive.get("completed", b"a") is None
    assert archive.scan("completed", b"", 10) == []


def test_records_are_found_one_by_one_and_in_order() -> None:
    archive = DiskArchive()
    archive.attach(Records(b"a", b"b", b"c"))
    assert archive.get("completed", b"b") == b"B"
    assert archive.get("completed", b"x") is None
    assert archive.scan("completed", b"b", 10) == [(b"b", b"B"), (b"c", b"C")]
    assert archive.scan("completed", b"", 1) == [(b"a", b"A")]


def test_a_record_that_cannot_be_read_is_told_of_whoever_asked() -> None:
    """A read that fails is passed over, and a tick tried again: the node would go on for ever."""
    told: list[str] = []
    archive = DiskArchive(damaged=told.append)
    archive.attach(Records(b"a", b"b", damaged=b"b"))
    assert archive.scan("completed", b"", 1) == [(b"a", b"A")]
    with pytest.raises(DiskDamagedError):
        archive.get("completed", b"b")
    with pytest.raises(DiskDamagedError):
        archive.scan("completed", b"", 10)
    assert told == ["checksum mismatch"] * 2


def test_nothing_is_looked_up_once_a_write_has_failed() -> None:
    """What the machine has let go of for that write is nowhere: "unknown" would be wrong."""
    archive = DiskArchive()
    records = Records(b"a")
    archive.attach(records)
    records.condition.failed("write", OSError("No space left on device"))
    with pytest.raises(DiskFailedError):
        archive.get("completed", b"b")
    with pytest.raises(DiskFailedError):
        archive.scan("completed", b"", 10)
