"""The replicated log: a list in memory, mirrored by CRC'd records on the disk.

In memory an entry is the tuple (entry, index, term) and the list starts with a boundary
tuple (b"", index, term) for the entry before the first one kept, so index arithmetic needs
no special case at the front. Every change goes into the disk's pending batch; this module
never writes that batch, so what belongs together stays in one.

The configuration in force is the latest in the log, or the one kept for its boundary when
the log holds none: appending puts one into force, truncating takes it back.

The commit index is not kept: after a restart it is learned again from the leader.
"""

from __future__ import annotations

import struct
from zlib import crc32

from cluster.configuration import CONFIGURATION_MARK, NOBODY, Configuration, ConfigurationError
from cluster.interface import (
    APPLIED_KEY,
    CONFIGURATION_KEY,
    FIRST_KEY,
    RAFT_LOG,
    RAFT_META,
    VOTE_KEY,
    Disk,
    LogHashes,
)

NO_OP = b""
"""The entry a new leader appends for itself; the machine never sees it."""

ENTRIES_MAX = 4096
"""Most entries in one batch for a follower."""

HASHED_BYTES = 4 << 20
"""Of entries that one call of `Log.hashes` reads: a few milliseconds. One longer is read alone."""

_MARK = CONFIGURATION_MARK[0]
_KEY = struct.Struct(">Q")
_HEAD = struct.Struct(">QQ")
_CRC = struct.Struct(">I")
_PAIR = struct.Struct(">QQI")
_RECORD_HEAD = struct.Struct(">IQ")


class DamagedLog(Exception):  # noqa: N818  # it names a state of the disk, not an act
    """The records on the disk are not a log. Nothing was changed.

    Attributes:
        index: The entry at which it shows; 0 when it is not an entry.
    """

    def __init__(self, index: int, text: str) -> None:
        super().__init__(f"damaged log at index {index}: {text}" if index else text)
        self.index = index


