"""Room on the disk: when to say that it runs short, and what to give up so that writes go on.

Two lines of defence. Below the low watermark the node says so (`low`) and takes no new work,
while what it has goes on. Should the disk fill up nevertheless, a file of no other use, the
ballast, makes room for as long as it takes to finish what is there. RocksDB never recovers
from a write that found no room, so the ballast goes before one can fail: `before_write` asks
the system each time (a few us), and so does every tick, for what RocksDB writes by itself. A small
file that found no room is written again once the ballast is gone (`cluster.recovery`). When
there is room again, all is as before, without an operator.

`SpaceWatch` decides and touches nothing; `SpaceKeeper` carries it out.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from cluster.faults import StartError

LOOK_INTERVAL_S = 1.0
"""Between two looks at whether the disk is low, and at whether the ballast may grow."""

_GROWTH_BYTES = 32 << 20
"""The ballast grows by so much in one look: where the file system writes it out, that blocks."""
_LOW_FRACTION = 20
_LOW_MIN_BYTES = 1 << 30

_log = logging.getLogger(__name__)


class Room(NamedTuple):
    """What a file system says of itself.

    Attributes:
        free_bytes: What this user may still write.
        total_bytes: Its size.
    """

    free_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class SpaceLimits:
    """What is kept free.

    Attributes:
        ballast_bytes: Size of the ballast, 0 for none.
        low_bytes: The low watermark; None for a twentieth of the disk, at least 1 GiB. It
            counts without the ballast: giving that up does not make the disk less low.
    """

    ballast_bytes: int = 0
    low_bytes: int | None = 0

    def low_of(self, total_bytes: int) -> int:
        """Return the low watermark of a disk."""
        if self.low_bytes is not None:
            return self.low_bytes
        return max(total_bytes // _LOW_FRACTION, _LOW_MIN_BYTES)

    @property
    def reserve_bytes(self) -> int:
        """With less than this left the ballast is given up."""
        return self.ballast_bytes // 2


NOTHING_KEPT = SpaceLimits()


class SpaceWatch:
    """Decides from what there is.

    Args:
        limits: What is to be kept free.

    Attributes:
        low: The disk is below its low watermark.
    """

    def __init__(self, limits: SpaceLimits) -> None:
        self._limits = limits
        self.low = False

    def look(self, room: Room, ballast_bytes: int) -> int:
        """Take note of the room there is.

        Args:
            room: As it is now.
            ballast_bytes: Size of the ballast that is there.

        Returns:
            The size the ballast should have: none when writes are about to fail, more when
            there is room for it above the watermark.
        """
        limits = self._limits
        missing = max(0, limits.ballast_bytes - ballast_bytes)
        low = limits.low_of(room.total_bytes)
        spare = room.free_bytes - missing - low
        if spare < 0:
            self.low = True
        elif spare >= low // 8:  # or every batch that comes and goes would turn it on and off
            self.low = False
        if self.must_give_up(room, ballast_bytes):
            return 0
        if missing and not self.low:
            return min(limits.ballast_bytes, ballast_bytes + _GROWTH_BYTES)
        return ballast_bytes

    def must_give_up(self, room: Room, ballast_bytes: int, wanted_bytes: int = 0) -> bool:
        """Whether the ballast has to go now.

        Args:
            room: As it is now.
            ballast_bytes: Size of the ballast that is there.
            wanted_bytes: About to be written.
        """
        reserve = self._limits.reserve_bytes
        return ballast_bytes > 0 and room.free_bytes < reserve + wanted_bytes


class Place(Protocol):
    """The disk as it is (`cluster.directory.DataDirectory`)."""

    def room(self) -> Room:
        """How much there is; `StartError` if the system does not say."""

    @property
    def ballast_bytes(self) -> int:
        """Size of the ballast that is there."""

    def resize_ballast(self, size_bytes: int) -> None:
        """Make the ballast larger, or remove it; `StartError` if the system refuses."""


class SpaceKeeper:
    """Keeps room on one disk; `give_up` may come from any thread, the rest from one.

    Args:
        place: The disk.
        limits: What is to be kept free.

    Attributes:
        room: What there was when it was last asked for.
        ballast_bytes: Size of the ballast.
    """

    def __init__(self, place: Place, limits: SpaceLimits) -> None:
        self._place = place
        self._watch = SpaceWatch(limits)
        self._due_at = float("-inf")
        self._resizing = threading.Lock()
        self._trouble = ""
        self.room = Room(0, 0)
        self.ballast_bytes = place.ballast_bytes

    @property
    def low(self) -> bool:
        """The disk is below its low watermark."""
        return self._watch.low

    def tick(self, now: float) -> None:
        """Look as far as it is time to; called every few tens of milliseconds.

        Args:
            now: A monotonic clock, seconds.
        """
        if now >= self._due_at:
            self._due_at = now + LOOK_INTERVAL_S
            self.look()
        else:
            self.before_write(0)  # the database writes by itself, too

    def look(self) -> None:
        """Look now, and do what follows from it."""
        was = self.low
        try:
            self.room = self._place.room()
            wanted = self._watch.look(self.room, self.ballast_bytes)
            if wanted < self.ballast_bytes:
                self.give_up()
            elif wanted > self.ballast_bytes:
                self._grow(wanted)
        except StartError as error:
            self._say(error)
        if self.low and not was:
            _log.error("disk low: %d bytes are left, no new tasks are taken", self.room.free_bytes)
        elif was and not self.low:
            _log.info("disk no longer low: %d bytes are left", self.room.free_bytes)

    def before_write(self, size_bytes: int) -> None:
        """Give the ballast up if a write might not find room.

        Args:
            size_bytes: What is about to be written.
        """
        if not self.ballast_bytes:
            return
        try:
            self.room = self._place.room()
            if self._watch.must_give_up(self.room, self.ballast_bytes, size_bytes):
                self.give_up()
        except StartError as error:
            self._say(error)

    def give_up(self) -> None:
        """Give the ballast up, if there is any: a write has failed, or is about to.

        Returns once its room is there, also where another thread is giving it up.

        Raises:
            StartError: The system refused; the ballast counts as there.
        """
        with self._resizing:
            if not self.ballast_bytes:
                return
            self._place.resize_ballast(0)
            given, self.ballast_bytes = self.ballast_bytes, 0
        _log.error(
            "the disk is full: the ballast of %d bytes was given up, so that what is under "
            "way can finish",
            given,
        )

    def _grow(self, size_bytes: int) -> None:
        with self._resizing:
            try:
                self._place.resize_ballast(size_bytes)
            finally:
                self.ballast_bytes = self._place.ballast_bytes  # perhaps a part of it

    def _say(self, error: StartError) -> None:
        """Log a trouble that comes with every look, once."""
        if str(error) != self._trouble:
            self._trouble = str(error)
            _log.warning("the room on the disk cannot be kept: %s", error)
