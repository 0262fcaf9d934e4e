"""Entries of the log, decoded once for all machines of a world.

Every node of a real cluster decodes an entry for itself, but for the leader that made it.
Here they run in one process and mostly hold one and the same bytes. What they decode to may
be shared: commands are tuples of numbers, texts, bytes and such tuples, all immutable (so is
what they are listed in here), and the machine takes in a leader's in the same way. That two
machines make the same of them is still compared with every entry, and that bytes decode
alike everywhere is left to the worlds that share nothing (`Options.codec`).
"""

from __future__ import annotations

from statemachine import Command, Malformed, decode_entry

Listed = tuple[int, tuple[Command | Malformed, ...]]
"""Time stamp, milliseconds, and commands."""


class Decoded:
    """What has been decoded so far."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[bytes, Listed]] = {}

    def entry(self, index: int, entry: bytes) -> Listed:
        """Decode an entry, unless exactly these bytes were seen at its index."""
        known = self._known.get(index)
        if known is None or known[0] != entry:
            now_ms, listed = decode_entry(entry)
            known = self._known[index] = (entry, (now_ms, tuple(listed)))
        return known[1]
