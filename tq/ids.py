"""Task ids: UUIDv7, made by the client, so that repeating a submit is harmless.

The first 48 bits are the milliseconds since the Unix epoch at which the id was made.
Ids therefore sort by age, and the cluster can tell an id that is older than the window
in which it remembers finished tasks.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Self
from uuid import UUID

from tq.errors import ConfigError

if TYPE_CHECKING or sys.version_info < (3, 14):
    from uuid_utils import uuid7
else:
    from uuid import uuid7


class TaskId(str):
    """A task's id: canonical UUID text, with its 16 bytes at hand.

    Args:
        text: A UUID of version 7 in any form `uuid.UUID` reads.

    Raises:
        ConfigError: It is none.
    """

    __slots__ = ("raw",)

    raw: bytes
    """The 16 bytes that travel on the wire, big endian."""

    def __new__(cls, text: str) -> Self:
        """Read an id from text."""
        if isinstance(text, cls):
            return text
        try:
            uuid = UUID(text)
        except (ValueError, AttributeError, TypeError):
            raise ConfigError(f"{text!r} is no task id: not a UUID") from None
        if uuid.version != 7:
            raise ConfigError(f"{text!r} is no task id: not a UUID of version 7")
        return cls._made(str(uuid), uuid.bytes)

    @classmethod
    def _made(cls, text: str, raw: bytes) -> Self:
        task_id = str.__new__(cls, text)
        task_id.raw = raw
        return task_id

    @classmethod
    def new(cls) -> Self:
        """Make an id that nobody has, from this machine's wall clock and random bits."""
        uuid = uuid7()
        return cls._made(str(uuid), uuid.bytes)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read the 16 bytes of the wire.

        Raises:
            ValueError: There are more or fewer than 16.
        """
        return cls._made(str(UUID(bytes=raw)), raw)

    def ending_in(self, tail: bytes) -> Self:
        """Return the same id with other last bytes, at most 6: all of them are random bits."""
        size = len(tail)
        return self._made(self[: -2 * size] + tail.hex(), self.raw[:-size] + tail)

    @property
    def created_at_ms(self) -> int:
        """When the id was made, milliseconds since the Unix epoch, by its maker's clock."""
        return int.from_bytes(self.raw[:6])
