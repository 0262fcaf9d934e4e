"""What is synced when, and what may be said then, without any disk or clock."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.messages import Message
from cluster.sync_queue import MARK_INTERVAL_S, SyncQueue
from cluster.watermark import HighWater


class Desk:
    """Both sides of a queue, and everything that was said and asked for, in order."""

    def __init__(self) -> None:
        self.now = 0.0
        self.written = 0
        self.seen: list[tuple[Any, ...]] = []
        self.refuses = ""
        self.queue = SyncQueue(self, self, 0)

    def write(self, *, to: int | None = None) -> None:
        """Write a batch, perhaps with a message that speaks of it, and ask for a sync."""
        self.written += 1
        if to is not None:
            self.queue.hold(self.written, to, 1, message(self.written))
        self.queue.want(self.written)

    def took(self) -> list[tuple[Any, ...]]:
        """What happened since the last call."""
        seen, self.seen = self.seen, []
        return seen

    def synced(self, sequence: int) -> list[tuple[Any, ...]]:
        self.queue.synced(sequence)
        return self.took()

    def refuse(self, what: str) -> None:
        if what == self.refuses:
            raise RuntimeError(f"no {what}")

    def capture_mark(self) -> HighWater:
        self.refuse("mark")
        return HighWater(1, self.written)

    def release(self, peer: int, epoch: int, message: Message) -> None:
        self.seen.append(("release", peer, message))

    def durable(self, sequence: int) -> None:
        self.seen.append(("durable", sequence))

    def disk_failed(self, text: str) -> None:
        self.seen.append(("failed", text))

    def time(self) -> float:
        return self.now

    def begin_soon(self) -> None:
        self.seen.append(("soon",))

    def sync(self, mark: HighWater) -> None:
        self.refuse("sync")
        self.seen.append(("sync", mark.sequence))

    def store(self, mark: HighWater) -> None:
        self.refuse("store")
        self.seen.append(("store", mark.sequence))


def message(number: int) -> Message:
    held: Any = f"message {number}"
    return held  # type: ignore[no-any-return]  # a queue does not look into it


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_sync_begins_one_callback_later_and_covers_what_was_written_by_then(desk: Desk) -> None:
    desk.write()
    desk.write()
    assert desk.took() == [("soon",)]
    desk.queue.begin()
    assert desk.took() == [("sync", 2)]
    desk.queue.begin()
    assert desk.took() == [], "one at a time"


def test_messages_leave_in_order_once_what_they_speak_of_is_durable(desk: Desk) -> None:
    for peer in (2, 3, 2):
        desk.write(to=peer)
    desk.queue.begin()
    desk.took()
    assert desk.synced(2) == [
        ("release", 2, "message 1"),
        ("release", 3, "message 2"),
        ("durable", 2),
        ("soon",),
    ]
    desk.queue.begin()
    desk.took()
    assert desk.synced(3) == [("release", 2, "message 3"), ("durable", 3)]


def test_nothing_is_begun_for_what_is_durable_already(desk: Desk) -> None:
    desk.write()
    desk.queue.begin()
    desk.write()
    desk.took()
    assert desk.synced(2) == [("durable", 2)]
    desk.queue.want(1)
    desk.queue.begin()
    assert desk.took() == [("soon",)]


def test_a_mark_is_stored_with_the_first_sync_that_begins_when_it_is_due(desk: Desk) -> None:
    for due in (False, True):
        desk.write()
        desk.now += 0.6 * MARK_INTERVAL_S
        desk.queue.begin()
        desk.write()
        desk.took()
        found = desk.synced(desk.written)
        assert (("store", 3) in found) is due, "what the sync surely covered, not more"
    desk.now += MARK_INTERVAL_S
    desk.write()
    desk.queue.begin()
    assert ("store", 5) not in desk.synced(5), "one at a time"
    desk.queue.stored(HighWater(1, 3))


def test_a_mark_is_stored_by_a_poll_when_nothing_more_is_written(desk: Desk) -> None:
    def polled() -> list[tuple[Any, ...]]:
        desk.took()
        desk.queue.poll()
        return desk.took()

    desk.write()
    desk.now = MARK_INTERVAL_S
    assert polled() == [], "it is not durable yet"
    desk.now = 0.0
    desk.queue.begin()
    desk.queue.synced(1)
    assert polled() == [], "it is not due"
    desk.now = MARK_INTERVAL_S
    assert polled() == [("store", 1)]
    assert polled() == [], "one at a time"
    desk.queue.stored(HighWater(1, 1))
    desk.now *= 5
    assert polled() == [], "the mark says it already"


@pytest.mark.parametrize("what", ["mark", "sync"])
def test_a_sync_that_cannot_begin_is_a_failed_one(desk: Desk, what: str) -> None:
    desk.write(to=2)
    desk.took()
    desk.refuses = what
    desk.queue.begin()
    [(told, text)] = desk.took()
    assert (told, f"no {what}" in text) == ("failed", True)
    assert not desk.queue.end(), "it has ended"


@pytest.mark.parametrize("what", ["mark", "store"])
def test_a_mark_that_cannot_be_stored_when_nothing_is_written_is_a_failure(
    desk: Desk, what: str
) -> None:
    desk.write()
    desk.queue.begin()
    desk.synced(1)
    desk.now = MARK_INTERVAL_S
    desk.refuses = what
    desk.queue.poll()
    [(told, text)] = desk.took()
    assert (told, f"no {what}" in text) == ("failed", True)
    desk.queue.poll()
    assert desk.took() == [], "it has ended"


def test_a_mark_that_cannot_be_stored_with_a_sync_is_a_failure(desk: Desk) -> None:
    desk.write(to=2)
    desk.now = MARK_INTERVAL_S
    desk.queue.begin()
    desk.took()
    desk.refuses = "store"
    *before, (told, text) = desk.synced(1)
    assert before == [("release", 2, "message 1"), ("durable", 1)]
    assert (told, "no store" in text) == ("failed", True)


@pytest.mark.parametrize("by", ["end", "failure"])
def test_after_the_end_nothing_is_begun_and_nothing_released(desk: Desk, by: str) -> None:
    desk.write(to=2)
    desk.queue.begin()
    desk.write(to=3)
    desk.took()
    if by == "end":
        assert desk.queue.end()
    else:
        desk.queue.failed("no disk")
        assert desk.took() == [("failed", "no disk")]
    assert not desk.queue.end()
    desk.now = 5 * MARK_INTERVAL_S
    assert desk.synced(2) == []
    desk.write()
    desk.queue.begin()
    desk.queue.poll()
    assert desk.took() == []


def test_after_a_reset_everything_counts_as_durable_and_marked(desk: Desk) -> None:
    desk.queue.reset(7)
    desk.now = 5 * MARK_INTERVAL_S
    desk.queue.poll()
    desk.queue.want(7)
    desk.queue.begin()
    assert desk.took() == [("soon",)]
