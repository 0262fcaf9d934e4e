"""Bits that were flipped on a disk, and how they are flipped back while nobody has read them.

A table is read block by block, perhaps hours later. A node with such a spot is one whose data are
damaged, though nobody knows: if another node loses its data as well, the cluster may have to read
the spot to fill that one again, and then two of three have lost theirs. Whoever damages a second
node flips the first one's bit back before, if it is still there.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Spot:
    """A byte that is not what was written.

    Attributes:
        path: The file.
        offset: Of the byte.
        bit: Which one was flipped.
        flipped: The byte since then.
        identity: Inode and size of the file: another one may have its name by now.
    """

    path: Path
    offset: int
    bit: int
    flipped: int
    identity: tuple[int, int]

    def __str__(self) -> str:
        """Say where it is."""
        return f"bit {self.bit} of byte {self.offset} of {self.identity[1]} in {self.path.name}"

    def mend(self) -> bool:
        """Flip the bit back; False if the file has gone, as when the damage was found."""
        try:
            with self.path.open("r+b") as file:
                if _identity(self.path) != self.identity:
                    return False
                file.seek(self.offset)
                if file.read(1) != bytes([self.flipped]):
                    return False
                file.seek(self.offset)
                file.write(bytes([self.flipped ^ 1 << self.bit]))
        except FileNotFoundError:
            return False
        return True


def flip(path: Path, where: range, rng: random.Random) -> Spot:
    """Flip a bit of a file, somewhere in a range of bytes."""
    offset, bit = rng.choice(where), rng.randrange(8)
    with path.open("r+b") as file:
        file.seek(offset)
        [byte] = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 1 << bit]))
    return Spot(path, offset, bit, byte ^ 1 << bit, _identity(path))


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_ino, found.st_size
