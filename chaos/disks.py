"""A node's disk: a directory, or a small file system of its own that can be filled up."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from chaos.power import Power

MIB: Final = 1 << 20
_LABEL: Final = "tq-chaos-"
_FILLER: Final = "somebody-elses"
_MOUNT_S: Final = 20
KEPT: Final = "kept"
"""Beside a file system in memory: what was in it when it was unmounted."""


class MountError(Exception):
    """This system lets us mount nothing; the text is its word."""


class Disk:
    """Where one node keeps its data.

    Args:
        root: Of the disk; the data are in a directory in it.
        mib: Size of a file system in memory to be mounted there; 0 mounts nothing.

    Attributes:
        data: The node's data directory.
        power: Whoever can cut its power and spoil its fsyncs; None if nobody.
    """

    def __init__(self, root: Path, *, mib: int = 0) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root.resolve()
        self.data = self.root / "data"
        self.mib = mib
        self.power: Power | None = None
        if mib:
            mount(self.root, mib)

    def fill(self) -> int:
        """Take all the room there is, as somebody else's file would; return the bytes taken."""
        path = self.root / _FILLER
        found = os.statvfs(self.root)
        room = found.f_bavail * found.f_frsize
        taken = 0
        with path.open("ab") as file:
            already = file.tell()
            for step in (16 * MIB, MIB, 4096):
                # No more than there was: what the node gives up meanwhile is for the node.
                with contextlib.suppress(OSError):
                    while taken + step <= room:
                        os.posix_fallocate(file.fileno(), already + taken, step)
                        taken += step
        return taken

    def free(self) -> None:
        """Give it back."""
        (self.root / _FILLER).unlink(missing_ok=True)

    def clear_quarantine(self) -> None:
        """Remove what the node has put aside as damaged, where room is short."""
        if self.mib:
            shutil.rmtree(self.data / "quarantine", ignore_errors=True)

    def close(self) -> None:
        """Unmount; the node is dead. Its data stay, as those on any other disk do."""
        if not self.mib:
            return
        if self.data.is_dir():
            # What cannot be read is not worth a mount that stays.
            with contextlib.suppress(OSError, shutil.Error):
                kept = self.root.parent / KEPT / self.data.name
                ballast = shutil.ignore_patterns("ballast*")
                shutil.copytree(self.data, kept, ignore=ballast, dirs_exist_ok=True)
        unmount(self.root)
        self.mib = 0


def mount(path: Path, mib: int) -> None:
    """Mount a file system in memory.

    Raises:
        MountError: It is refused; that takes root.
    """
    label = f"{_LABEL}{os.getpid()}"
    command = ["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=0700", label, str(path)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_MOUNT_S
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise MountError(f"a disk of its own takes a mount: {error}") from error
    if done.returncode:
        raise MountError(
            f"a disk of its own takes a mount, which is refused: {done.stderr.strip()}"
        )


def unmount(path: Path) -> None:
    """Unmount, at the latest when the last who uses it is gone."""
    subprocess.run(
        ["umount", "--lazy", str(path)], capture_output=True, check=False, timeout=_MOUNT_S
    )


def sweep() -> list[Path]:
    """Unmount what harnesses that were killed have left; return where that was."""
    swept: list[Path] = []
    mounts = Path("/proc/mounts")
    for line in mounts.read_text().splitlines() if mounts.exists() else ():
        label, place, *_ = line.split(" ")
        owner = label.removeprefix(_LABEL)
        if label.startswith(_LABEL) and owner.isdigit() and not Path("/proc", owner).exists():
            path = Path(place.encode().decode("unicode_escape"))
            unmount(path)
            swept.append(path)
    return swept
