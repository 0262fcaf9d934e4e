"""What is wrong with a disk, once something is: within one process it never gets better.

RocksDB refuses every write after the first failed one. Bytes that are not what was written
are worse: the process ends, and so would every later one as soon as it met them again.
Therefore the first one leaves a note for the next start (`cluster.recovery`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cluster.faults import DiskDamagedError, DiskFailedError, StartError, open_error


class Condition:
    """The state of health of one opened database.

    Args:
        path: Of the database, for messages.

    Attributes:
        failure: Why nothing may be written any more, None while it may.
        damage: Which stored bytes are wrong, None while none were met.
        on_damage: Told of the first damage, from whichever thread met it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.failure: str | None = None
        self.damage: str | None = None
        self.on_damage: Callable[[str], None] | None = None

    def check(self) -> None:
        """Refuse to write to a disk that has failed.

        Raises:
            DiskFailedError: It has.
        """
        if self.failure is not None:
            raise DiskFailedError(self.failure)

    def failed(self, action: str, error: Exception) -> DiskFailedError:
        """Take note of a write or an fsync that failed; return what to raise.

        A write fails for damage that nobody has read: a compaction meets it, and RocksDB takes
        no more. Whoever looks after the node has to be told of the damage, not of the write.
        """
        kind = self._judge(error)
        if self.failure is None:
            is_damage = isinstance(kind, DiskDamagedError)
            text = f"the database {self._path} failed to {action}: {error}"
            self.failure = str(kind) if is_damage else text
        return DiskFailedError(self.failure)

    def unreadable(self, error: Exception) -> StartError:
        """Take note of a read that failed; return what to raise."""
        return self._judge(error)

    def _judge(self, error: Exception) -> StartError:
        kind = open_error(self._path, str(error))
        if isinstance(kind, DiskDamagedError) and self.damage is None:
            self.damage = str(kind)
            if self.on_damage is not None:
                self.on_damage(self.damage)
        return kind
