"""Many deadlines, most of which are moved or dropped long before they pass.

A heap would keep an entry for every lease renewed and every claim woken until
its original time. Here deadlines lie in slots of equal width; dropping one frees
its place at once, and moving one later costs a single dictionary write: the slot
it lies in is looked at again when it passes.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

SLOT_S: Final = 0.05


class Deadlines(Generic[Key]):
    """Deadlines by key on a monotonic clock that the caller reads.

    A key is reported at most one slot late and never early.

    Args:
        slot_s: Width of a slot, seconds.
    """

    def __init__(self, *, slot_s: float = SLOT_S) -> None:
        self._slot_s = slot_s
        self._at: dict[Key, float] = {}
        self._slot_of: dict[Key, int] = {}
        self._slots: dict[int, dict[Key, None]] = {}
        self._order: list[int] = []
        """A heap of slot numbers. Invariant: every key of `_slots` is in it once."""
        self._postponed_s = 0.0
        """How much later all deadlines are by now than when they were set; taken off the clock."""

    def __len__(self) -> int:
        return len(self._at)

    def __contains__(self, key: Key) -> bool:
        return key in self._at

    def set(self, key: Key, at_s: float) -> None:
        """Give `key` the deadline `at_s`, instead of the one it had."""
        at_s -= self._postponed_s
        self._at[key] = at_s
        slot = self._slot_of.get(key)
        wanted = int(at_s / self._slot_s)
        if slot is None:
            self._place(key, wanted)
        elif wanted < slot:
            self._remove(key, slot)
            self._place(key, wanted)

    def postpone(self, by_s: float) -> None:
        """Make every deadline there is so much later; costs the same for any number."""
        self._postponed_s += by_s

    def discard(self, key: Key) -> None:
        """Forget `key`; it may be unknown."""
        if self._at.pop(key, None) is not None:
            self._remove(key, self._slot_of.pop(key))

    def clear(self) -> None:
        """Forget every key."""
        self._at.clear()
        self._slot_of.clear()
        self._slots.clear()
        self._order.clear()
        self._postponed_s = 0.0

    def pop_due(self, now_s: float, *, limit: int | None = None) -> list[Key]:
        """Remove and return the keys whose deadline has passed, at most `limit` of them."""
        now_s -= self._postponed_s
        due: list[Key] = []
        while self._order and (limit is None or len(due) < limit):
            slot = self._order[0]
            if (slot + 1) * self._slot_s > now_s:
                break
            self._pop_slot(slot, due, now_s=now_s, limit=limit)
        return due

    def _pop_slot(self, slot: int, due: list[Key], *, now_s: float, limit: int | None) -> None:
        keys = self._slots.get(slot, {})
        while keys and (limit is None or len(due) < limit):
            key, _ = keys.popitem()
            if self._at[key] <= now_s:
                del self._at[key], self._slot_of[key]
                due.append(key)
            else:
                self._place(key, max(slot + 1, int(self._at[key] / self._slot_s)))
        if not keys:
            self._slots.pop(slot, None)
            heapq.heappop(self._order)

    def _place(self, key: Key, slot: int) -> None:
        keys = self._slots.get(slot)
        if keys is None:
            keys = self._slots[slot] = {}
            heapq.heappush(self._order, slot)
        keys[key] = None
        self._slot_of[key] = slot

    def _remove(self, key: Key, slot: int) -> None:
        del self._slots[slot][key]
