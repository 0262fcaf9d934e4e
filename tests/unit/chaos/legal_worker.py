"""A worker of legal histories: claims, works, beats, reports; sometimes late, frozen or dead."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.unit.chaos.reference_queue import Answer

if TYPE_CHECKING:
    from tests.unit.chaos.legal import LegalWorld


class Worker:
    """One worker; after a death or a lost session it registers again under the same name.

    Attributes:
        life: Counts its sessions: what was begun in an earlier one is not gone on with.
        held: Token -> task of what it works on.
    """

    def __init__(self, world: LegalWorld, who: str) -> None:
        self.world = world
        self.who = who
        self.life = 0
        self.session = 0
        self.claims = 0
        self.frozen = False
        self.held: dict[int, str] = {}

    def enter(self) -> None:
        self.life += 1
        self.session = 0
        self.held = {}
        world = self.world
        world.call(
            self.who, "register", "", {}, lambda: world.queue.register(self.who), self._entered
        )

    def _entered(self, outcome: str, value: Any) -> None:
        if outcome != "ok":
            self.world.after(20, self.enter)
            return
        self.session = value["session"]
        self.frozen = False
        self._claim()
        self._later(self.world.queue.lease_ms / 2.5, self._beat)

    def _later(self, wait_ms: float, act: Callable[[], None]) -> None:
        life = self.life
        self.world.after(wait_ms, lambda: act() if life == self.life else None)

    def _call(
        self,
        kind: str,
        task: str,
        asked: dict[str, Any],
        act: Callable[[], Answer],
        then: Callable[[str, Any], None] = lambda outcome, value: None,
    ) -> None:
        life = self.life

        def heard(outcome: str, value: Any) -> None:
            if life == self.life:
                then(outcome, value)

        self.world.call(self.who, kind, task, asked, act, heard)

    # -- claiming

    def _claim(self) -> None:
        world, rng = self.world, self.world.rng
        self.claims += 1
        session, number = self.session, self.claims
        count, wait_ms = rng.randint(1, 2), rng.choice([0, 40, 80])
        queues = rng.choice([["a", "b"], ["a"], ["b"], ["b", "a"]])
        if world.healed:
            queues, wait_ms = ["a", "b"], 50
        asked = {"session": session, "queues": queues, "count": count, "wait_ms": wait_ms}
        until: list[int] = []

        def act() -> Answer:
            answer = world.queue.claim(session, number, queues, count)
            until.append(world.now + wait_ms * 1_000_000)
            if answer[0] == "ok" and not answer[1]["grants"] and world.now < until[0]:
                return "wait", None
            return answer

        self._call("claim", "", asked, act, self._claimed)

    def _claimed(self, outcome: str, value: Any) -> None:
        rng = self.world.rng
        if outcome == "fail":
            self.enter()
            return
        for grant in value["grants"] if outcome == "ok" else []:
            self.held[grant["token"]] = grant["task"]
            lasts_ms = rng.uniform(1, 50) if rng.random() < 0.8 else rng.uniform(60, 250)
            self._later(lasts_ms, partial(self._work, grant["task"], grant["token"]))
        draw = 1.0 if self.world.healed else rng.random()
        if draw < 0.03:
            self.world.after(rng.uniform(1, 30), self.enter)  # it died, and is started again
            self.life += 1
        elif draw < 0.06:
            self._leave()
        elif draw < 0.1:
            self.frozen = True
            self._later(rng.uniform(40, 250), self._thaw)
        else:
            self._later(rng.uniform(10, 60), self._claim)

    def _thaw(self) -> None:
        self.frozen = False
        self._claim()

    def _leave(self) -> None:
        session, queue = self.session, self.world.queue
        asked = {"session": session}
        self.world.call(self.who, "deregister", "", asked, lambda: queue.deregister(session))
        self.life += 1
        self.world.after(self.world.rng.uniform(20, 100), self.enter)

    def _beat(self) -> None:
        queue, session, tokens = self.world.queue, self.session, list(self.held)
        if not self.frozen:
            self._call(
                "heartbeat",
                "",
                {"session": session, "tokens": tokens},
                lambda: queue.heartbeat(session, tokens),
                self._beaten,
            )
        self._later(queue.lease_ms / 2.5, self._beat)

    def _beaten(self, outcome: str, value: Any) -> None:
        if outcome == "fail":
            self.enter()
        elif outcome == "ok" and self.world.rng.random() < 0.7:
            # Else it goes on as if it had not heard, and reports in vain.
            for token in value["lost"]:
                self.held.pop(token, None)

    # -- working

    def _work(self, task: str, token: int) -> None:
        rng = self.world.rng
        if token not in self.held:
            return
        draw = 1.0 if self.world.healed else rng.random()

        def again(outcome: str = "", value: Any = None) -> None:
            self._later(rng.uniform(1, 20), lambda: self._work(task, token))

        if self.frozen:
            again()
        elif draw < 0.1:
            self._report("extend", task, token, again, lease_ms=rng.choice([60, 200]))
        elif draw < 0.2:
            self._report("progress", task, token, again, permille=rng.randrange(1001))
        elif draw < 0.28:
            self._last("release", task, token)
        elif draw < 0.42:
            self._last("fail", task, token, retry=rng.random() < 0.9)
        else:
            self._last("complete", task, token, result=f"{token:x}")

    def _last(self, kind: str, task: str, token: int, **asked: Any) -> None:
        def over(outcome: str, value: Any) -> None:
            self.held.pop(token, None)
            if kind != "release" and (outcome == "unknown" or self.world.rng.random() < 0.1):
                self._later(10, lambda: self._report(kind, task, token, **asked))

        self._report(kind, task, token, over, **asked)

    def _report(
        self,
        kind: str,
        task: str,
        token: int,
        then: Callable[[str, Any], None] = lambda outcome, value: None,
        **asked: Any,
    ) -> None:
        queue, fields = self.world.queue, {"token": token, **asked}
        self._call(kind, task, fields, lambda: queue.report(kind, task, fields), then)
