"""Legal histories: clients of the reference queue, behind a network that loses and repeats.

Calls overlap, answers are lost, requests arrive late, twice or never, leaders change, workers
freeze, die and come back. Everything is drawn from a seed. Every history made here keeps every
promise, so no checker may complain of it.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from random import Random
from typing import Any

from chaos.evidence import Evidence, Export, Fault, Sample
from chaos.history import Operation
from chaos.stories import FINAL
from tests.unit.chaos.legal_worker import Worker
from tests.unit.chaos.reference_queue import Answer, ReferenceQueue

MS = 1_000_000
ORIGIN_NS = 5_000_000_000
NODES = (1, 2, 3)
LEASE_MS = 120
PATIENCE_MS = 80


class LegalWorld:
    """One run of clients against one reference queue.

    Args:
        seed: Decides everything.
        tasks: How many are submitted.
        play_ms: How long things go wrong.
        trouble: How likely it is that a call goes wrong, 0 to 1.
    """

    def __init__(
        self, seed: int, *, tasks: int = 5, play_ms: int = 250, trouble: float = 0.15
    ) -> None:
        self.rng = rng = Random(seed)
        self.queue = ReferenceQueue(rng, lease_ms=LEASE_MS)
        self.queue.depth_max = rng.choice([3, 1_000, 1_000])
        self.play_ms = play_ms
        self.trouble = trouble if rng.random() < 0.8 else 0.0
        self.history: list[Operation] = []
        self.faults: list[Fault] = []
        self.samples: list[Sample] = []
        self.now = ORIGIN_NS
        self.ids = [f"{seed:08x}{number:024x}" for number in range(tasks)]
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._away_until = 0
        self._under_way = 0
        self._term = 1
        self._asked = 0

    # -- time

    def after(self, wait_ms: float, act: Callable[[], None]) -> None:
        at = self.now + int(wait_ms * MS) + 1
        heapq.heappush(self._heap, (at, next(self._order), act))

    def run(self) -> Evidence:
        self.queue.now = self.now
        for number in range(2):
            self.after(0, Producer(self, f"p{number}", self.ids[number::2]).go)
        rng = self.rng
        workers = [Worker(self, f"w{number}") for number in range(rng.randint(1, 2))]
        for worker in workers:
            self.after(0, worker.enter)
        self.after(5, Reader(self, "r0").go)
        self.after(10, self._sweep)
        for _ in range(self.rng.randint(0, 2)):
            self.after(self.rng.uniform(0, self.play_ms), self._change_leader)
        while self._asked < len(self.ids):
            self.now, _, act = heapq.heappop(self._heap)
            self.queue.now = self.now
            act()
        return self._evidence()

    @property
    def healed(self) -> bool:
        return self.now > ORIGIN_NS + self.play_ms * MS

    def _sweep(self) -> None:
        """What a leader does by itself; and a look at the nodes."""
        if self.now >= self._away_until:
            self.queue.expire()
        leads = self.now >= self._away_until
        for node in NODES:
            role = ("leader" if node == 1 else "follower") if leads else "candidate"
            leader, ready = (1, self.queue.ready()) if leads else (None, {})
            told = (role, self._term, leader, self.queue.index, self.queue.index)
            digest = (f"d{self.queue.index}", self.queue.index)
            self.samples.append(Sample(self.now, node, True, *told, ready, False, *digest))
        if self.healed and not self.queue.live() and not self._under_way:
            for task in self.ids:
                asked = {"consistency": "linearizable"}
                self.call(FINAL, "get", task, asked, self._getter(task), self._was_asked)
        else:
            assert self.now < ORIGIN_NS + 60_000 * MS, "the reference queue came to no end"
            self.after(self.rng.uniform(15, 40), self._sweep)

    def _getter(self, task: str) -> Callable[[], Answer]:
        return lambda: self.queue.get(task)

    def _was_asked(self, outcome: str, value: Any) -> None:
        self._asked += 1

    def _change_leader(self) -> None:
        gap_ms = self.rng.uniform(10, 60)
        begins = self.now
        self._away_until = max(self._away_until, begins + int(gap_ms * MS))
        self.faults.append(Fault(begins, self._away_until, "kill leader", (1,), "", "legal"))

        def lead() -> None:
            self._term += 1
            self.queue.fail_over()

        self.after(gap_ms, lead)

    # -- calls

    def call(
        self,
        who: str,
        kind: str,
        task: str,
        asked: dict[str, Any],
        act: Callable[[], Answer],
        then: Callable[[str, Any], None] = lambda outcome, value: None,
    ) -> None:
        """Let a client call; `then` hears the outcome once the caller has it or gives up."""
        operation = Operation(len(self.history) + 1, who, kind, task, asked, self.now)
        self.history.append(operation)
        fate, rng = ("fine" if self.healed or who == FINAL else self._fate()), self.rng
        wait_ms = rng.uniform(0.1, 8)

        def hear(answer: Answer) -> None:
            self._answer(operation, answer, then)

        if fate == "fine":
            self.send(wait_ms, act, hear)
            return
        if fate == "twice":
            # The first answer is lost on its way.
            self.send(wait_ms, act, lambda _: self.send(rng.uniform(0.1, 40), act, hear))
            return
        if fate == "no answer":
            self.send(wait_ms, act)
        elif fate == "late":
            self.send(rng.uniform(20, 250), act)
        self._give_up(operation, then)

    def _fate(self) -> str:
        if self.rng.random() >= self.trouble:
            return "fine"
        return self.rng.choice(["twice", "no answer", "late", "never arrives"])

    def send(
        self,
        wait_ms: float,
        act: Callable[[], Answer],
        heard: Callable[[Answer], None] = lambda answer: None,
    ) -> None:
        """Let a request take effect after a while; while nobody leads it waits."""
        self._under_way += 1

        def arrive() -> None:
            if self.now < self._away_until:
                self.after((self._away_until - self.now) / MS + self.rng.uniform(0, 5), arrive)
                return
            answer = act()
            if answer[0] == "wait":
                self.after(self.rng.uniform(8, 20), arrive)
                return
            self._under_way -= 1
            self.after(self.rng.uniform(0.1, 8), lambda: heard(answer))

        self.after(wait_ms, arrive)

    def _answer(
        self, operation: Operation, answer: Answer, then: Callable[[str, Any], None]
    ) -> None:
        outcome, value = answer
        assert outcome in {"ok", "fail"}
        operation.to = self.now
        operation.outcome = "ok" if outcome == "ok" else "fail"
        operation.value = value
        then(outcome, value)

    def _give_up(self, operation: Operation, then: Callable[[str, Any], None]) -> None:
        def end() -> None:
            if self.rng.random() < 0.8:
                operation.to = self.now
            then("unknown", None)

        self.after(PATIENCE_MS, end)

    def _evidence(self) -> Evidence:
        state = {
            task.task: {"task": task.task, "state": task.state, **task.status()}
            for task in self.queue.tasks.values()
        }
        log = {index: (1, index * 7) for index in range(1, self.queue.index + 1)}
        index = self.queue.index
        exports = [Export(node, index, "d", index, dict(state), dict(log)) for node in NODES]
        settings = {
            "nodes": len(NODES),
            "lease_ms": LEASE_MS,
            "retry_max": self.queue.retry_max,
            "lost_max": self.queue.lost_max,
            "settle_ms": 20,
            "restart_ms": 60,
            "gap_max_ms": 5_000,
            "queue_max": self.queue.depth_max,
        }
        return Evidence(self.history, self.faults, self.samples, exports, settings, ORIGIN_NS)


class Producer:
    """Submits its tasks, some of them again, some of them together, and cancels a few."""

    def __init__(self, world: LegalWorld, who: str, ids: list[str]) -> None:
        self.world = world
        self.who = who
        self.todo = list(ids)
        self.done: dict[str, dict[str, Any]] = {}

    def go(self) -> None:
        rng, world = self.world.rng, self.world
        if world.healed:
            return
        draw = rng.random()
        if self.done and draw < 0.15:
            task = rng.choice(list(self.done))
            asked = dict(self.done[task])
            if rng.random() < 0.3:
                asked["payload"] += 1
            self._submit(task, asked)
        elif self.done and draw < 0.25:
            task = rng.choice(list(self.done))
            world.call(self.who, "cancel", task, {}, lambda: world.queue.cancel(task), self._next)
        elif len(self.todo) > 2 and draw < 0.4:
            self._submit_many([self.todo.pop(0) for _ in range(2)])
        elif self.todo:
            self._submit(self.todo.pop(0), self._draw())
        else:
            self._next()

    def _next(self, outcome: str = "", value: Any = None) -> None:
        self.world.after(self.world.rng.uniform(1, 25), self.go)

    def _draw(self) -> dict[str, Any]:
        rng = self.world.rng
        return {
            "queue": rng.choice(["a", "a", "b"]),
            "priority": rng.choice([100, 100, 100, 200]),
            "delay_ms": rng.choice([0, 0, 0, 0, 40]),
            "payload": rng.randrange(1000),
        }

    def _submit(self, task: str, asked: dict[str, Any]) -> None:
        self.done.setdefault(task, asked)
        queue = self.world.queue
        self.world.call(
            self.who, "submit", task, dict(asked), lambda: queue.submit(task, asked), self._next
        )

    def _submit_many(self, ids: list[str]) -> None:
        """One request; recorded as an operation for each task."""
        world = self.world
        many = [(task, self._draw()) for task in ids]
        self.done.update(many)
        operations = [
            Operation(len(world.history) + n + 1, self.who, "submit", task, asked, world.now)
            for n, (task, asked) in enumerate(many)
        ]
        world.history += operations

        def heard(answer: Answer) -> None:
            for operation, (outcome, value) in zip(operations, answer[1], strict=True):
                operation.to, operation.value = world.now, value
                operation.outcome = "ok" if outcome == "ok" else "fail"
            self._next()

        world.send(world.rng.uniform(0.1, 8), lambda: ("ok", world.queue.submit_many(many)), heard)


class Reader:
    """Asks for tasks, there or not, now or as of some earlier moment."""

    def __init__(self, world: LegalWorld, who: str) -> None:
        self.world = world
        self.who = who
        self.seen = 0

    def go(self) -> None:
        world, rng = self.world, self.world.rng
        if world.healed:
            return
        task, queue = rng.choice(world.ids), world.queue
        draw = rng.random()
        if draw < 0.5:
            asked = {"consistency": "linearizable"}
            world.call(self.who, "get", task, asked, lambda: queue.get(task), self._next)
        elif draw < 0.85:
            asked = {"consistency": "stale"}
            world.call(self.who, "get", task, asked, lambda: self._stale(task), self._next)
        else:
            after, limit = rng.choice(["", task]), rng.randint(1, 4)
            page = {"after": after, "limit": limit}
            world.call(self.who, "list", "", page, lambda: self._list(after, limit), self._next)

    def _index(self) -> int:
        return self.world.rng.randint(self.seen, self.world.queue.index)

    def _list(self, after: str, limit: int) -> Answer:
        return self.world.queue.list_tasks(self._index(), after=after, limit=limit)

    def _stale(self, task: str) -> Answer:
        return self.world.queue.get_stale(task, self._index())

    def _next(self, outcome: str, value: Any) -> None:
        if outcome == "ok" and "applied" in value:
            self.seen = max(self.seen, value["applied"])
        self.world.after(self.world.rng.uniform(1, 25), self.go)
