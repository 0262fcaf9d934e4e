"""A disk and a data directory in memory, with everything a real one may do to a node.

`SimDirectory` is what outlives the processes of one node: the small files and the database.
It stands in for `cluster.directory.DataDirectory`, its `open_disk` for `cluster.disk.RocksDisk`:

    directory = SimDirectory()
    Storage(directory.path, ..., open_directory=directory.open, open_disk=directory.open_disk)

A process ends with `close` of its storage (orderly), or with one of

    directory.kill()            what was written survives; only the lock and the pending batch go
    directory.lose_power(rng)   a suffix of the unsynced batches goes; returns how many
    directory.wipe()            the whole directory is replaced by an empty one

Each opening hands out a new `SimDisk`; the one before it refuses every call from then on, so
that nothing of a dead process can reach the data. `directory.disk` is the one that counts.

Durability: a batch is durable once a `sync` that began after its `write` has returned. Who
decides how long a sync takes remembers `disk.sequence` when it begins and calls
`disk.sync(that)` when it ends; power may be lost in between. A `replace` of a small file is
durable when it returns, and so is an `overwrite` that asks for it, unless `replaces_are_synced`
was taken away (a planted bug). What another `overwrite` writes survives a kill; a power loss
leaves it, takes it back or tears it.

Faults, while the node runs or is down; each has an effect when it is met:

    directory.flip(rng)         one bit anywhere; says where. In the write-ahead log: the next
                                open silently forgets that batch and all after it. In a table:
                                reading those records raises. In the manifest: the next open
                                raises. In a small file: the file differs.
    directory.fail_sync()       the next sync or replace fails (EIO); the disk stays failed
    directory.fill(room)        that many bytes are left: then writes fail, and opening too;
                                a ballast that is given up makes room
    directory.free()            there is room again

What the last sync left in the write-ahead log moves to tables when the log is long enough, at
an orderly close and at every open, as in RocksDB; a batch in tables is durable.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from cluster.faults import DirectoryInUseError, DiskFullError, StartError
from cluster.space import Room
from tests.support.sim_disk import DISK_BYTES, Place, SimDisk


class SimDirectory:
    """One node's data directory: a `cluster.seams.Directory`.

    Args:
        families: Names of the machine's families.
        path: What messages call it.
    """

    def __init__(self, families: Sequence[str], path: Path = Path("data")) -> None:
        self.path = path
        self.disk = SimDisk(families)
        self.quarantined: list[SimDisk] = []
        self.replaces_are_synced = True
        self._files: dict[str, bytes] = {}
        self._safe_files: dict[str, bytes] = {}
        self._locked = False
        self._replace_fails = False
        self.ballast_bytes = 0

    # ------------------------------------------------------------ what the node calls

    def open(self, path: Path | None = None) -> SimDirectory:
        """Lock it for a process; the `open_directory` of a rim."""
        if self._locked:
            raise DirectoryInUseError(f"the data directory {self.path} is in use")
        self._locked = True
        self._replace_fails = False
        return self

    def open_disk(self, path: Path, families: Sequence[str]) -> SimDisk:
        """Open the database; the `open_disk` of a replica."""
        self.disk = self.disk.opened(families)
        return self.disk

    @property
    def database(self) -> Path:
        return self.path / "db"

    @property
    def has_database(self) -> bool:
        return self.disk.existed

    def read(self, name: str) -> bytes | None:
        return self._files.get(name)

    def replace(self, name: str, content: bytes) -> None:
        if self._replace_fails:
            raise StartError(f"{self.path / name} cannot be used: Input/output error")
        room = self.disk.room_bytes
        if room is not None and room < len(content):
            raise DiskFullError(f"no space left on the disk of {self.path / name}: free some")
        self._files[name] = content
        if self.replaces_are_synced:
            self._safe_files[name] = content

    def overwrite(
        self, name: str, content: bytes, *, at_bytes: int = 0, durable: bool = False
    ) -> None:
        if self._replace_fails:
            raise StartError(f"{self.path / name} cannot be used: Input/output error")
        room, old = self.disk.room_bytes, self._files.get(name, b"")
        if room is not None and room < at_bytes + len(content) - len(old):
            raise DiskFullError(f"no space left on the disk of {self.path / name}: free some")
        new = old[:at_bytes] + content + old[at_bytes + len(content) :]
        self._files[name] = new
        if durable and self.replaces_are_synced:
            self._safe_files[name] = new

    def quarantine_database(self) -> Path:
        self.quarantined.append(self.disk)
        room = self.disk.room_bytes
        self.disk = SimDisk(self.disk.families)
        self.disk.room_bytes = room
        return self.path / "quarantine" / str(len(self.quarantined))

    def release(self) -> None:
        self._locked = False

    def room(self) -> Room:
        left = self.disk.room_bytes
        return Room(DISK_BYTES if left is None else left, DISK_BYTES)

    def resize_ballast(self, size_bytes: int) -> None:
        left = self.disk.room_bytes
        grown = size_bytes - self.ballast_bytes
        if left is not None:
            if grown > left:
                raise DiskFullError("no space left on the disk for the ballast: free some")
            self.disk.room_bytes = left - grown
        self.ballast_bytes = size_bytes

    # ----------------------------------------------------------- what the world does

    def kill(self) -> None:
        """The process is gone: what it handed to the system is still there."""
        self._locked = False
        self.disk.kill()

    def lose_power(self, rng: random.Random) -> int:
        """Whatever was not synced may be gone; returns how many batches are."""
        self._locked = False
        files = self._safe_files.copy()
        if self.replaces_are_synced:
            for name in sorted(self._files):
                old, new = files.get(name, b""), self._files[name]
                if old != new:
                    files[name] = _torn(old, new, rng)
        self._files, self._safe_files = files, files.copy()
        return self.disk.lose_power(rng)

    def wipe(self) -> None:
        """A new, empty disk in the place of this one; the quarantine is gone as well."""
        self._locked = False
        self._files, self._safe_files = {}, {}
        self.quarantined = []
        self.ballast_bytes = 0
        self.disk.wipe()

    def flip(
        self, rng: random.Random, place: Place | None = None, *, up_to: int | None = None
    ) -> str:
        """Flip one bit somewhere, or in a given place if it is there; say where.

        Args:
            rng: Draws.
            place: Where; anywhere unless given.
            up_to: In the write-ahead log, the last batch it may hit.
        """
        places = self.disk.flippable()
        names = sorted(name for name, content in self._files.items() if content)
        if names:
            places.append("file")
        chosen = place if place in places else rng.choice(places)
        if chosen != "file":
            return self.disk.flip(rng, chosen, up_to=up_to)
        name = rng.choice(names)
        content = bytearray(self._files[name])
        bit = rng.randrange(len(content) * 8)
        content[bit // 8] ^= 1 << bit % 8
        self._files[name] = self._safe_files[name] = bytes(content)
        return f"bit {bit} of the file {name}"

    def fail_sync(self) -> None:
        """The next sync of the database, and every replace of this process, fails."""
        self.disk.fail_sync()
        self._replace_fails = True

    def fill(self, room_bytes: int = 0) -> None:
        """Leave only so much room."""
        self.disk.room_bytes = room_bytes

    def free(self) -> None:
        """There is room again. What has failed stays failed until the next opening."""
        self.disk.room_bytes = None


def _torn(old: bytes, new: bytes, rng: random.Random) -> bytes:
    """What is left of a file that was being overwritten: the old, the new, or some of each."""
    written = rng.choice((0, len(new), rng.randrange(len(new) + 1)))
    return new[:written] + old[written:]
