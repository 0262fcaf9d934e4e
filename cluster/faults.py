"""Errors of storage and start-up, each one sentence for the person who reads the log.

`StartError` and its kinds end a start: their text says what is wrong, with which file or
peer, and what to do about it. `DiskFailedError` ends a running node: RocksDB refuses every
write after the first failed one, and an fsync that failed once must never be asked again
(the kernel may have dropped the dirty pages), so the process goes down and recovers.
"""

from __future__ import annotations

from pathlib import Path


class StartError(Exception):
    """The node cannot start; the text says why and what to do."""


class DirectoryInUseError(StartError):
    """Another process, or another part of this one, holds the data directory."""


class ForeignDirectoryError(StartError):
    """The directory belongs to another node, cluster or set of voters, or to no node at all."""


class RemovedError(StartError):
    """The directory is of a node that its cluster has removed."""


class DirectoryDeniedError(StartError):
    """The operating system does not let this user read or write the data directory."""


class DiskFullError(StartError):
    """There is no space left to open the database."""


class DiskDamagedError(StartError):
    """Stored bytes are provably not what was written: a checksum or a file is wrong."""


class CertificateError(StartError):
    """A certificate or a key cannot be used, or not be made."""


class DivergedError(StartError):
    """This node's state was seen to differ from the one a quorum agrees on."""


class AddressError(StartError):
    """The peer address cannot be bound: in use, not ours, or not safe to listen on."""


class DiskFailedError(Exception):
    """A write or an fsync failed; nothing more may be written or sent by this process."""


class DiskHungError(DiskFailedError):
    """A sync has not returned in time. Whoever waits for it, or closes its disk, hangs, too."""


def diverged_text(path: Path, text: str) -> str:
    """Return what to do about a directory whose state a quorum does not share.

    Args:
        path: The directory.
        text: Who differs from whom, and where.
    """
    return (
        f"{text}: this node must not go on with {path}. Keep it for analysis and move it "
        "aside; started with an empty directory this node is filled up again by the leader"
    )


def open_error(path: Path, text: str) -> StartError:
    """Turn what RocksDB or the system says into the one sentence that says what to do.

    Args:
        path: The database or directory that could not be used.
        text: The original error; matched by the words RocksDB 10 and Linux use.
    """
    if "lock hold by current process" in text or "While lock file" in text:
        return DirectoryInUseError(
            f"the database {path} is in use by another process: "
            "stop that process, or give this node a data directory of its own"
        )
    if "No space left on device" in text or "Disk quota exceeded" in text:
        return DiskFullError(f"no space left on the disk of {path}: free some, then start again")
    if "Permission denied" in text:
        return DirectoryDeniedError(
            f"no permission to use {path}: give it to the user that runs this node"
        )
    # A file that the database names is not there: the name or the file is gone.
    if "Corruption" in text or ("No such file" in text and "sequentially reading" in text):
        return DiskDamagedError(f"the database {path} is damaged: {text}")
    return StartError(f"{path} cannot be used as a data directory: {text}")
