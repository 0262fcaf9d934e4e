"""On any history the machine does what the naive queue does, restarts or not."""

from __future__ import annotations

import random
from typing import Any

import pytest

from statemachine import (
    Advance,
    BatchAccepted,
    ChangeSettings,
    CommandType,
    Expire,
    ExpireSessions,
    Granted,
    Outcome,
    Refused,
    Registered,
    Reply,
    Retire,
    decode_entry,
    encode_internal,
    join_entry,
)
from statemachine.checkpoint import Changes
from tests.model.naive import NaiveQueue
from tests.unit.statemachine.player import START_MS, Player, command, task_id

HISTORIES = 12
ENTRIES = 220

QUEUES = ("a", "b", "c")
NAMESPACES = ("default", "default", "default", "other")


class Author:
    """Writes commands that are likely to meet: few ids, few queues, tokens it has seen."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.sessions = [5]
        self.leases = [(task_id(0), 7)]
        self.ids = [task_id(n, at_ms=START_MS + rng.randrange(-9, 9) * 100) for n in range(60)]
        self.requests = 0

    def learn(self, reply: Reply) -> None:
        if isinstance(reply, Registered):
            self.sessions.append(reply.session)
        elif isinstance(reply, Granted):
            self.leases += [(grant.task_id, grant.token) for grant in reply.grants]

    def options(self) -> dict[str, int]:
        rng = self.rng
        choices = {
            "priority": (0, 100, 150, 255),
            "delay_ms": (0, 1, 40),
            "retry_max": (0, 1),
            "retry_base_ms": (1, 30),
            "lost_max": (0, 1),
            "lease_ms": (1000, 5000),
        }
        asked = [name for name in choices if rng.random() < 0.3]
        return {name: rng.choice(choices[name]) for name in asked}

    def new_task(self) -> list[Any]:
        rng = self.rng
        id_ = rng.choice(self.ids)
        # Derived from the id, so that most repeated submits have the same content.
        fixed = random.Random(id_)
        queue, options = fixed.choice(QUEUES), Author.options(_with(self, fixed))
        payload = fixed.choice([b"", b"short", b"long" * 1500])
        if rng.random() < 0.1:
            payload += b"!"
        return [id_, queue, "task", payload, options]

    def lease(self) -> tuple[bytes, int]:
        return self.rng.choice(self.leases[-12:])

    def spliced(self) -> bytes:
        rng = self.rng
        self.requests += 1
        request = self.requests if rng.random() < 0.8 else rng.randrange(1, self.requests + 1)
        namespace = rng.choice(NAMESPACES)

        def client(type_: CommandType, *fields: object) -> bytes:
            return command(type_, request, *fields, namespace=namespace)

        kind = CommandType
        id_, token = self.lease()
        session = rng.choice(self.sessions[-5:])
        worker = bytes([rng.randrange(4)]) * 16
        queues = rng.sample(QUEUES, rng.randrange(1, 4))
        result = rng.choice([b"", b"r", b"r" * 1500])
        writers: list[tuple[int, Any]] = [
            (12, lambda: client(kind.SUBMIT_TASK, *self.new_task())),
            (3, lambda: client(kind.SUBMIT_BATCH, [self.new_task() for _ in range(4)])),
            (10, lambda: client(kind.CLAIM_TASK, session, queues, rng.randrange(1, 5), 0)),
            (
                12,
                lambda: client(
                    kind.TASK_RESULT, id_, token, rng.choice((0, 0, 1, 1, 2)), result, "e"
                ),
            ),
            (3, lambda: client(kind.EXTEND, id_, token, 9000)),
            (3, lambda: client(kind.PROGRESS, id_, token, rng.randrange(1000), "n")),
            (5, lambda: client(kind.RELEASE, id_, token)),
            (3, lambda: client(kind.CANCEL_TASK, rng.choice(self.ids), "r")),
            (3, lambda: client(kind.REGISTER_WORKER, worker, "w", [], {})),
            (1, lambda: client(kind.DEREGISTER_WORKER, session)),
            (4, lambda: encode_internal(Expire((self.lease(), self.lease())))),
            (1, lambda: encode_internal(ExpireSessions((session,)))),
            (3, lambda: encode_internal(Retire(tuple(rng.sample(self.ids, 8))))),
            (2, lambda: encode_internal(Advance())),
            (1, lambda: encode_internal(ChangeSettings(self.settings()))),
            (1, lambda: b"\x01"),
        ]
        (write,) = rng.choices([w for _, w in writers], [weight for weight, _ in writers])
        spliced: bytes = write()
        return spliced

    def settings(self) -> tuple[tuple[str, int], ...]:
        choices = {
            "queue_depth_threshold": (2, 10),
            "retention_ms": (0, 300),
            "claim_max": (2, 10),
            "lease_ms": (2000, 3000),
            "idempotency_window_ms": (60_000,),
        }
        return tuple((name, self.rng.choice(values)) for name, values in sorted(choices.items()))


def _with(author: Author, rng: random.Random) -> Author:
    other = Author.__new__(Author)
    other.rng = rng
    other.ids = author.ids
    return other


def without_texts(reply: Reply) -> Reply:
    if isinstance(reply, BatchAccepted):
        return BatchAccepted([without_texts(one) for one in reply.replies])  # type: ignore[misc]
    return Refused(reply.code, "") if isinstance(reply, Refused) else reply


def compare(naive: NaiveQueue, player: Player, expected: Outcome, seen: Outcome) -> None:
    assert [without_texts(reply) for reply in expected.replies] == [
        without_texts(reply) for reply in seen.replies
    ]
    assert (expected.ready, expected.finished) == (seen.ready, seen.finished)
    assert expected.advance_due == seen.advance_due
    machine = player.machine
    told: Any = machine.statistics()
    kept = [task for task in naive.tasks if not task.retired]
    for state, count in told["states"].items():
        assert sum(task.state == state for task in kept) == count, state
    leases = sorted(
        (t.token, t.id, t.session, t.lease_ms) for t in kept if t.state == "in_progress"
    )
    assert leases == [(le.token, le.task_id, le.session, le.lease_ms) for le in machine.leases()]
    assert list(naive.sessions) == [session.session for session in machine.sessions()]
    due = [task.due for task in kept if task.state in ("scheduled", "failed")]
    assert min(due, default=None) == machine.next_due_at_ms()


def compare_tasks(naive: NaiveQueue, player: Player, author: Author) -> None:
    for id_ in author.ids:
        for namespace in ("default", "other"):
            task = naive.find(id_, namespace)
            seen = player.machine.status(namespace, id_)
            if task is None or seen is None:
                assert (task, seen) == (None, None)
                continue
            expected = {
                "state": task.state,
                "queue": task.kind.queue,
                "priority": task.kind.policy.priority,
                "attempt": task.attempt,
                "failures": task.failures,
                "lost": task.lost,
                "progress": task.permille,
                "finished_at_ms": task.finished_at or None,
                "due_at_ms": task.due if task.state in ("scheduled", "failed") else None,
            }
            assert expected == {name: seen[name] for name in expected}
            assert (task.result or b"") == (seen["result"] or b"")
            assert task.payload == player.machine.payload(id_)
    for namespace in ("default", "other"):
        for queue in QUEUES:
            assert naive.depth((namespace, queue)) == player.machine.depth(namespace, queue)


@pytest.mark.parametrize("history", range(HISTORIES))
def test_the_machine_does_what_the_naive_queue_does(seed: int, history: int) -> None:
    rng = random.Random(seed * HISTORIES + history)
    player, naive, author = Player(), NaiveQueue(), Author(rng)
    for number in range(ENTRIES):
        player.now_ms += rng.choice([-50, 0, 1, 5, 20, 100])
        if number == ENTRIES * 3 // 4:
            player.now_ms += 55_000  # some ids leave the idempotency window from here on
        entry = join_entry(player.now_ms, [author.spliced() for _ in range(rng.randrange(4))])
        now_ms, commands = decode_entry(entry)
        seen = player.apply_entry(entry, index=player.index + rng.randrange(1, 3))
        for reply in seen.replies:
            author.learn(reply)
        compare(naive, player, naive.apply(player.index, now_ms, commands), seen)
        if rng.random() < 0.05:
            player.checkpoint()
        if rng.random() < 0.05:
            player.restart(follower_only=rng.random() < 0.5)
        if rng.random() < 0.1:
            compare_tasks(naive, player, author)
    player.restart()
    compare_tasks(naive, player, author)


def test_a_replica_that_restarted_often_writes_the_same_records(
    rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With checkpoints where they fall due, and a follower restored at each of them."""
    monkeypatch.setattr(Changes, "due", lambda changes, _: changes.entries >= 10)
    player, author = Player(), Author(rng)
    for _ in range(400):
        player.now_ms += rng.choice([-50, 0, 1, 5, 20, 100])
        entry = join_entry(player.now_ms, [author.spliced() for _ in range(rng.randrange(4))])
        for reply in player.apply_entry(entry).replies:
            author.learn(reply)
        if player.index % 10 == 0:
            assert player.machine.digest_chain[0] == player.index
            player.follower.restart()
            assert player.leader.archive.records == player.follower.archive.records
            player.agree()
