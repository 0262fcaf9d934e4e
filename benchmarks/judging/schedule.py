"""An open loop: when each request was due, whatever became of those before it.

A closed loop that measures from the moment it sends leaves out the wait of all the requests it
would have sent while the system stood still (coordinated omission). Here a request's time
begins when it was due, also if the generator itself came late.
"""

from __future__ import annotations


class Schedule:
    """Requests at a fixed rate.

    Args:
        rate: Per second.
        began_s: When the first one is due.
    """

    def __init__(self, rate: float, *, began_s: float) -> None:
        if rate <= 0:
            raise ValueError(f"a rate of {rate} per second sends nothing")
        self._rate = rate
        self._began_s = began_s
        self.issued = 0

    def due_s(self, number: int) -> float:
        """Return when request `number` (from 0) is due."""
        return self._began_s + number / self._rate

    def take_due(self, now_s: float) -> list[float]:
        """Return when each request was due that is due by now and was not taken before."""
        due: list[float] = []
        while (at_s := self.due_s(self.issued)) <= now_s:
            due.append(at_s)
            self.issued += 1
        return due
