"""Which of several clusters a task belongs to: rendezvous hashing, and a hint in its id.

Every shard draws a weight for a key, the hash of both, and the largest wins. So all programs
that know the same names agree without asking anybody; a shard that is added takes only the
keys it now wins, one in n, and one that is removed gives away only its own. There is no ring
to keep and no number of virtual nodes to choose. The hash is BLAKE2b: Python's own `hash` of
a text differs from process to process.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from tq.errors import ConfigError
from tq.ids import TaskId
from tq.protocol import is_name

if TYPE_CHECKING:
    from collections.abc import Iterable

_CACHED_MAX: Final = 10_000
_TAG_BYTES: Final = 2


class Placement:
    """Places keys of one namespace on shards.

    Args:
        shards: Their names; the order does not matter.
        draining: Those among them that get nothing new.
        namespace: Where the queues live.

    Raises:
        ConfigError: No shard takes tasks, one that drains is unknown, or a name is none.

    Attributes:
        place: Gives the name of a key's shard.
    """

    def __init__(
        self, shards: Iterable[str], *, draining: Iterable[str] = (), namespace: str = "default"
    ) -> None:
        names, closed = list(shards), set(draining)
        for name in names:
            if not is_name(name):
                raise ConfigError(f"{name!r} cannot name a shard: use A-Z a-z 0-9 _ . : -")
        self._tags = {name: _tag(name) for name in names}
        self._names: dict[bytes, list[str]] = {}
        for name, tag in self._tags.items():
            self._names.setdefault(tag, []).append(name)
        self._open = [name for name in names if name not in closed]
        self._namespace = namespace
        if unknown := closed.difference(self._tags):
            raise ConfigError(f"draining: there is no shard {min(unknown)!r}")
        if not self._open:
            raise ConfigError("no shard takes tasks: give at least one that is not draining")
        self.place = lru_cache(_CACHED_MAX)(self._winner)

    def new_id(self, shard: str) -> TaskId:
        """Make a task id that hints at a shard: its last two bytes are the shard's."""
        return TaskId.new().ending_in(self._tags[shard])

    def hinted(self, task_id: TaskId) -> list[str]:
        """Return the shards an id hints at.

        Mostly one; of an id that `new_id` did not make: none, but for chance.
        """
        return self._names.get(task_id.raw[-_TAG_BYTES:], [])

    def strays(self, task_id: TaskId, placed: str) -> list[str]:
        """Return the shards an id hints at, none if one of them is where it is placed."""
        hinted = self.hinted(task_id)
        return [] if placed in hinted else hinted

    def _winner(self, key: str) -> str:
        text = f"\0{self._namespace}\0{key}".encode("utf-8", "surrogatepass")
        return max(self._open, key=lambda name: (_weight(name.encode() + text), name))


def _weight(data: bytes) -> bytes:
    return blake2b(data, digest_size=8, person=b"tq weight").digest()


def _tag(name: str) -> bytes:
    return blake2b(name.encode(), digest_size=_TAG_BYTES, person=b"tq tag").digest()
