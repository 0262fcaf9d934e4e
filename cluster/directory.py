"""The data directory: private, locked by one process, small files replaced durably.

identity       who this node is                     cluster.identity
high_water     how far it has promised durability   cluster.watermark
db/            the database                         cluster.disk
lock           held while the node runs
quarantine/    damaged databases, moved aside and never deleted
"""

from __future__ import annotations

import fcntl
import os
from datetime import UTC, datetime
from pathlib import Path

from cluster.faults import DirectoryInUseError, ForeignDirectoryError, open_error

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
            path.mkdir(mode=_PRIVATE_DIRECTORY, parents=True, exist_ok=True)
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
        try:
            with draft.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(target)
            _sync_directory(self.path)
        except OSError as error:
            raise open_error(target, str(error)) from error

    def quarantine_database(self) -> Path:
        """Move the database aside, whole, and return where it is now.

        Raises:
            StartError: The system refused.
        """
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        place = self.path / "quarantine" / stamp
        try:
            place.mkdir(mode=_PRIVATE_DIRECTORY, parents=True)
            self.database.rename(place / "db")
            _sync_directory(place)
            _sync_directory(self.path)
        except OSError as error:
            raise open_error(place, str(error)) from error
        return place

    def release(self) -> None:
        """Let another process have the directory; may be called twice."""
        if self._locked:
            self._locked = False
            os.close(self._lock)


def _refuse_foreign(path: Path) -> None:
    """Refuse a directory like /home before its permissions are changed and files appear in it."""
    names = {entry.name for entry in path.iterdir()} - _NOBODYS
    if names and not names & _OURS:
        raise ForeignDirectoryError(
            f"the data directory {path} holds files that are not a node's "
            f"({min(names)!r}, ...): give this node a directory of its own"
        )


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
