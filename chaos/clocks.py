"""A node's wall clock, in the hands of the harness."""

from __future__ import annotations

import mmap
import struct
import time
from pathlib import Path
from typing import Final

_SETTING: Final = struct.Struct("=qqq")
_SECOND_NS: Final = 1_000_000_000


class WallClock:
    """What `shims/wall_clock.c` reads.

    Args:
        path: The file, made anew.
        library: The compiled shim.
    """

    def __init__(self, path: Path, library: Path) -> None:
        self.library = library
        path.write_bytes(bytes(_SETTING.size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _SETTING.size)
        self.variables = {"WALL_CLOCK": str(path)}
        """What a process with this clock has in its environment, besides the library."""

    @property
    def moved_by_ns(self) -> int:
        """How far it is off at this moment."""
        offset, drift, since = _SETTING.unpack(self._map)
        return int(offset + (time.monotonic_ns() - since) * drift // _SECOND_NS)

    def jump(self, seconds: float) -> None:
        """Move it from where it is."""
        _, drift, _ = _SETTING.unpack(self._map)
        self._set(self.moved_by_ns + int(seconds * _SECOND_NS), drift)

    def drift(self, share: float) -> None:
        """Let it run faster from now on by a share of the time, slower if negative."""
        self._set(self.moved_by_ns, int(share * _SECOND_NS))

    def correct(self) -> None:
        """Set it right."""
        self._set(0, 0)

    def _set(self, offset: int, drift: int) -> None:
        # One copy: a reader in between meets at most one odd value, as with any clock set.
        self._map[:] = _SETTING.pack(offset, drift, time.monotonic_ns())
