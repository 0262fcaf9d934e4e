"""The high-water mark: how far this node has said its storage is durable.

RocksDB recovers a prefix of the batches written and says nothing when a flipped bit in its
log made that prefix shorter than what was synced. So how much was synced is kept besides, in
two files:

- the *mark* is durable, and whole at any time. It is written at most a second after a sync, at
  shutdown, and before the first message of every start;
- the *note* says the same after every sync, before anything that waited for it is said. It is
  overwritten in place and never synced: the system keeps it for a process that is killed. A
  power cut may lose or tear it; then the mark counts.

A database that recovers fewer batches than the newer of the two says has forgotten something
this node answered for. What is younger than the mark when the power goes cannot be told from
a torn write; it shows to the leader, which remembers what this incarnation acknowledged.

The comparison is on the number of batches, which only grows. The end of the log and the
term stand in the file for the person who reads the message: a log may lawfully become
shorter when a new leader overwrites its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from zlib import crc32

HIGH_WATER_FILE = "high_water"
NOTE_FILE = "high_water_note"

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


def newer(mark: HighWater, note: bytes | None) -> HighWater:
    """Return the note where it says more than the mark, else the mark.

    The note of an earlier start does not count: each start stores its mark after it has looked
    at both, and may lawfully begin anew with fewer batches.

    Args:
        mark: The durable one.
        note: Content of the other file, None when there is none.
    """
    if note is None:
        return mark
    try:
        said = HighWater.from_bytes(note)
    except ValueError:
        return mark  # torn by a power cut
    same = said.incarnation == mark.incarnation
    return said if same and said.sequence > mark.sequence else mark
