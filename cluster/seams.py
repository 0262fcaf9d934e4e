"""What storage is made of: a disk with a part for a thread, and the directory it lies in.

The real ones are `cluster.disk` and `cluster.directory`; a simulation brings its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from cluster.condition import Condition
from cluster.interface import Disk
from cluster.space import Place


class SyncedDisk(Disk, Protocol):
    """A disk with the part that runs in a thread (`cluster.disk.RocksDisk`)."""

    @property
    def sequence(self) -> int:
        """Number of the last batch written; it survives a restart."""

    @property
    def condition(self) -> Condition:
        """What has gone wrong since it was opened."""

    before_write: Callable[[int], None] | None
    """Called with the size before each batch is handed over: what it takes to make room."""

    def sync(self) -> int:
        """Make durable what is written; blocks, and returns the sequence it covers."""

    def close(self) -> None:
        """Close the database."""


OpenDisk = Callable[[Path, Sequence[str]], SyncedDisk]


class Directory(Place, Protocol):
    """What is asked of a data directory (`cluster.directory.DataDirectory`)."""

    @property
    def path(self) -> Path:
        """Where it is, for messages."""

    @property
    def database(self) -> Path:
        """Where the database lives."""

    @property
    def has_database(self) -> bool:
        """Whether there are files of a database."""

    def read(self, name: str) -> bytes | None:
        """Return a small file's content, None when there is none."""

    def replace(self, name: str, content: bytes) -> None:
        """Put a small file in place durably; blocks."""

    def overwrite(
        self, name: str, content: bytes, *, at_bytes: int = 0, durable: bool = False
    ) -> None:
        """Write into a small file in place: it survives a kill, durable also a power cut."""

    def quarantine_database(self) -> Path:
        """Move the database aside, whole, and return where it is now."""

    def release(self) -> None:
        """Let another process have the directory; may be called twice."""
