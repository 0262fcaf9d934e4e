"""Workers that claim and report, and some that misbehave while there are faults.

A worker here may dawdle until its lease is gone and report all the same, use tokens of
long ago on purpose, die and come back under its own name, go silent, or leave properly and
return. What the cluster must make of all that is in `tests.simulation.invariants.fences`.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from tests.simulation.callers import Caller
from tests.simulation.history import Operation
from tq.protocol import Code, Type

if TYPE_CHECKING:
    from tests.simulation.clients import Crowd
    from tests.simulation.world import World

_IN_HAND_MAX: Final = 6
_CLAIM_MAX: Final = 10
_APART: Final = 0.06
"""Share of the tasks of a lot that take a time of their own."""
_CLAIM_WAITS_MS: Final = (0, 400, 2000, 5000, 5000)
_WITHIN: Final = (2.0, 6.0, 12.0)
_PATIENCE: Final = (1.5, 2.5, 5.0)
_REST_S: Final = 0.4
_ATTEMPTS_FAILED_MAX: Final = 2
"""A task fails no more often than this, so that its waits stay short."""

_TASKS: Final = 0.2
"""New tasks per operation."""

Lease = tuple[bytes, int]
"""Task id and token."""


class Worker:
    """One worker process, over its lives.

    Args:
        world: Where.
        crowd: Tells when the faults are over.
        number: Its own.
        queues: Where it claims.
    """

    def __init__(self, world: World, crowd: Crowd, number: int, queues: tuple[str, ...]) -> None:
        self._world = world
        self._crowd = crowd
        self._name = f"worker-{number}"
        self._rng = rng = world.rng(self._name)
        self._queues = queues
        self.caller = Caller(world, self._name, patience_s=rng.choice(_PATIENCE))
        self._worker_id = rng.randbytes(16)
        self._lot = world.options.burst
        """Tasks it takes at once and, most of them, answers at once."""
        options = world.options
        self._lot_max_s = self._lot * options.workers / (_TASKS * options.operations_per_s)
        """About what it takes until there is a lot for everybody again."""
        self._in_hand_max = max(_IN_HAND_MAX, self._lot + 2)
        self._session = 0
        self._life = 0
        self._claiming = False
        self._is_busy = False
        """It works on a lot, and claims when that is done."""
        self._held: dict[int, bytes] = {}
        """Token -> task id of what it works on, as far as it knows."""
        self._shortest_s = world.options.lease_ms / 1000
        """Shortest lease among those it holds, or lately held."""
        self._old: deque[Lease] = deque(maxlen=10)
        """What it held once."""
        self._silent_until = 0.0
        self._lease_s = self._shortest_s
        self._beat_s = self._lease_s / 3

    def start(self) -> None:
        """Connect and register."""
        self.caller.start()
        self._register()
        self._world.at(self._next_beat_at(), self._beat)
        self._world.after(1.0 + self._rng.random(), self._misbehave)

    # ---------------------------------------------------------------------- sessions

    def _register(self) -> None:
        self._life += 1
        self._session = 0
        self._old.extend((task_id, token) for token, task_id in self._held.items())
        self._held.clear()
        self._is_busy = False
        life = self._life

        def registered(operation: Operation) -> None:
            if life != self._life:
                return
            if operation.outcome == "ok":
                self._session = operation.answer[0]
                self._claim()
            else:
                self._crowd.after(_REST_S, self._again, life)

        self.caller.call(
            "register",
            Type.REGISTER_WORKER,
            (self._worker_id, self._name, self._queues, {}),
            registered,
            within_s=self._rng.choice(_WITHIN),
        )

    def _again(self, life: int) -> None:
        if life == self._life:
            self._register()

    def _deregister(self) -> None:
        session, self._session = self._session, 0
        self._life += 1
        life = self._life
        self.caller.call(
            "deregister",
            Type.DEREGISTER_WORKER,
            (session,),
            lambda _operation: self._again(life),
            within_s=self._rng.choice(_WITHIN),
        )

    def _beat(self) -> None:
        """A heartbeat, every third of a lease; silent workers lose what they hold."""
        self._world.at(self._next_beat_at(), self._beat)
        if not self._session or self._silent_until > self._world.now:
            return
        if any(call.operation.kind == "heartbeat" for call in self.caller.calls.values()):
            return
        session = self._session
        if not self._held:
            self._shortest_s = self._lease_s
        self._beat_s = self._shortest_s / 3

        def answered(operation: Operation) -> None:
            if session != self._session:
                return
            if operation.code == Code.UNKNOWN_SESSION:
                self._register()
            elif operation.outcome == "ok":
                for token in operation.answer[0]:
                    self._lost(token)

        self.caller.call(
            "heartbeat",
            Type.HEARTBEAT,
            (session, list(self._held)),
            answered,
            within_s=self._lease_s,
        )

    def _next_beat_at(self) -> float:
        """Return when it beats again: in its own time, or in step with the other workers.

        In step where a node looks at its clients now and then: who has nothing but a
        heartbeat to send shares a barrier with others there.
        """
        now, beat_s = self._world.now, self._beat_s
        at = now + beat_s * (0.8 + 0.4 * self._rng.random())
        if self._world.options.turn_s:
            at = max(now + beat_s / 2, round(at / beat_s) * beat_s)
        return at

    def _lost(self, token: int) -> None:
        """Stop working on it; a misbehaving worker goes on and reports all the same."""
        if self._crowd.is_calm or self._rng.random() < 0.6:
            task_id = self._held.pop(token, None)
            if task_id is not None:
                self._old.append((task_id, token))

    def _misbehave(self) -> None:
        if self._crowd.is_calm:
            return
        rng = self._rng
        self._world.after(1.0 + 2 * rng.random(), self._misbehave)
        if not self._session:
            return
        drawn = rng.random()
        if drawn < 0.06:
            self._register()  # died, and is back under its name
        elif drawn < 0.09:
            self._deregister()
        elif drawn < 0.15:
            self._silent_until = self._world.now + 2.5 * self._lease_s * rng.random()
        elif drawn < 0.6 and self._old:
            self._use_old_token()

    def _use_old_token(self) -> None:
        task_id, token = self._rng.choice(self._old)
        drawn = self._rng.random()
        if drawn < 0.6:
            self._result(task_id, token, outcome=int(self._rng.random() < 0.3))
        elif drawn < 0.8:
            self._fenced("extend", Type.EXTEND, (task_id, token, 5000))
        else:
            self._fenced("release", Type.RELEASE, (task_id, token))

    # ------------------------------------------------------------------------ claims

    def _claim(self) -> None:
        room = self._in_hand_max - len(self._held)
        if self._claiming or self._is_busy or not self._session or room <= 0:
            return
        rng = self._rng
        session = self._session
        queues = self._queues
        if not self._crowd.is_calm and rng.random() < 0.3:
            queues = (rng.choice(queues),)
        wait_ms = rng.choice(_CLAIM_WAITS_MS)
        self._claiming = True
        self.caller.call(
            "claim",
            Type.CLAIM_TASK,
            (session, queues, min(room, self._claim_count()), wait_ms),
            self._claimed,
            within_s=rng.choice(_WITHIN) + wait_ms / 1000,
            wait_s=wait_ms / 1000,
        )

    def _claim_count(self) -> int:
        lot = self._lot
        return self._rng.randint(1, 3) if lot == 1 else self._rng.randint(lot // 2, _CLAIM_MAX)

    def _claimed(self, operation: Operation) -> None:
        self._claiming = False
        if operation.what[0] != self._session:
            self._claim()
            return
        if operation.code == Code.UNKNOWN_SESSION:
            self._register()
            return
        grants = operation.answer[0] if operation.outcome == "ok" else ()
        together: list[tuple[int, int]] = []
        for task_id, token, _, _, _, attempt, lease_ms, _, _ in grants:
            self._held[token] = task_id
            self._shortest_s = min(self._shortest_s, lease_ms / 1000)
            if self._lot == 1 or self._rng.random() < _APART:
                self._crowd.after(self._work_s(lease_ms), self._worked, token, attempt)
            else:
                together.append((token, attempt))
        if together:
            self._is_busy = True
            self._crowd.after(self._lot_s(), self._worked_all, together)
        else:
            self._crowd.after(0.01 if grants else _REST_S, self._claim)

    def _lot_s(self) -> float:
        """How long the tasks take that are done together."""
        rng = self._rng
        if self._crowd.is_calm:
            return 0.05 * rng.random()
        return self._lot_max_s * rng.random()

    def _worked_all(self, together: list[tuple[int, int]]) -> None:
        """Answer for a lot and ask for the next, in one go."""
        for token, attempt in together:
            self._worked(token, attempt)
        self._is_busy = False
        self._claim()

    def _work_s(self, lease_ms: int) -> float:
        """How long a task takes; now and then longer than its lease."""
        rng = self._rng
        if self._crowd.is_calm:
            return 0.05 * rng.random()
        if rng.random() < 0.04:
            return 1.5 * min(lease_ms, 8000) / 1000 * rng.random()
        return rng.expovariate(5.0)

    # ----------------------------------------------------------------------- reports

    def _worked(self, token: int, attempt: int) -> None:
        task_id = self._held.get(token)
        if task_id is None:
            return
        drawn = self._rng.random()
        if self._crowd.is_calm or drawn < 0.82:
            self._finish(task_id, token, outcome=0)
        elif drawn < 0.90 and attempt <= _ATTEMPTS_FAILED_MAX:
            self._finish(task_id, token, outcome=1)
        elif drawn < 0.91:
            self._finish(task_id, token, outcome=2)
        elif drawn < 0.94:
            del self._held[token]
            self._fenced("release", Type.RELEASE, (task_id, token))
            self._old.append((task_id, token))
            self._crowd.after(_REST_S, self._claim)
        else:
            self._look_after(task_id, token)
            self._crowd.after(self._rng.expovariate(3.0), self._worked, token, attempt)

    def _look_after(self, task_id: bytes, token: int) -> None:
        if self._rng.random() < 0.5:
            self._fenced("extend", Type.EXTEND, (task_id, token, self._rng.choice((1000, 4000))))
        else:
            permille = self._rng.randrange(1000)
            self._fenced("progress", Type.PROGRESS, (task_id, token, permille, "on it"))

    def _finish(self, task_id: bytes, token: int, *, outcome: int) -> None:
        del self._held[token]
        self._old.append((task_id, token))
        self._result(task_id, token, outcome=outcome)
        self._claim()

    def _result(self, task_id: bytes, token: int, *, outcome: int) -> None:
        result = task_id[:4] if outcome == 0 else b""
        self._fenced(
            "result",
            Type.TASK_RESULT,
            (task_id, token, outcome, result, "" if outcome == 0 else "no luck"),
        )

    def _fenced(self, kind: str, type_: Type, what: tuple[object, ...]) -> None:
        within_s = self._rng.choice(_WITHIN)
        self.caller.call(kind, type_, what, self._told, within_s=within_s)

    def _told(self, operation: Operation) -> None:
        if operation.code == Code.LEASE_LOST:
            self._held.pop(operation.what[1], None)