class Log:
    """Entries, term and vote of one node.

    Args:
        disk: Where the records are; read once here.
        founding: The configuration where the disk holds none; recorded, so that it counts
            only this once.

    Attributes:
        configuration: The one in force.
        configuration_index: The entry that put it into force, 0 for the founding one.

    Raises:
        DamagedLog: A record is missing, unreadable or fails its CRC.
    """

    __slots__ = (
        "_configurations",
        "_disk",
        "applied_index",
        "applied_term",
        "base_index",
        "configuration",
        "configuration_index",
        "entries",
        "last_index",
        "tail_bytes",
        "term",
        "voted_for",
    )

    def __init__(self, disk: Disk, founding: Configuration = NOBODY) -> None:
        self._disk = disk
        self.term, vote = self._load_pair(VOTE_KEY)
        self.voted_for: int | None = vote - 1 if vote else None
        self.applied_index, self.applied_term = self._load_pair(APPLIED_KEY)
        self.base_index, base_term = self._load_pair(FIRST_KEY)
        self.entries: list[tuple[bytes, int, int]] = [(NO_OP, self.base_index, base_term)]
        self.last_index = self.base_index
        self.tail_bytes = 0
        self._configurations = [self._load_configuration(founding)]
        self._load()
        self._put_in_force()

    def _load_pair(self, key: bytes) -> tuple[int, int]:
        value = self._disk.get(RAFT_META, key)
        if value is None:
            return 0, 0
        if len(value) != _PAIR.size or crc32(value[:16]) != _CRC.unpack(value[16:])[0]:
            raise DamagedLog(0, f"the record {key.decode()!r} of {RAFT_META} is damaged")
        first, second, _ = _PAIR.unpack(value)
        return first, second

    def _save_pair(self, key: bytes, first: int, second: int) -> None:
        head = _HEAD.pack(first, second)
        self._disk.put(RAFT_META, key, head + _CRC.pack(crc32(head)))

    def _load_configuration(self, founding: Configuration) -> tuple[int, Configuration]:
        """Index and configuration of the boundary; the founding one on a new disk."""
        value = self._disk.get(RAFT_META, CONFIGURATION_KEY)
        if value is None:
            self._save_configuration(0, founding)
            return 0, founding
        name = CONFIGURATION_KEY.decode()
        if len(value) < 12 or crc32(value[4:]) != _CRC.unpack_from(value)[0]:
            raise DamagedLog(0, f"the record {name!r} of {RAFT_META} is damaged")
        try:
            return _KEY.unpack_from(value, 4)[0], Configuration.from_bytes(value[12:])
        except ConfigurationError as error:
            raise DamagedLog(0, f"the record {name!r} of {RAFT_META}: {error}") from error

    def _save_configuration(self, index: int, configuration: Configuration) -> None:
        body = _KEY.pack(index) + configuration.to_bytes()
        self._disk.put(RAFT_META, CONFIGURATION_KEY, _CRC.pack(crc32(body)) + body)

    def _put_in_force(self) -> None:
        self.configuration_index, self.configuration = self._configurations[-1]

    def _note_configuration(self, index: int, entry: bytes) -> None:
        self._configurations.append((index, Configuration.from_entry(entry)))
        self._put_in_force()

    def _load(self) -> None:
        for key, value in self._disk.iterate(RAFT_LOG):
            index = self.last_index + 1
            if len(key) != 8 or len(value) < 12:
                raise DamagedLog(index, "a record is too short")
            if key != _KEY.pack(index):
                raise DamagedLog(index, f"the next record is of index {_KEY.unpack(key)[0]}")
            if crc32(value[12:], crc32(key + value[4:12])) != _CRC.unpack_from(value)[0]:
                raise DamagedLog(index, "the checksum does not match")
            self.entries.append((value[12:], index, _KEY.unpack_from(value, 4)[0]))
            self.last_index = index
            self.tail_bytes += len(value) - 12
            if value[12:13] == CONFIGURATION_MARK:
                try:
                    self._note_configuration(index, value[12:])
                except ConfigurationError as error:
                    raise DamagedLog(index, str(error)) from error
        if not self.base_index <= self.applied_index <= self.last_index:
            raise DamagedLog(
                self.applied_index,
                f"the state stands there, the log holds {self.base_index + 1} to {self.last_index}",
            )

    @property
    def last_term(self) -> int:
        """Term of the last entry."""
        return self.entries[-1][2]

    def term_at(self, index: int) -> int | None:
        """Term of an entry; None beyond the end and before the boundary."""
        at = index - self.base_index
        return self.entries[at][2] if at >= 0 and index <= self.last_index else None

    def append(self, entry: bytes, term: int) -> int:
        """Add an entry at the end and return its index.

        Raises:
            ConfigurationError: It is marked as a configuration and holds none.
        """
        index = self.last_index + 1
        if entry and entry[0] == _MARK:
            self._note_configuration(index, entry)
        self.last_index = index
        self.entries.append((entry, index, term))
        self.tail_bytes += len(entry)
        head = _HEAD.pack(index, term)
        record_head = _RECORD_HEAD.pack(crc32(entry, crc32(head)), term)
        self._disk.put(RAFT_LOG, head[:8], record_head + entry)
        return index

    def batch(self, start: int, max_bytes: int) -> tuple[list[tuple[bytes, int]], int]:
        """Entries from `start` on, as (entry, term), and their bytes.

        Args:
            start: First index; must be kept.
            max_bytes: Bound of all entries together; a first one larger travels alone.
        """
        at = start - self.base_index
        chosen: list[tuple[bytes, int]] = []
        size = 0
        for entry, _, term in self.entries[at : at + ENTRIES_MAX]:
            if chosen and size + len(entry) > max_bytes:
                break
            size += len(entry)
            chosen.append((entry, term))
        return chosen, size

    def hashes(self, start: int, limit: int, committed: int) -> LogHashes:
        """Checksums of up to `limit` committed entries from `start` on, fewer if they are long.

        Args:
            start: First index; the first one kept if that is later.
            limit: 1 or more.
            committed: Nothing after this index is told: it may yet be taken back.
        """
        first_index = self.base_index + 1
        start = max(start, first_index)
        end = min(start + limit - 1, committed)
        chosen: list[tuple[int, int, int]] = []
        left_bytes = HASHED_BYTES
        for at in range(start - self.base_index, end - self.base_index + 1):
            entry, index, term = self.entries[at]
            left_bytes -= len(entry)
            if chosen and left_bytes < 0:
                break
            chosen.append((index, term, crc32(entry)))
        return LogHashes(first_index, committed, chosen)

    def truncate_from(self, index: int) -> None:
        """Forget the entry at `index` and all after it: they conflict with the leader's."""
        at = index - self.base_index
        self._disk.delete_range(RAFT_LOG, _KEY.pack(index), _KEY.pack(self.last_index + 1))
        self.tail_bytes -= sum(len(entry[0]) for entry in self.entries[at:])
        del self.entries[at:]
        self.last_index = index - 1
        while self.configuration_index >= index and len(self._configurations) > 1:
            self._configurations.pop()
            self._put_in_force()

    def cut_point(self, keep_bytes: int, index_max: int) -> int:
        """Up to where the log may be cut so that `keep_bytes` of its tail remain.

        Args:
            keep_bytes: What is left is the longest tail within this bound.
            index_max: Nothing after this index is cut, whatever its size.
        """
        at, size = 0, self.tail_bytes
        bound = index_max - self.base_index
        while size > keep_bytes and at < bound:
            at += 1
            size -= len(self.entries[at][0])
        return self.base_index + at

    def cut_to(self, index: int) -> None:
        """Forget the entries up to and including `index`; it becomes the boundary."""
        at = index - self.base_index
        if at <= 0:
            return
        term = self.entries[at][2]
        self._disk.delete_range(RAFT_LOG, _KEY.pack(self.base_index + 1), _KEY.pack(index + 1))
        self.tail_bytes -= sum([len(entry) for entry, _, _ in self.entries[1 : at + 1]])
        self.entries[: at + 1] = [(NO_OP, index, term)]
        self.base_index = index
        self._save_pair(FIRST_KEY, index, term)
        passed = [item for item in self._configurations[1:] if item[0] <= index]
        if passed:
            del self._configurations[: len(passed)]
            self._save_configuration(*passed[-1])

    def configuration_at(self, index: int) -> tuple[int, Configuration]:
        """What was in force at an index from the boundary on, and since which entry."""
        return next(item for item in reversed(self._configurations) if item[0] <= index)

    def found_on(self, configuration_index: int, configuration: Configuration) -> None:
        """Take the configuration as of the boundary from a snapshot up to there."""
        self._configurations[0] = (configuration_index, configuration)
        self._save_configuration(configuration_index, configuration)
        self._put_in_force()

    def restart_at(self, index: int, term: int) -> None:
        """Drop every entry; a snapshot up to (index, term) stands in for them.

        The configuration as of the boundary has to follow (`found_on`).
        """
        self._disk.delete_range(
            RAFT_LOG, _KEY.pack(self.base_index + 1), _KEY.pack(self.last_index + 1)
        )
        self.entries = [(NO_OP, index, term)]
        self.base_index = self.last_index = index
        self.tail_bytes = 0
        del self._configurations[1:]
        self._put_in_force()
        self._save_pair(FIRST_KEY, index, term)

    def save_vote(self, term: int, voted_for: int | None) -> None:
        """Record the current term and the vote given in it."""
        self.term, self.voted_for = term, voted_for
        self._save_pair(VOTE_KEY, term, 0 if voted_for is None else voted_for + 1)

    def save_applied(self, index: int, term: int) -> None:
        """Record where the machine's families stand, in the batch that moves them."""
        self.applied_index, self.applied_term = index, term
        self._save_pair(APPLIED_KEY, index, term)
