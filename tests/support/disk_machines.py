"""One disk through several processes, real or simulated, for tests that ask both the same."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from cluster.disk import RocksDisk
from cluster.seams import SyncedDisk
from tests.support.sim_directory import SimDirectory

FAMILIES = ("pending", "metadata")


class ConformingDisk(SyncedDisk, Protocol):
    """All that is asked here: the engine's part, the rim's, and `scan` of the archive."""

    @property
    def generation(self) -> int: ...

    def scan(self, family: str, start: bytes, limit: int) -> list[tuple[bytes, bytes]]: ...


class Machine(Protocol):
    """One disk through several processes."""

    disk: ConformingDisk

    def reopen(self) -> None:
        """Close in order and open again."""

    def crash(self) -> None:
        """Kill the process and open again."""

    def fail_next_write(self) -> None:
        """The system refuses the next write."""

    def fail_next_sync(self) -> None:
        """The system refuses the next fsync."""

    def heal(self) -> None:
        """The system refuses nothing any more."""

    def end(self) -> None:
        """Close whatever is open."""


class RocksMachine:
    """Real files. A killed process leaves what the system has of them: a copy."""

    def __init__(self, path: Path) -> None:
        self._root = path
        self._opened = 0
        self._path = path / "0"
        self.disk: ConformingDisk = RocksDisk(self._path, FAMILIES)

    def reopen(self) -> None:
        self.disk.close()
        self.disk = RocksDisk(self._path, FAMILIES)

    def crash(self) -> None:
        self._opened += 1
        left = self._root / str(self._opened)
        shutil.copytree(self._path, left)
        self.disk.close()
        self._path = left
        self.disk = RocksDisk(left, FAMILIES)

    def fail_next_write(self) -> None:
        self._refuse("write", "No space left on device")

    def fail_next_sync(self) -> None:
        self._refuse("flush_wal", "Input/output error")

    def _refuse(self, action: str, text: str) -> None:
        disk = self.disk
        assert isinstance(disk, RocksDisk)
        real = disk._database

        class Refusing:
            """Once; what is asked for later would be granted."""

            def __init__(self) -> None:
                self.refused = False

            def __getattr__(self, name: str) -> object:
                if name == action and not self.refused:
                    self.refused = True
                    return self.refuse
                return getattr(real, name)

            def refuse(self, *_: object) -> None:
                raise Exception(text)  # noqa: TRY002 - it is what RocksDB's binding raises

        disk._database = Refusing()  # type: ignore[assignment]  # a stand-in

    def heal(self) -> None:
        """The refusal was for once."""

    def end(self) -> None:
        self.disk.close()


class SimMachine:
    """The same without files."""

    def __init__(self, _: Path) -> None:
        self._directory = SimDirectory(FAMILIES)
        self._open()

    def _open(self) -> None:
        self.disk: ConformingDisk = self._directory.open_disk(self._directory.database, FAMILIES)

    def reopen(self) -> None:
        self.disk.close()
        self._open()

    def crash(self) -> None:
        self._directory.kill()
        self._open()

    def fail_next_write(self) -> None:
        self._directory.fill(0)

    def fail_next_sync(self) -> None:
        self._directory.fail_sync()

    def heal(self) -> None:
        self._directory.free()

    def end(self) -> None:
        self.disk.close()


MAKERS: dict[str, Callable[[Path], Machine]] = {"rocks": RocksMachine, "sim": SimMachine}
