from __future__ import annotations

from pathlib import Path

import pytest

from cluster.condition import Condition
from cluster.faults import DiskDamagedError, DiskFailedError, StartError
from node.archive import DiskArchive


class Records:
    """A disk of one family, damaged at some key."""

    def __init__(self, *keys: bytes, bad: bytes = b"", error: StartError | None = None) -> None:
        self._keys = keys
        self._bad = bad
        self._error = error or DiskDamagedError("checksum mismatch")
        self.condition = Condition(Path("data/db"))

    def get(self, family: str, key: bytes) -> bytes | None:
        del family
        if key == self._bad:
            raise self._error
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


@pytest.mark.parametrize(
    "error",
    [
        DiskDamagedError("checksum mismatch"),
        StartError("While pread offset 4096 len 4096: 000012.sst: Input/output error"),
    ],
)
def test_a_record_that_cannot_be_read_is_told_of_whoever_asked(error: StartError) -> None:
    """A read that fails is passed over, and a tick tried again: the node would go on for ever."""
    told: list[str] = []
    archive = DiskArchive(unreadable=told.append)
    archive.attach(Records(b"a", b"b", bad=b"b", error=error))
    assert archive.scan("completed", b"", 1) == [(b"a", b"A")]
    with pytest.raises(StartError):
        archive.get("completed", b"b")
    with pytest.raises(StartError):
        archive.scan("completed", b"", 10)
    assert told == [str(error)] * 2


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
