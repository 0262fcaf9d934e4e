"""What was answered of late, for repetitions that come late themselves.

A copy of a request may still be under way when its client has long had the answer over
another connection: who gives up a silent connection leaves to the kernels what was sent.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

KEPT_S: Final = 120.0
"""Longer than any kernel goes on sending what was written to a connection that is closed."""

Owner = TypeVar("Owner", bound=Hashable)
Value = TypeVar("Value")


class Recent(Generic[Owner, Value]):
    """Values by owner and request id, for `KEPT_S` as long as there is room.

    Args:
        most_of_one: How many are kept for one owner, the latest ones.
        most: How many are kept at all, the latest ones.
    """

    def __init__(self, *, most_of_one: int, most: int) -> None:
        self._most_of_one = most_of_one
        self._most = most
        self._owners: dict[Owner, OrderedDict[int, Value]] = {}
        self._order: deque[tuple[float, Owner, int]] = deque()
        """All that was noted, the oldest first; some of it may be forgotten already."""

    def __len__(self) -> int:
        return sum(map(len, self._owners.values()))

    def get(self, owner: Owner, request_id: int) -> Value | None:
        """Return what was noted for a request, if that is known."""
        own = self._owners.get(owner)
        return None if own is None else own.get(request_id)

    def note(self, owner: Owner, request_id: int, value: Value, *, now_s: float) -> None:
        """Remember `value`; forget what is too old, or too much."""
        own = self._owners.setdefault(owner, OrderedDict())
        own[request_id] = value
        if len(own) > self._most_of_one:
            own.popitem(last=False)
        self._order.append((now_s, owner, request_id))
        while len(self._order) > self._most or self._order[0][0] < now_s - KEPT_S:
            self._forget_oldest()

    def clear(self) -> None:
        """Forget everything."""
        self._owners.clear()
        self._order.clear()

    def _forget_oldest(self) -> None:
        _, owner, request_id = self._order.popleft()
        own = self._owners.get(owner)
        if own is not None:
            own.pop(request_id, None)
            if not own:
                del self._owners[owner]
