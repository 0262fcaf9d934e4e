"""The high-water mark: how far this node has said its storage is durable.

RocksDB recovers a prefix of the batches written and says nothing when a flipped bit in its
log made that prefix shorter than what was synced. The mark lives in a file of its own. It
is written after a sync, at most a second late and at shutdown, and before the first message
of every start. A database that recovers fewer batches than the mark says has forgotten
something this node answered for; what is younger than the mark shows to the leader, which
remembers what this incarnation acknowledged.

The comparison is on the number of batches, which only grows. The end of the log and the
term stand in the file for the person who reads the message: a log may lawfully become
shorter when a new leader overwrites its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from zlib import crc32

HIGH_WATER_FILE = "high_water"

_CHECKSUM = Struct(">I")
_FIELDS = Struct(">BQQQQ")
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class HighWater:
    """What was durable when the mark was taken.

    Attributes:
        incarnation: The start that wrote it.
        sequence: Batches written to the database.
        last_index: Last entry of the log.
        term: Term of the node.
        vote: The engine's record of its vote, as stored (opaque).
    """

    incarnation: int
    sequence: int
    last_index: int = 0
    term: int = 0
    vote: bytes = b""

    def to_bytes(self) -> bytes:
        """Return the content of the file."""
        body = _FIELDS.pack(_FORMAT, self.incarnation, self.sequence, self.last_index, self.term)
        return _CHECKSUM.pack(crc32(body + self.vote)) + body + self.vote

    @classmethod
    def from_bytes(cls, content: bytes) -> HighWater:
        """Read the content of the file.

        Raises:
            ValueError: It is not what `to_bytes` wrote.
        """
        head = _CHECKSUM.size + _FIELDS.size
        if len(content) < head or _CHECKSUM.unpack_from(content)[0] != crc32(content[4:]):
            raise ValueError("wrong length or checksum")
        version, incarnation, sequence, last_index, term = _FIELDS.unpack_from(content, 4)
        if version != _FORMAT:
            raise ValueError(f"version {version} is not known")
        return cls(incarnation, sequence, last_index, term, content[head:])
