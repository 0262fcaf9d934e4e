"""DIGEST, which stops the node for as long as it takes: kept to a small share of its time.

The digest is over one moment, so it is computed in one piece on the event loop. One
request after the other would leave a leader no time to lead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

REST_FACTOR: Final = 10
"""After a digest nothing is computed for so many times as long as it took."""


class Digests:
    """Computes digests, with rests between them.

    Args:
        compute: Gives the digest over the whole state as it is, 32 bytes.
        applied_index: Where the state stands.
        now_s: The monotonic clock, seconds.
    """

    def __init__(
        self,
        compute: Callable[[], bytes],
        *,
        applied_index: Callable[[], int],
        now_s: Callable[[], float],
    ) -> None:
        self._compute = compute
        self._applied_index = applied_index
        self._now_s = now_s
        self._last: tuple[int, bytes] | None = None
        self._rests_until_s = 0.0

    def rest_ms(self) -> int:
        """Return how long not to ask, milliseconds; 0 when a digest can be had now."""
        if self._last is not None and self._last[0] == self._applied_index():
            return 0
        left_s = self._rests_until_s - self._now_s()
        return max(1, round(left_s * 1000)) if left_s > 0 else 0

    def take(self) -> tuple[int, bytes]:
        """Return (applied index, digest): the last one while the node rests and nothing changed.

        Only where `rest_ms` is 0.
        """
        began_s = self._now_s()
        index = self._applied_index()
        if self._last is None or self._last[0] != index or began_s >= self._rests_until_s:
            self._last = (index, self._compute())
            ended_s = self._now_s()
            self._rests_until_s = ended_s + REST_FACTOR * (ended_s - began_s)
        return self._last
