"""Clients that submit, cancel, wait and ask; and the crowd of all clients and workers.

They are paced so that a cluster with a quorum answers about `Options.operations_per_s`, in
bursts of about `Options.burst`: what is sent at one instant travels in one segment and shares
an entry of the log, as group commit has it. They are what a checker wants clients to be:
unique contents, identifiers used twice on purpose, contents that contradict them, questions
about tasks of others.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from tests.simulation.callers import Caller
from tests.simulation.history import Operation
from tests.simulation.process import Action
from tests.simulation.workers import Worker
from tq.protocol import Code, Type

if TYPE_CHECKING:
    from tests.simulation.world import World

EPOCH_MS: Final = 1_700_000_000_000
"""Wall time at true time 0, of a clock that is right."""
QUEUES: Final = ("mail", "video", "audit")

_PATIENCE: Final = (1.5, 1.5, 3.0, 6.0)
_DISTANT_MS: Final = 20_000
_UNANSWERED_S: Final = 3.0
"""A request of a healed cluster has no answer if it has none after this."""
_PATIENT_S: Final = 30.0
"""Longer than any node may keep an answer to itself, see `EveryCallerAnswered`."""
_WITHIN: Final = (3.0, 8.0, 8.0, 20.0)
_OPTIONS: Final[tuple[dict[str, int], ...]] = (
    {},
    {},
    {"retry_base_ms": 100, "retry_cap_ms": 1500},
    {"retry_max": 0},
    {"retry_max": 1, "retry_base_ms": 50},
    {"priority": 0, "retry_base_ms": 100},
    {"priority": 200, "retry_base_ms": 100},
    {"priority": 255, "lost_max": 1, "retry_base_ms": 200},
    {"lost_max": 0, "retry_base_ms": 100, "retry_cap_ms": 500},
    {"delay_ms": 300, "retry_base_ms": 100},
    {"delay_ms": 2500, "priority": 200, "retry_base_ms": 100},
    {"lease_ms": 1000, "lost_max": 10, "retry_base_ms": 100},
    {"lease_ms": 2000, "timeout_ms": 5000, "retry_base_ms": 300},
)
"""Small bounds, so that a task meets its end within the time of a world."""

_OPEN_MAX: Final = 8
"""Operations of one client that may be open before it rests, beyond those of a burst."""
_KNOWN_MAX: Final = 60
_ID_VERSION: Final = 7 << 76
_ID_VARIANT: Final = 2 << 62
_RANDOM_LOW: Final = (1 << 62) - 1

Task = tuple[bytes, str, str, bytes, dict[str, int]]
"""Task id, queue, name, payload, options."""


class Client:
    """One client: a mixture of submits, duplicates, conflicts, cancels, reads and waits.

    Args:
        crowd: Whose tasks it knows.
        name: Its own.
        interval_s: Between two operations, on average.
        patience_s: How long an answer may take before it tries another node; drawn if 0.
        stale: It asks whatever node it is connected to, and only that.
    """

    def __init__(
        self,
        crowd: Crowd,
        name: str,
        *,
        interval_s: float,
        patience_s: float = 0.0,
        stale: bool = False,
    ) -> None:
        world = crowd.world
        self._crowd = crowd
        self._world = world
        self._rng = rng = world.rng(f"client {name}")
        self._interval_s = interval_s
        self._burst = 1 if stale else world.options.burst
        self._stale = stale
        self._patience_s = patience_s
        self.caller = Caller(
            world,
            name,
            patience_s=patience_s or rng.choice(_PATIENCE),
            anywhere=stale,
            faithful=patience_s > 0,
        )
        self._seen_index = 0
        self._own: deque[Task] = deque(maxlen=20)
        self._acts = (
            (0.46, self._submit),
            (0.53, self._batch),
            (0.59, self._duplicate),
            (0.62, self._conflict),
            (0.68, self._cancel),
            (0.72, self._wait),
            (1.0, self._read),
        )

    def start(self) -> None:
        """Connect and begin."""
        self.caller.start()
        self._crowd.after(self._rng.random() * self._interval_s, self._act)

    def _act(self) -> None:
        if self._crowd.is_closing:
            return
        rng, burst = self._rng, self._burst
        count = rng.randint(1, 2 * burst - 1)
        self._crowd.after(count * self._interval_s * (0.5 + rng.random()), self._act)
        for _ in range(min(count, _OPEN_MAX + burst - len(self.caller.calls))):
            self._act_once()

    def _act_once(self) -> None:
        if self._stale:
            self._read_stale()
            return
        drawn = self._rng.random()
        for share, act in self._acts:
            if drawn < share:
                act()
                return

    def _call(self, kind: str, type_: Type, what: tuple[Any, ...], wait_s: float = 0.0) -> None:
        within_s = self._rng.choice(_WITHIN) + self._patience_s + wait_s
        self.caller.call(kind, type_, what, self._done, within_s=within_s, wait_s=wait_s)

    def _new_task(self) -> Task:
        rng = self._rng
        number = (self._crowd.wall_ms() << 80) | _ID_VERSION | (rng.getrandbits(12) << 64)
        number |= _ID_VARIANT | (rng.getrandbits(62) & _RANDOM_LOW)
        task_id = number.to_bytes(16, "big")
        queue = QUEUES[0] if rng.random() < 0.6 else QUEUES[1 + (rng.random() < 0.3)]
        size = 8 if rng.random() < 0.95 else rng.randrange(2000)
        task = (task_id, queue, "work", task_id[-8:] + bytes(size), rng.choice(_OPTIONS))
        self._own.append(task)
        self._crowd.known.append(task_id)
        return task

    def _submit(self) -> None:
        self._call("submit", Type.SUBMIT_TASK, self._new_task())

    def _batch(self) -> None:
        tasks = [self._new_task() for _ in range(self._rng.randint(1, 4))]
        if self._rng.random() < 0.2:
            tasks.append(tasks[0])
        self._call("batch", Type.SUBMIT_BATCH, (tuple(tasks),))

    def _duplicate(self) -> None:
        task = self._rng.choice(self._own) if self._own else self._new_task()
        self._call("submit", Type.SUBMIT_TASK, task)

    def _conflict(self) -> None:
        if self._own:
            task_id, queue, name, payload, options = self._rng.choice(self._own)
            self._call("submit", Type.SUBMIT_TASK, (task_id, queue, name, payload + b"!", options))

    def _some_id(self) -> bytes | None:
        known = self._crowd.known
        return known[self._rng.randrange(len(known))] if known else None

    def _cancel(self) -> None:
        task_id = self._some_id()
        if task_id is not None:
            self._call("cancel", Type.CANCEL_TASK, (task_id, "no longer wanted"))

    def _wait(self) -> None:
        task_id = self._some_id()
        if task_id is not None:
            wait_ms = self._rng.choice((0, 500, 3000))
            self._call("wait", Type.WAIT_RESULT, (task_id, wait_ms), wait_s=wait_ms / 1000)

    def _read(self) -> None:
        task_id = self._some_id()
        if task_id is not None:
            self._call("read", Type.QUERY_STATUS, (task_id,))

    def _read_stale(self) -> None:
        task_id = self._some_id()
        if task_id is not None:
            options: dict[str, Any] = {"consistency": "stale"}
            if self._rng.random() < 0.5:
                options["at_least"] = self._seen_index
            self._call("stale", Type.QUERY_STATUS, (task_id, options))

    def _done(self, operation: Operation) -> None:
        if operation.kind == "submit" and operation.sends > 1 and operation.outcome == "ok":
            self._world.reached("submit repeated until it was answered")
        elif operation.code == Code.QUEUE_FULL:
            self._world.reached("QUEUE_FULL")
        elif operation.kind == "stale" and operation.outcome == "ok":
            self._seen_index = max(self._seen_index, operation.answer[1])
            self._world.reached("stale read answered")


class Crowd:
    """Everybody who uses the cluster.

    Attributes:
        world: Where.
        known: Ids of the latest tasks anybody has made.
        is_calm: The faults are over: workers behave.
        is_closing: Nobody submits any more; what there is is brought to its end.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.known: deque[bytes] = deque(maxlen=_KNOWN_MAX)
        self.is_calm = False
        self.is_closing = False
        options = world.options
        self._beat_s = options.beat_s
        # Of all operations less than half are the clients' own, the others are the workers'.
        interval_s = options.clients / (0.45 * options.operations_per_s)
        self.clients = [
            Client(self, f"client-{number}", interval_s=interval_s)
            for number in range(options.clients)
        ]
        self.clients.append(Client(self, "client-stale", interval_s=1.0, stale=True))
        self.clients.append(Client(self, "client-patient", interval_s=1.0, patience_s=_PATIENT_S))
        self.workers = [Worker(world, self, number, QUEUES) for number in range(options.workers)]
        self._closing = Caller(world, "closing", patience_s=3.0)
        self._last_reads: list[bytes] | None = None

    def start(self) -> None:
        """Let everybody begin."""
        for client in self.clients:
            client.start()
        for worker in self.workers:
            worker.start()

    def stop_chaos(self) -> None:
        """The faults are over: workers crash and dawdle no more."""
        self.is_calm = True

    def finish(self) -> None:
        """Submit no more and work everything off; `is_drained` tells when that is done."""
        self.stop_chaos()
        self.is_closing = True
        self._closing.start()

    def after(self, seconds: float, action: Action, *arguments: object) -> None:
        """Run after so many seconds, on the beat of the world if it has one."""
        now, beat_s = self.world.now, self._beat_s
        at = now + seconds
        if beat_s and not self.is_calm:
            at = round(at / beat_s) * beat_s
            if at <= now:
                at += beat_s
        self.world.at(at, action, *arguments)

    @property
    def is_drained(self) -> bool:
        """Every accepted task has ended, every question is answered, the last reads included."""
        if not self.is_closing or self._open_calls():
            return False
        if self._live():
            self._cancel_distant()
            return False
        if self._last_reads is None:
            self._read_all()
        return not self._closing.calls

    def _cancel_distant(self) -> None:
        """Do not wait for tasks that wait for a clock which was wrong once, see T3."""
        late_ms = self.wall_ms() + _DISTANT_MS
        for story in self.world.history.ledger.live.values():
            if story.due_ms > late_ms and not self._closing.calls:
                what = (story.task_id, "the world ends first")
                self._closing.call(
                    "cancel", Type.CANCEL_TASK, what, lambda _operation: None, within_s=10.0
                )

    def _live(self) -> bool:
        return bool(self.world.history.ledger.live)

    def _open_calls(self) -> bool:
        return any(client.caller.calls for client in self.clients)

    def _read_all(self) -> None:
        """Look once at what the latest tasks have come to."""
        self._last_reads = list(self.known)
        for task_id in self._last_reads:
            self._closing.call(
                "read", Type.QUERY_STATUS, (task_id,), lambda _operation: None, within_s=20.0
            )

    def wall_ms(self) -> int:
        """The wall clock of the clients, which is right."""
        return int(self.world.now * 1000) + EPOCH_MS

    @property
    def callers(self) -> list[Caller]:
        """Everybody's connection."""
        everybody = [client.caller for client in self.clients]
        everybody += [worker.caller for worker in self.workers]
        return [*everybody, self._closing]

    def unanswered(self) -> list[str]:
        """Requests on connections that live, sent long ago and never answered."""
        now = self.world.now
        late: list[str] = []
        for caller in self.callers:
            line = caller.line
            for number in () if line is None else line.late(now, _UNANSWERED_S):
                call = caller.calls.get(number)
                what = f"request {number}" if call is None else call.operation.describe()
                late.append(f"{caller.name}: {what}")
        return late
