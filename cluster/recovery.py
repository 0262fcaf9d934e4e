"""Opening a data directory: what is there, whose it is, and whether it can be believed.

A node that cannot prove that it remembers everything it answered for becomes an *amnesiac*:
a flag in the database, durable before its first message, keeps it from voting and from
being counted until a leader has filled it up again. A damaged database is moved to
`quarantine/`, never deleted, and only when there are peers who hold the data; a single node
refuses to start instead and says so.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from cluster.directory import DataDirectory
from cluster.disk import RocksDisk
from cluster.faults import (
    DiskDamagedError,
    DiskFullError,
    DivergedError,
    ForeignDirectoryError,
    StartError,
    diverged_text,
)
from cluster.identity import (
    BootstrapState,
    Identity,
    load_identity,
    store_identity,
)
from cluster.interface import AMNESIAC_KEY, RAFT_META, VOTE_KEY
from cluster.seams import Directory, OpenDisk, SyncedDisk
from cluster.space import NOTHING_KEPT, SpaceKeeper, SpaceLimits
from cluster.watermark import (
    COPIES,
    COPY_BYTES,
    HIGH_WATER_FILE,
    NOTE_FILE,
    HighWater,
    copy_of,
    newer,
    read_mark,
)

_T = TypeVar("_T")

_log = logging.getLogger(__name__)

_NO_COPY = "a single node has no copy elsewhere, so nothing was changed"


DIVERGED_FILE = "diverged"
"""Present once a quorum was seen to hold another state: the directory is evidence."""

DAMAGED_FILE = "damaged"
"""Present and not empty: a run met bytes in the database that are not what was written."""


class Storage:
    """An opened data directory: locked, identified, checked against its high-water mark.

    Args:
        path: The directory; made when missing.
        node_id: The configured node.
        voters: All configured voters, this node included.
        families: The machine's families.
        open_disk: Opens the database.
        open_directory: Opens and locks the directory.
        space: What is to be kept free on the disk.

    Attributes:
        space: Keeps it free; ticked by the replica.

    Raises:
        StartError: One sentence that says why the node cannot start from here.
    """

    def __init__(
        self,
        path: Path,
        *,
        node_id: int,
        voters: Sequence[int],
        families: Sequence[str],
        open_disk: OpenDisk = RocksDisk,
        open_directory: Callable[[Path], Directory] = DataDirectory,
        space: SpaceLimits = NOTHING_KEPT,
    ) -> None:
        self.disk: SyncedDisk
        self._families = tuple(families)
        self._open_disk = open_disk
        self._directory = open_directory(path)
        self.space = SpaceKeeper(self._directory, space)
        self._mark_placed = False
        self._marking = threading.Lock()
        try:
            self.space.before_write(0)  # opening takes room, too
            self._refuse_diverged()
            self.identity = self._identify(node_id, voters)
            damaged = self._open()
            self._check_mark(damaged)
        except BaseException:
            self._directory.release()
            raise

    @property
    def damage(self) -> str | None:
        """Which stored bytes are wrong, once one was met: the process must end.

        The next start moves the database aside, so that it does not end there again.
        """
        return self.disk.condition.damage

    @property
    def amnesiac(self) -> bool:
        """Whether the node may have forgotten votes or entries."""
        return self.disk.get(RAFT_META, AMNESIAC_KEY) is not None

    def record(self, identity: Identity) -> None:
        """Make an identity durable; blocks."""
        self._insist(lambda: store_identity(self._directory, identity))
        self.identity = identity

    def forget(self, reason: str) -> None:
        """Make the amnesia flag durable; blocks.

        Args:
            reason: What may be forgotten, for the log.
        """
        _log.warning(
            "node %d may have forgotten what it answered for (%s): "
            "it will not vote until a leader has filled it up again",
            self.identity.node_id,
            reason,
        )
        self.disk.put(RAFT_META, AMNESIAC_KEY, b"1")
        self.disk.write()
        self.disk.sync()
        self.write_mark(self.mark())  # a flag that is lost again must show, too

    def mark_diverged(self, text: str) -> str:
        """Record durably that this node's state is not the one a quorum has; blocks.

        Returns:
            What to tell the operator; every later start refuses with the same text.
        """
        self._replace(DIVERGED_FILE, text.encode())
        return diverged_text(self._directory.path, text)

    def replace_database(self, reason: str) -> None:
        """Put an empty database in the place of one whose records contradict each other.

        Raises:
            DiskDamagedError: This node is alone and must not lose its only copy.
        """
        self.disk.close()
        self._quarantine(reason)
        self.disk = self._opened()
        self.forget("its database was damaged and moved aside")

    def mark(self, *, last_index: int = 0, term: int = 0) -> HighWater:
        """Return the mark of everything written so far; to be stored once that is durable."""
        vote = self.disk.get(RAFT_META, VOTE_KEY) or b""
        return HighWater(self.identity.incarnation, self.disk.sequence, last_index, term, vote)

    def write_mark(self, mark: HighWater) -> None:
        """Make a high-water mark durable; blocks, safe in a thread."""
        copy = copy_of(mark)
        with self._marking:
            if not self._mark_placed:  # whatever an earlier start has left of it
                self._replace(HIGH_WATER_FILE, copy * COPIES)
                self._mark_placed = True
                return
            for number in range(COPIES):
                self._overwrite(HIGH_WATER_FILE, copy, at_bytes=number * COPY_BYTES, durable=True)

    def write_note(self, mark: HighWater, sequence: int) -> None:
        """Note after a sync, and before anything is said of it, how far it went; takes no fsync.

        Args:
            mark: As captured before the sync; the end of the log and the term are only read by
                people.
            sequence: What the sync covered.
        """
        noted = HighWater(mark.incarnation, sequence, mark.last_index, mark.term)
        self._overwrite(NOTE_FILE, noted.to_bytes())

    def _replace(self, name: str, content: bytes) -> None:
        self._insist(lambda: self._directory.replace(name, content))

    def _overwrite(
        self, name: str, content: bytes, *, at_bytes: int = 0, durable: bool = False
    ) -> None:
        overwrite = self._directory.overwrite
        self._insist(lambda: overwrite(name, content, at_bytes=at_bytes, durable=durable))

    def _insist(self, write: Callable[[], _T]) -> _T:
        """Write something small, if need be into the room of the ballast."""
        try:
            return write()
        except DiskFullError:
            self.space.give_up()
            return write()

    def note_voters(self, voters: tuple[int, ...]) -> None:
        """Make the voters of a committed configuration durable, if they are others; blocks.

        The database holds them as well; these are for the start that cannot read it.
        """
        identity = self.identity
        if identity.state == BootstrapState.BOOTSTRAPPED and identity.latest_voters != voters:
            self.record(replace(identity, voters_now=voters))

    def close(self) -> None:
        """Close the database and let go of the directory."""
        self.disk.close()
        self._directory.release()

    def _refuse_diverged(self) -> None:
        content = self._directory.read(DIVERGED_FILE)
        if content is not None:
            text = content.decode(errors="replace")
            raise DivergedError(diverged_text(self._directory.path, text))

    def _identify(self, node_id: int, voters: Sequence[int]) -> Identity:
        identity = load_identity(self._directory, node_id, voters)
        if identity is None:
            if self._directory.has_database:
                raise ForeignDirectoryError(
                    f"{self._directory.path} holds a database but no identity file: put the file "
                    "back, or move the whole directory aside to start empty"
                )
            identity = Identity(node_id, tuple(sorted(voters)))
        identity = replace(identity, incarnation=identity.incarnation + 1)
        self._insist(lambda: store_identity(self._directory, identity))
        return identity

    def _open(self) -> bool:
        """Open the database; True when a damaged one had to make place."""
        reason = self._noted_damage()
        if reason is None:
            try:
                self.disk = self._opened()
            except DiskDamagedError as error:
                reason = str(error)
            else:
                return False
        self._quarantine(reason)
        self.disk = self._opened()
        return True

    def _opened(self) -> SyncedDisk:
        disk = self._open_disk(self._directory.database, self._families)
        disk.condition.on_damage = self._note_damage
        disk.before_write = self.space.before_write
        try:
            for key in (AMNESIAC_KEY, VOTE_KEY):  # read again soon, where it would be too late
                disk.get(RAFT_META, key)
        except BaseException:
            disk.close()
            raise
        return disk

    def _note_damage(self, text: str) -> None:
        """Have the next start move the database aside; blocks, safe in a thread."""
        try:
            self._replace(DAMAGED_FILE, text.encode())
        except StartError as error:
            _log.error("that the database is damaged could not be noted: %s", error)

    def _noted_damage(self) -> str | None:
        content = self._directory.read(DAMAGED_FILE)
        return content.decode(errors="replace") if content else None

    @property
    def _alone(self) -> bool:
        """Whether this node is the only voter: nobody could fill it up again."""
        return self.identity.latest_voters == (self.identity.node_id,)

    def _quarantine(self, reason: str) -> None:
        noted = self._noted_damage() is not None
        if self._alone:
            directory = self._directory.path
            on = f", or remove {directory / DAMAGED_FILE} to go on with what can be read"
            raise DiskDamagedError(
                f"{reason}; {_NO_COPY}: restore {directory} from a backup, or move it aside to "
                f"start empty{on if noted else ''}"
            )
        if self._directory.has_database:
            place = self._insist(self._directory.quarantine_database)
            _log.error("%s; it was moved to %s", reason, place)
        if noted:
            self._replace(DAMAGED_FILE, b"")

    def _check_mark(self, damaged: bool) -> None:
        """Compare what was recovered with what was promised; raise the mark to here."""
        try:
            lost = self._lost(damaged)
            if lost is not None:
                self.forget(lost)
            self.disk.sync()
            self.write_mark(self.mark())
            self.write_note(self.mark(), self.disk.sequence)  # it finds its room from here on
        except BaseException:
            self.disk.close()
            raise

    def _lost(self, damaged: bool) -> str | None:
        if self.identity.state != BootstrapState.BOOTSTRAPPED:
            return None  # it has never voted and never acknowledged an entry
        if damaged:
            return "its database was damaged and moved aside"
        file = self._directory.path / HIGH_WATER_FILE
        content = self._directory.read(HIGH_WATER_FILE)
        if content is None:
            if not self._alone:
                return f"{file} is missing"
            _log.warning("%s is missing: what the database holds is taken as it is", file)
            return None
        try:
            mark = read_mark(content)
        except ValueError as error:
            return self._shared(f"{file} is damaged: {error}")
        mark = newer(mark, self._directory.read(NOTE_FILE))
        if self.disk.sequence >= mark.sequence:
            return None
        return self._shared(
            f"the database holds {self.disk.sequence} batches, {mark.sequence} were durable, "
            f"up to entry {mark.last_index} in term {mark.term}"
        )

    def _shared(self, lost: str) -> str:
        """Return the loss, or refuse it where nobody else holds the data.

        Raises:
            DiskDamagedError: This node is alone.
        """
        if self._alone:
            raise DiskDamagedError(
                f"{lost}; {_NO_COPY}: restore {self._directory.path} from a backup, or remove "
                f"{HIGH_WATER_FILE} in it to go on with what is left"
            )
        return lost
