"""One kind of damage that RocksDB does not survive, taken out before it opens its files.

Its logs (`*.log`, `MANIFEST-*`) are records in blocks of 32 KiB: checksum (4 bytes), length
(2, little endian), type (1), payload. Logs that are used again have types of their own. This
database uses no log again, yet one flipped bit makes such a type of a usual one, and RocksDB
9.8 then reads that record for ever, at every start, with the interpreter locked. So the byte
is replaced by a type that nobody knows: the checksum was wrong before and is wrong after, and
recovery ends at this record as with any other damage.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

_BLOCK_BYTES = 32 << 10
_HEADER_BYTES = 7
_TYPE_AT = 6
_USUAL = frozenset({1, 2, 3, 4})
"""A whole record; the first, a middle and the last part of one."""
_ENDLESS = frozenset({5, 6, 7, 8, 11, 131})
"""The same in a log that is used again, and what else belongs to one."""
_NOBODYS = 0x7F

_log = logging.getLogger(__name__)


def disarm(database: Path) -> None:
    """Take the damage that would hang RocksDB out of the files of a closed database.

    Args:
        database: Its directory.

    Raises:
        OSError: A file cannot be read or written.
    """
    for path in sorted([*database.glob("*.log"), *database.glob("MANIFEST-*")]):
        places = list(_endless(path))
        if places:
            _log.error("%s is damaged: a record type at %s", path, ", ".join(map(str, places)))
            _replace(path, places)


def _endless(path: Path) -> Iterator[int]:
    """Yield where a type stands that is not used here."""
    start = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            at, size = 0, len(block)
            while at + _HEADER_BYTES <= size:
                kind = block[at + _TYPE_AT]
                if kind in _ENDLESS:
                    yield start + at + _TYPE_AT
                if kind not in _USUAL:
                    break  # the length is not to be trusted: the next block begins anew
                at += _HEADER_BYTES + block[at + 4] + (block[at + 5] << 8)
            start += size


def _replace(path: Path, places: list[int]) -> None:
    with path.open("r+b") as file:
        for place in places:
            file.seek(place)
            file.write(bytes([_NOBODYS]))
        file.flush()
        os.fsync(file.fileno())
