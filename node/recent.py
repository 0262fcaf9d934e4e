"""What was answered of late, for repetitions that come late themselves.

A copy of a request may still be under way when its client has long had the answer over
another connection: who gives up a silent connection leaves to the kernels what was sent.
"""

from __future__ import annotations

from collections import OrderedDict
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
        self._noted_s: OrderedDict[tuple[Owner, int], float] = OrderedDict()
        """When what is kept was noted, the oldest first."""

    def __len__(self) -> int:
        return len(self._noted_s)

    def get(self, owner: Owner, request_id: int, *, now_s: float) -> Value | None:
        """Return what was noted for a request, if that is known and not too old."""
        noted_s = self._noted_s.get((owner, request_id))
        if noted_s is None or noted_s < now_s - KEPT_S:
            return None
        return self._owners[owner][request_id]

    def note(self, owner: Owner, request_id: int, value: Value, *, now_s: float) -> None:
        """Remember `value`; forget what is too old, or too much."""
        key = (owner, request_id)
        own = self._owners.setdefault(owner, OrderedDict())
        own[request_id] = value
        own.move_to_end(request_id)
        self._noted_s[key] = now_s
        self._noted_s.move_to_end(key)
        if len(own) > self._most_of_one:
            self._forget(owner, next(iter(own)))
        while len(self._noted_s) > self._most or self._oldest_s() < now_s - KEPT_S:
            self._forget(*next(iter(self._noted_s)))

    def clear(self) -> None:
        """Forget everything."""
        self._owners.clear()
        self._noted_s.clear()

    def _oldest_s(self) -> float:
        return next(iter(self._noted_s.values()))

    def _forget(self, owner: Owner, request_id: int) -> None:
        del self._noted_s[owner, request_id]
        own = self._owners[owner]
        del own[request_id]
        if not own:
            del self._owners[owner]
