"""Power for real processes, and its loss: their files go back to what was synced.

`shims/disk_synced.c` says what is modelled. Processes are started through `launcher`, or with
`variables`; `cut` is called when all of them are dead. What the system would have kept of a
killed process's files is taken away, so what passes here does not lean on the page cache.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from chaos.shims import COMPILER, DISK, NO_COMPILER, build

__all__ = ["COMPILER", "NO_COMPILER", "Power"]

_SYNC_EVERYTHING: Final = """
import os, sys
for folder, _, files in os.walk(sys.argv[1], topdown=False):
    for name in [*files, "."]:
        handle = os.open(os.path.join(folder, name), os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
"""


class Power:
    """The disks below one directory, and the switch of all machines that use them.

    Args:
        root: Everything below it is under watch; made when missing. One file system: files
            are told apart by inode number and birth.
        place: Where the mirror, the faults and the library are kept; not below `root`.
        library: Compiled already.
    """

    def __init__(self, root: Path, place: Path, *, library: Path | None = None) -> None:
        self.root = root
        self._mirror = place / "mirror"
        self._faults = place / "faults"
        for directory in (root, self._faults, self._mirror / "files", self._mirror / "folders"):
            directory.mkdir(parents=True, exist_ok=True)
        self._library = library or build(DISK, place)

    @property
    def variables(self) -> dict[str, str]:
        """What a process under watch has in its environment."""
        return {
            "LD_PRELOAD": str(self._library),
            "DISK_ROOT": str(self.root.resolve()),
            "DISK_MIRROR": str(self._mirror),
            "DISK_FAULTS": str(self._faults),
        }

    def launcher(self, command: Sequence[str]) -> list[str]:
        """Return the command that starts a process under watch."""
        return ["env", *(f"{name}={value}" for name, value in self.variables.items()), *command]

    def order(self, fault: str, detail: str = "") -> None:
        """From now on every fsync has this fault: lie, error, once, slow or hang.

        Args:
            fault: Which.
            detail: Of `slow`: milliseconds.
        """
        draft = self._faults.parent / "order"
        draft.write_text(detail)
        draft.rename(self._faults / fault)

    def ordered(self, fault: str) -> bool:
        """Tell whether a fault stands; one that comes once does no more when it has come."""
        return (self._faults / fault).exists()

    def repair(self) -> None:
        """No faults any more."""
        for fault in self._faults.iterdir():
            fault.unlink(missing_ok=True)

    def cut(self, names: Iterable[str]) -> None:
        """Give directories below the root the content that was synced; all users are dead."""
        self.repair()
        durable = self._entries(self._newest(self.root))
        for name in names:
            shutil.rmtree(self.root / name, ignore_errors=True)
            if name in durable:
                self._restore(self.root / name, durable[name][1])
        for kind in ("files", "folders"):
            shutil.rmtree(self._mirror / kind)
            (self._mirror / kind).mkdir()
        subprocess.run(
            [sys.executable, "-c", _SYNC_EVERYTHING, str(self.root)],
            env={**os.environ, **self.variables},
            check=True,
            timeout=120,
        )

    def _newest(self, folder: Path) -> str:
        """Key of a directory that exists: the last one mirrored under its inode number."""
        keys = (self._mirror / "folders").glob(f"{folder.stat().st_ino}-*")
        return max(keys, key=lambda path: path.stat().st_mtime_ns, default=Path("-")).name

    def _entries(self, key: str) -> dict[str, tuple[str, str]]:
        """Durable entries of a directory by name, as (kind, key)."""
        listed = self._mirror / "folders" / key
        lines = listed.read_text().splitlines() if listed.exists() else []
        fields = (line.split(" ", 2) for line in lines)
        return {name: (kind, key) for kind, key, name in fields}

    def _restore(self, folder: Path, key: str) -> None:
        folder.mkdir(mode=0o700)
        for name, (kind, inner) in self._entries(key).items():
            if kind == "d":
                self._restore(folder / name, inner)
                continue
            kept = self._mirror / "files" / inner
            (folder / name).write_bytes(kept.read_bytes() if kept.exists() else b"")
