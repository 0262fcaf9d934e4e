"""The high-water mark: how far this node has said its storage is durable.

RocksDB recovers a prefix of the batches written and says nothing when a flipped bit in its
log made that prefix shorter than what was synced. So how much was synced is kept besides, in
two files:

- the *mark* is durable, and whole at any time: two equal copies, written one after the other,
  each with an fsync. A start puts the file in place, and then it is overwritten: that takes no
  room on a disk that is full. It is written at most a second after a sync, at shutdown, and
  before the first message of every start;
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

COPY_BYTES = 4096
"""Of one copy of the mark, filled up with zeros: a write that tears one spares the other."""
COPIES = 2

_LENGTH = Struct(">H")
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
        """Return what the note holds, and each copy of the mark."""
        body = _FIELDS.pack(_FORMAT, self.incarnation, self.sequence, self.last_index, self.term)
        return _CHECKSUM.pack(crc32(body + self.vote)) + body + self.vote

    @classmethod
    def from_bytes(cls, content: bytes) -> HighWater:
        """Read it.

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


def copy_of(mark: HighWater) -> bytes:
    """Return one copy of the mark as its file holds it, `COPIES` of them, the first one newer."""
    content = mark.to_bytes()
    assert len(content) <= COPY_BYTES - _LENGTH.size, "a vote takes a few bytes"
    return (_LENGTH.pack(len(content)) + content).ljust(COPY_BYTES, b"\0")


def read_mark(content: bytes) -> HighWater:
    """Read the file of the mark, also one that holds nothing but a mark, as of earlier versions.

    Raises:
        ValueError: There is no whole copy in it.
    """
    if len(content) != COPIES * COPY_BYTES:
        return HighWater.from_bytes(content)
    try:
        return _copied(content[:COPY_BYTES])
    except ValueError:
        return _copied(content[COPY_BYTES:])  # power was lost while the first was written


def _copied(copy: bytes) -> HighWater:
    start = _LENGTH.size
    return HighWater.from_bytes(copy[start : start + _LENGTH.unpack_from(copy)[0]])


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
