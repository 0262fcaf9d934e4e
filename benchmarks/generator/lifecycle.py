"""Submit, claim and acknowledge: a producer and a worker, a connection each, all confirmed."""

from __future__ import annotations

import os
from typing import cast

from benchmarks.generator.channel import Channel
from benchmarks.generator.ledger import Ledger
from benchmarks.generator.order import Order
from benchmarks.generator.pulse import now_s
from benchmarks.generator.submits import QUEUE, Submitter
from tq.protocol import ResultOutcome, Type

BACKLOG_MAX = 4096
"""The producer waits when so many tasks are submitted and not acknowledged: it is the faster."""
_WAIT_MS = 1000
_RESULT = b"ok"


class Claimer:
    """Keeps claims outstanding, and acknowledges each task in a frame of its own.

    Args:
        channel: The worker's connection.
        order: How many claims, and of how many tasks.
        ledger: Counts completed tasks; its latencies are those of acknowledgements.
        producer: Is let go on as tasks complete; None if everything is submitted already.
    """

    def __init__(
        self, channel: Channel, order: Order, *, ledger: Ledger, producer: Submitter | None
    ) -> None:
        self._channel = channel
        self._order = order
        self._ledger = ledger
        self._producer = producer
        self._session: object = None
        self._claims: set[int] = set()
        self._acks: dict[int, float] = {}
        self._completed = 0
        self._unsubmitted = order.tasks or 2**62

    async def start(self) -> None:
        """Register, claim, and let the producer begin."""
        answer = await self._channel.ask(
            Type.REGISTER_WORKER, [os.urandom(16), "benchmark", [QUEUE], {}]
        )
        self._session = answer[1]
        self._channel.answered = self._answered
        self._channel.drained = self._drained
        for _ in range(self._order.claims):
            self._claim()
        self._channel.flush()
        self._allow(BACKLOG_MAX)

    def heartbeat(self) -> None:
        """Renew the leases; the answer is one of those that are not looked at."""
        if self._session is not None:
            self._channel.put(Type.HEARTBEAT, [self._session, []])
            self._channel.flush()

    def _allow(self, count: int) -> None:
        if self._producer is not None:
            count = min(count, self._unsubmitted)
            self._unsubmitted -= count
            self._producer.room += count
            self._producer.fill()

    def _claim(self) -> None:
        fields = [self._session, [QUEUE], self._order.claim_tasks, _WAIT_MS]
        self._claims.add(self._channel.put(Type.CLAIM_TASK, fields))

    def _answered(self, answer_type: int, answer: list[object]) -> None:
        request_id = cast("int", answer[0])
        if answer_type != Type.ACK:
            self._ledger.refuse(answer)
        if request_id in self._claims:
            self._claims.discard(request_id)
            if answer_type == Type.ACK:
                self._work(cast("list[list[object]]", answer[1]))
                self._claim()
        elif (sent_s := self._acks.pop(request_id, None)) is not None:
            self._ledger.latencies_s.append(now_s() - sent_s)
            if answer_type == Type.ACK:
                self._ledger.done += 1
                self._completed += 1

    def _work(self, grants: list[list[object]]) -> None:
        put, acks, now = self._channel.put, self._acks, now_s()
        for task_id, token, *_ in grants:
            acks[put(Type.TASK_RESULT, [task_id, token, ResultOutcome.SUCCESS, _RESULT, ""])] = now

    def _drained(self) -> None:
        self._channel.flush()
        if self._completed:
            self._allow(self._completed)
            self._completed = 0
