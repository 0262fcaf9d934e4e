"""The data directory: private, locked by one process, small files replaced durably.

identity       who this node is                     cluster.identity
high_water     how far it has promised durability   cluster.watermark
high_water_note    the same after every sync, not synced itself
db/            the database                         cluster.disk
lock           held while the node runs
ballast        room to give up when the disk is full     cluster.space
damaged        what a run found wrong with the database  cluster.recovery
quarantine/    damaged databases, moved aside and never deleted
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from datetime import UTC, datetime
from pathlib import Path

from cluster.faults import DirectoryInUseError, ForeignDirectoryError, StartError, open_error
from cluster.space import Room

BALLAST_FILE = "ballast"

_OURS = frozenset({"identity", "lock"})
"""One of these marks a directory as a node's."""
_NOBODYS = frozenset({"lost+found"})
"""What an empty volume may hold."""
_PRIVATE_DIRECTORY = 0o700
_PRIVATE_FILES_UMASK = 0o077


class DataDirectory:
    """One node's directory, made private and locked for the life of this object.

    The umask of the process becomes 077: the database makes files all its life.

    Args:
        path: The directory; made with its parents when missing. One that holds files of
            somebody else is left as it is.

    Raises:
        DirectoryInUseError: Another process runs a node in it.
        ForeignDirectoryError: It is somebody else's.
        StartError: It cannot be made, read or written; the text says why.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        os.umask(_PRIVATE_FILES_UMASK)
        try:
            _make_durably(path)
            _refuse_foreign(path)
            path.chmod(_PRIVATE_DIRECTORY)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise open_error(path, str(error)) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise DirectoryInUseError(
                f"the data directory {path} is in use by another process: "
                "stop that process, or give this node a directory of its own"
            ) from error
        self._locked = True
        self._open_files: dict[str, int] = {}

    @property
    def database(self) -> Path:
        """Where the database lives."""
        return self.path / "db"

    @property
    def has_database(self) -> bool:
        """Whether there are files of a database.

        Raises:
            StartError: It cannot be looked into.
        """
        return _has_files(self.database)

    def read(self, name: str) -> bytes | None:
        """Return a small file's content, None when there is none.

        Raises:
            StartError: It is there and cannot be read.
        """
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise open_error(self.path / name, str(error)) from error

    def replace(self, name: str, content: bytes) -> None:
        """Put a small file in place so that a crash leaves the old or the new one, whole.

        Returns when it is durable. Blocks for two fsyncs.

        Raises:
            StartError: The system refused.
        """
        target, draft = self.path / name, self.path / f"{name}.new"
        opened = self._open_files.pop(name, None)
        try:
            if opened is not None:
                os.close(opened)  # of the file that goes
            with draft.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(target)
            _sync_directory(self.path)
        except OSError as error:
            raise open_error(target, str(error)) from error

    def overwrite(
        self, name: str, content: bytes, *, at_bytes: int = 0, durable: bool = False
    ) -> None:
        """Write into a small file in place: it takes no room but the first time.

        Not durable, it takes microseconds and survives this process; a power cut may lose or
        tear it. Not for two threads at once.

        Args:
            name: Of the file, which stays open.
            content: What to write; always the same places.
            at_bytes: Where it begins.
            durable: Return when it is, after an fsync.

        Raises:
            StartError: The system refused.
        """
        if not self._locked:
            raise StartError(f"{self.path} was let go of")
        try:
            handle = self._open_files.get(name)
            if handle is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
                handle = self._open_files[name] = os.open(self.path / name, flags, 0o600)
            _write_whole(handle, content, at_bytes)
            if durable:
                os.fdatasync(handle)
        except OSError as error:
            raise open_error(self.path / name, str(error)) from error

    def quarantine_database(self) -> Path:
        """Move the database aside, whole, and return where it is now.

        Raises:
            StartError: The system refused.
        """
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        place = self.path / "quarantine" / stamp
        try:
            _make_durably(place)
            self.database.rename(place / "db")
            _sync_directory(place)
            _sync_directory(self.path)
        except OSError as error:
            raise open_error(place, str(error)) from error
        return place

    def room(self) -> Room:
        """Return how much this user may still write.

        Raises:
            StartError: The system does not say.
        """
        if not self._locked:
            raise StartError(f"{self.path} was let go of")
        try:
            found = os.fstatvfs(self._lock)  # by a path it would take three times as long
        except OSError as error:
            raise open_error(self.path, str(error)) from error
        return Room(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)

    @property
    def ballast_bytes(self) -> int:
        """Size of the ballast, 0 when there is none."""
        try:
            return (self.path / BALLAST_FILE).stat().st_size
        except OSError:
            return 0

    def resize_ballast(self, size_bytes: int) -> None:
        """Make the ballast larger, or remove it for a size of 0; it is worth no fsync.

        Raises:
            StartError: The system refused.
        """
        path = self.path / BALLAST_FILE
        try:
            if not size_bytes:
                path.unlink(missing_ok=True)
                return
            with path.open("ab") as file:
                os.posix_fallocate(file.fileno(), 0, size_bytes)
        except OSError as error:
            raise open_error(path, str(error)) from error

    def release(self) -> None:
        """Let another process have the directory; may be called twice."""
        if self._locked:
            self._locked = False
            for handle in (*self._open_files.values(), self._lock):
                os.close(handle)
            self._open_files.clear()


def _make_durably(path: Path) -> None:
    """Make a directory with its parents; a power loss does not take one of them away again."""
    if path.is_dir():
        return
    if not path.parent.is_dir():
        _make_durably(path.parent)
    path.mkdir(mode=_PRIVATE_DIRECTORY, exist_ok=True)
    with contextlib.suppress(PermissionError):  # a parent that may be passed but not listed
        _sync_directory(path.parent)


def _refuse_foreign(path: Path) -> None:
    """Refuse a directory like /home before its permissions are changed and files appear in it."""
    names = {entry.name for entry in path.iterdir()} - _NOBODYS
    if names and not names & _OURS:
        raise ForeignDirectoryError(
            f"the data directory {path} holds files that are not a node's "
            f"({min(names)!r}, ...): give this node a directory of its own"
        )


def _write_whole(handle: int, content: bytes, at_bytes: int) -> None:
    if os.pwrite(handle, content, at_bytes) < len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _has_files(path: Path) -> bool:
    try:
        return path.is_dir() and any(path.iterdir())
    except OSError as error:
        raise open_error(path, str(error)) from error


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
