"""Submits in a closed loop: each answer lets the next request go."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from typing import cast

from benchmarks.generator.channel import Channel
from benchmarks.generator.ledger import Ledger
from benchmarks.generator.order import Order
from benchmarks.generator.pulse import now_s
from tq.protocol import Type

QUEUE = "bench"
NAME = "noop"
_RAND_A = b"\x70\x00"
_VARIANT = b"\x80"


def task_ids() -> Iterator[bytes]:
    """Make ids of version 7, cheaply: the time of the start, this run's mark, and a number."""
    start = int(time.time() * 1000).to_bytes(6, "big") + _RAND_A + _VARIANT + os.urandom(2)
    return (start + number.to_bytes(5, "big") for number in itertools.count())


class Submitter:
    """Keeps requests in flight on one connection.

    Args:
        channel: The connection.
        order: Window, batch and payload.
        ledger: Counts tasks.
        ids: Shared by all connections.
    """

    def __init__(
        self, channel: Channel, order: Order, *, ledger: Ledger, ids: Iterator[bytes]
    ) -> None:
        self._channel = channel
        self._ledger = ledger
        self._ids = ids
        self._window = order.window
        self._batch = order.batch
        self._payload = os.urandom(order.payload_bytes)
        self._sent_s: dict[int, float] = {}
        self.room = order.tasks or 2**62
        """How many tasks may still be submitted; raised by who wants more."""
        channel.answered = self._answered
        channel.drained = self.fill

    @property
    def idle(self) -> bool:
        """Whether nothing is in flight."""
        return not self._sent_s

    def fill(self) -> None:
        """Send up to the window."""
        sent_s, channel = self._sent_s, self._channel
        now = now_s()
        while len(sent_s) < self._window and self.room > 0:
            sent_s[self._send()] = now
        channel.flush()

    def _send(self) -> int:
        channel, ids, payload = self._channel, self._ids, self._payload
        if not self._batch:
            self.room -= 1
            return channel.put(Type.SUBMIT_TASK, [next(ids), QUEUE, NAME, payload, {}])
        self.room -= self._batch
        tasks = [[next(ids), QUEUE, NAME, payload, {}] for _ in range(self._batch)]
        return channel.put(Type.SUBMIT_BATCH, [tasks])

    def _answered(self, answer_type: int, answer: list[object]) -> None:
        ledger = self._ledger
        ledger.latencies_s.append(now_s() - self._sent_s.pop(cast("int", answer[0])))
        if answer_type != Type.ACK:
            ledger.refuse(answer)
        elif self._batch:
            self._count_batch(answer[1])
        else:
            ledger.done += 1

    def _count_batch(self, outcomes: object) -> None:
        assert isinstance(outcomes, list)
        for outcome in outcomes:
            if outcome[0] == 0:
                self._ledger.done += 1
            else:
                self._ledger.refuse([None, *outcome])
