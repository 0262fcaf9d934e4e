"""The bytes of a snapshot chunk: records, each as three lengths and three fields.

One record is `u8 family length | u16 key length | u32 value length | family | key | value`,
big endian. It is spelled out here rather than in msgpack because a CRC over it has to mean
the same bytes on both sides.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from cluster.interface import SnapshotRecord

_HEAD = struct.Struct(">BHI")


class ChunkError(Exception):
    """The bytes are not a whole number of records."""


def encode_records(records: Sequence[SnapshotRecord]) -> bytes:
    """The records as one block of bytes.

    Raises:
        struct.error: A family, key or value is longer than 255 B, 64 KiB or 4 GiB.
    """
    parts: list[bytes] = []
    for family, key, value in records:
        name = family.encode("ascii")
        parts += (_HEAD.pack(len(name), len(key), len(value)), name, key, value)
    return b"".join(parts)


def decode_records(data: bytes) -> list[SnapshotRecord]:
    """The records in a block of bytes.

    Raises:
        ChunkError: A length reaches beyond the end or a family is not ASCII.
    """
    records: list[SnapshotRecord] = []
    at, end = 0, len(data)
    while at < end:
        if end - at < _HEAD.size:
            raise ChunkError("a record's head is cut off")
        family_bytes, key_bytes, value_bytes = _HEAD.unpack_from(data, at)
        key_at = at + _HEAD.size + family_bytes
        value_at = key_at + key_bytes
        name = data[at + _HEAD.size : key_at]
        at = value_at + value_bytes
        if at > end or not name.isascii():
            raise ChunkError("a record reaches beyond the end")
        records.append((name.decode("ascii"), data[key_at:value_at], data[value_at:at]))
    return records
