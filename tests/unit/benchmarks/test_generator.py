"""The load generator counts what was acknowledged, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import pytest

from benchmarks.generator import ledger as ledger_module
from benchmarks.generator import lifecycle, open_loop, submits
from benchmarks.generator.channel import Channel
from benchmarks.generator.ledger import Ledger
from benchmarks.generator.lifecycle import Claimer
from benchmarks.generator.open_loop import OpenLoop, pinging
from benchmarks.generator.order import Order
from benchmarks.generator.submits import Submitter, task_ids
from tq.protocol import Type


class FakeChannel:
    """Keeps what was put, and lets a test answer."""

    def __init__(self) -> None:
        self.answered: Callable[[int, list[object]], None] = lambda _type, _answer: None
        self.drained: Callable[[], None] = lambda: None
        self.requests: list[tuple[Type, Sequence[object]]] = []
        self.flushed = 0

    def put(self, message_type: Type, fields: Sequence[object]) -> int:
        self.requests.append((message_type, fields))
        return len(self.requests)

    def flush(self) -> None:
        self.flushed = len(self.requests)

    async def ask(self, message_type: Type, fields: Sequence[object]) -> list[object]:
        return [self.put(message_type, fields), 77, 30_000]


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (ledger_module, lifecycle, open_loop, submits):
        monkeypatch.setattr(module, "now_s", clock)
    return clock


def started(clock: Clock) -> Ledger:
    del clock
    ledger = Ledger(())
    ledger.begin()
    return ledger


def submitter(
    fake: FakeChannel, ledger: Ledger, *, window: int, batch: int = 0, tasks: int = 0
) -> Submitter:
    order = Order("submits", ("nowhere:1",), window=window, batch=batch, tasks=tasks)
    return Submitter(cast("Channel", fake), order, ledger=ledger, ids=task_ids())


def test_task_ids_are_of_version_7_and_never_the_same() -> None:
    ids = task_ids()
    made = [next(ids) for _ in range(1000)]
    assert len(set(made)) == 1000
    assert {(len(one), one[6] >> 4, one[8] >> 6) for one in made} == {(16, 7, 2)}


def test_the_window_stays_full(clock: Clock) -> None:
    fake = FakeChannel()
    submitter(fake, started(clock), window=4).fill()
    assert fake.flushed == 4
    fake.answered(Type.ACK, [1, 9])
    fake.answered(Type.ACK, [3, 9])
    fake.drained()
    assert fake.flushed == 6


def test_a_refused_submit_is_not_counted_as_done(clock: Clock) -> None:
    fake, ledger = FakeChannel(), started(clock)
    submitter(fake, ledger, window=2).fill()
    fake.answered(Type.NACK, [1, "QUEUE_FULL", "no room", 100])
    clock.now_s += 1
    fake.answered(Type.ACK, [2, 9])
    ledger.end()
    seen = ledger.seen()
    assert seen.done == 1
    assert seen.refused == {"QUEUE_FULL no room": 1}


def test_a_batch_counts_task_by_task(clock: Clock) -> None:
    fake, ledger = FakeChannel(), started(clock)
    submitter(fake, ledger, window=1, batch=3).fill()
    assert fake.requests[0][0] is Type.SUBMIT_BATCH
    fake.answered(Type.ACK, [1, [[0, 5], ["QUEUE_FULL", "no room", 100], [0, 5]]])
    assert ledger.done == 2
    assert ledger.refused == {"QUEUE_FULL no room": 1}


def test_no_more_is_submitted_than_asked_for(clock: Clock) -> None:
    fake, ledger = FakeChannel(), started(clock)
    one = submitter(fake, ledger, window=8, tasks=3)
    one.fill()
    assert fake.flushed == 3
    for request_id in (1, 2, 3):
        fake.answered(Type.ACK, [request_id, 9])
    fake.drained()
    assert fake.flushed == 3
    assert one.idle


def test_only_the_measured_part_counts_and_its_latencies(clock: Clock) -> None:
    fake, ledger = FakeChannel(), Ledger(())
    submitter(fake, ledger, window=1).fill()
    clock.now_s += 5
    fake.answered(Type.ACK, [1, 9])
    ledger.begin()
    fake.drained()
    clock.now_s += 0.25
    fake.answered(Type.ACK, [2, 9])
    ledger.end()
    fake.drained()
    fake.answered(Type.ACK, [3, 9])
    seen = ledger.seen()
    assert (seen.done, seen.seconds, seen.done_in_all) == (1, 0.25, 3)
    assert seen.latency_ms["max"] == 250


def test_an_open_loop_sends_without_waiting_and_times_from_when_it_was_due(clock: Clock) -> None:
    fake, ledger = FakeChannel(), started(clock)
    loop = OpenLoop(cast("Channel", fake), rate=10, ledger=ledger, request=pinging)
    clock.now_s += 0.95  # the generator itself comes late
    loop.beat()
    assert fake.flushed == 10
    fake.answered(Type.ACK, [1, []])
    fake.answered(Type.ACK, [10, []])
    assert ledger.latencies_s == pytest.approx([0.95, 0.05])


def test_what_was_never_answered_counts_with_the_time_it_has_waited(clock: Clock) -> None:
    fake, ledger = FakeChannel(), started(clock)
    loop = OpenLoop(cast("Channel", fake), rate=1, ledger=ledger, request=pinging)
    loop.beat()
    clock.now_s += 7.5
    loop.give_up()
    assert ledger.latencies_s == pytest.approx([7.5])


async def test_a_worker_acks_each_task_by_itself_and_claims_again(clock: Clock) -> None:
    fake, ledger = FakeChannel(), started(clock)
    order = Order("lifecycle", ("nowhere:1",), claims=2)
    claimer = Claimer(cast("Channel", fake), order, ledger=ledger, producer=None)
    await claimer.start()
    assert [kind for kind, _ in fake.requests[1:]] == [Type.CLAIM_TASK] * 2
    fake.answered(Type.ACK, [2, [[b"a", 1, "bench"], [b"b", 2, "bench"]]])
    fake.drained()
    sent = [kind for kind, _ in fake.requests[3:]]
    assert sent == [Type.TASK_RESULT, Type.TASK_RESULT, Type.CLAIM_TASK]
    assert ledger.done == 0, "claimed is not done"
    fake.answered(Type.ACK, [4, "completed"])
    fake.answered(Type.NACK, [5, "LEASE_LOST", "", None])
    assert ledger.done == 1
    assert ledger.refused == {"LEASE_LOST ": 1}


async def test_the_producer_waits_for_a_worker_that_is_slower(clock: Clock) -> None:
    fake, ledger = FakeChannel(), started(clock)
    producing = FakeChannel()
    producer = submitter(producing, Ledger(()), window=10_000)
    producer.room = 0
    order = Order("lifecycle", ("nowhere:1",), claims=1)
    await Claimer(cast("Channel", fake), order, ledger=ledger, producer=producer).start()
    assert producing.flushed == lifecycle.BACKLOG_MAX
    fake.answered(Type.ACK, [2, [[b"a", 1]]])
    fake.answered(Type.ACK, [3, "completed"])
    fake.drained()
    assert producing.flushed == lifecycle.BACKLOG_MAX + 1
