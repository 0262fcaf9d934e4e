"""The smallest replicated machine: it remembers every entry, and checkpoints often."""

from __future__ import annotations

import hashlib

from cluster.interface import Families, Record

FAMILIES = ("entries", "metadata")


class ListMachine:
    """Entries by index, with a running hash.

    Args:
        checkpoint_entries: A checkpoint is due whenever this many entries were applied.
    """

    def __init__(self, checkpoint_entries: int = 5) -> None:
        self._checkpoint_entries = checkpoint_entries
        self.entries: dict[int, bytes] = {}
        self._changed: list[int] = []
        self.digest = b""
        self.digest_chain = (0, b"")

    def apply(self, index: int, entry: bytes, decoded: object | None = None) -> object:
        self.entries[index] = entry
        self._changed.append(index)
        stamp = index.to_bytes(8, "big")
        self.digest = hashlib.blake2b(self.digest + stamp + entry, digest_size=8).digest()
        return len(self.entries)

    def take_changes(self) -> list[Record] | None:
        if len(self.entries) % self._checkpoint_entries:
            return None
        changed, self._changed = self._changed, []
        records: list[Record] = [
            ("entries", index.to_bytes(8, "big"), self.entries[index]) for index in changed
        ]
        self.digest_chain = (changed[-1], self.digest)
        return [*records, ("metadata", b"digest", self.digest)]

    def restore(self, families: Families) -> None:
        self.entries = {int.from_bytes(key, "big"): entry for key, entry in families("entries")}
        self._changed = []
        self.digest = dict(families("metadata")).get(b"digest", b"")
        self.digest_chain = (max(self.entries, default=0), self.digest)
