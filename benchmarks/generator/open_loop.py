"""Requests at a fixed rate, each timed from the moment it was due."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import cast

from benchmarks.generator.channel import Channel
from benchmarks.generator.ledger import Ledger
from benchmarks.generator.order import Order
from benchmarks.generator.pulse import now_s
from benchmarks.generator.submits import NAME, QUEUE
from benchmarks.judging.schedule import Schedule
from tq.protocol import Type

Request = Callable[[Channel], int]


class OpenLoop:
    """Sends what is due, whether or not anything was answered.

    Args:
        channel: The connection.
        rate: Requests per second.
        ledger: Counts answers.
        request: Puts one request on the channel and returns its id.
    """

    def __init__(self, channel: Channel, *, rate: float, ledger: Ledger, request: Request) -> None:
        self._channel = channel
        self._ledger = ledger
        self._request = request
        self._due_s: dict[int, float] = {}
        self._schedule = Schedule(rate, began_s=now_s())
        channel.answered = self._answered

    def beat(self) -> None:
        """Send everything that is due by now."""
        for at_s in self._schedule.take_due(now_s()):
            self._due_s[self._request(self._channel)] = at_s
        self._channel.flush()

    def give_up(self) -> None:
        """Count what was not answered yet with the time it has waited so far."""
        now = now_s()
        self._ledger.latencies_s.extend(now - at_s for at_s in self._due_s.values())

    def _answered(self, answer_type: int, answer: list[object]) -> None:
        self._ledger.latencies_s.append(now_s() - self._due_s.pop(cast("int", answer[0])))
        if answer_type == Type.ACK:
            self._ledger.done += 1
        else:
            self._ledger.refuse(answer)


def submitting(order: Order, ids: Iterator[bytes]) -> Request:
    """Make requests that submit one task."""
    payload = os.urandom(order.payload_bytes)
    return lambda channel: channel.put(Type.SUBMIT_TASK, [next(ids), QUEUE, NAME, payload, {}])


def pinging(channel: Channel) -> int:
    """Ask for nothing, which any node answers at once: shows how long its loop stood still."""
    return channel.put(Type.HEARTBEAT, [0, []])
