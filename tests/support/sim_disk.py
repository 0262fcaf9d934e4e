"""A disk with a page cache: what is written survives a kill, what is synced a power loss."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

from cluster.interface import SnapshotRecord

Content = dict[str, dict[bytes, bytes]]
Change = Callable[[Content], None]


class SimReader:
    """A copy of the machine's families, taken when it was opened."""

    def __init__(self, content: Content, families: Sequence[str]) -> None:
        self._records = [
            (family, key, content[family][key])
            for family in families
            for key in sorted(content.get(family, {}))
        ]
        self.closed = False

    def next_chunk(self, max_bytes: int) -> list[SnapshotRecord]:
        assert not self.closed
        chunk: list[SnapshotRecord] = []
        size = 0
        while self._records:
            _, key, value = self._records[0]
            if chunk and size + len(key) + len(value) > max_bytes:
                break
            size += len(key) + len(value)
            chunk.append(self._records.pop(0))
        return chunk

    def close(self) -> None:
        self.closed = True


class SimDisk:
    """One node's records in memory. The object outlives its node's processes."""

    def __init__(self, families: Sequence[str]) -> None:
        self.families = tuple(families)
        self.content: Content = {}
        self.safe: Content = {}
        self.sequence = 0
        self._pending: list[Change] = []
        self._unsynced: list[tuple[int, list[Change]]] = []
        self._staging: Content | None = None

    # ------------------------------------------------------------ what the engine calls

    def put(self, family: str, key: bytes, value: bytes) -> None:
        def change(content: Content) -> None:
            content.setdefault(family, {})[key] = value

        self._pending.append(change)

    def delete(self, family: str, key: bytes) -> None:
        def change(content: Content) -> None:
            content.get(family, {}).pop(key, None)

        self._pending.append(change)

    def delete_range(self, family: str, start: bytes, end: bytes) -> None:
        def change(content: Content) -> None:
            records = content.get(family, {})
            for key in [key for key in records if start <= key < end]:
                del records[key]

        self._pending.append(change)

    def write(self) -> int | None:
        if not self._pending:
            return None
        batch, self._pending = self._pending, []
        for change in batch:
            change(self.content)
        self.sequence += 1
        self._unsynced.append((self.sequence, batch))
        return self.sequence

    def get(self, family: str, key: bytes) -> bytes | None:
        return self.content.get(family, {}).get(key)

    def iterate(self, family: str, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        records = self.content.get(family, {})
        return iter([(key, records[key]) for key in sorted(records) if key >= start])

    def open_snapshot(self) -> SimReader:
        return SimReader(self.content, self.families)

    def begin_install(self) -> None:
        self._staging = {}

    def add_install(self, records: Sequence[SnapshotRecord]) -> None:
        assert self._staging is not None
        unknown = {family for family, _, _ in records} - set(self.families)
        if unknown:
            raise KeyError(*unknown)
        for family, key, value in records:
            self._staging.setdefault(family, {})[key] = value

    def finish_install(self) -> None:
        assert self._staging is not None
        staging, self._staging = self._staging, None

        def change(content: Content) -> None:
            for family in self.families:
                content[family] = dict(staging.get(family, {}))

        self._pending.append(change)

    def abort_install(self) -> None:
        self._staging = None

    # -------------------------------------------------------------- what the world does

    def sync(self, sequence: int) -> None:
        """Everything up to a sequence number is safe from now on."""
        while self._unsynced and self._unsynced[0][0] <= sequence:
            for change in self._unsynced.pop(0)[1]:
                change(self.safe)

    def kill(self) -> None:
        """The process is gone: only what it had not yet written is lost."""
        self._pending = []
        self._staging = None

    def lose_power(self, rng: random.Random) -> int:
        """A random suffix of the unsynced batches is lost; returns how many batches."""
        self.kill()
        kept = rng.randint(0, len(self._unsynced))
        lost = len(self._unsynced) - kept
        for _, batch in self._unsynced[:kept]:
            for change in batch:
                change(self.safe)
        self._unsynced = []
        self.content = {family: dict(records) for family, records in self.safe.items()}
        return lost

    def wipe(self) -> None:
        """The disk is replaced by an empty one."""
        self.kill()
        self.content, self.safe, self._unsynced = {}, {}, []
