"""Operations on one task are linearizable (S5), seen from outside.

What callers were told about a task, and when, must be explained by some order of the
operations that keeps real time, played on the life of a task as `docs/lifecycle.md` draws
it. The log is not looked at. An operation of unknown outcome may have happened at any time
after it began, or not at all; a lease may end, and a wait be over, between any two.

Wing and Gong's search, task by task, with Lowe's memory of where it has been. A search that
takes too long counts as a failure.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tests.simulation.history import GAVE_UP, NEVER, Operation
from tests.simulation.invariants.rule import Invariant

if TYPE_CHECKING:
    from tests.simulation.world import World

CONFIGURATIONS_MAX: Final = 200_000
_SINGLE: Final = frozenset({"result", "extend", "progress", "release", "cancel", "read", "wait"})
_UNKNOWN: Final = frozenset({"info", "open"})
_TOLD: Final = ("state", "attempt", "failures", "lost")
_NEVER_MS: Final = 600_000_000
"""A retention longer than any world."""
_NOBODY: Final = -1
"""Token of a lease that no caller heard of."""


class Seen(NamedTuple):
    """A task as one order of the operations leaves it."""

    state: str
    token: int
    attempt: int
    failures: int
    lost: int
    settled: int
    """What the latest lease reported, -1 if nothing."""
    content: int
    """Payload that was submitted; whatever else is submitted is the same for one id."""


ABSENT: Final = Seen("absent", 0, 0, 0, 0, -1, -1)
_MISSING: Final = frozenset({"absent", "gone"})
_TERMINAL: Final = frozenset({"completed", "dead_letter", "cancelled"})


class Step(NamedTuple):
    """One operation as it touches one task."""

    kind: str
    begins: float
    ends: float
    optional: bool
    """Nobody knows whether it happened."""
    token: int
    value: Any
    """What was told, or asked for: see `play`."""
    operation: Operation


class Policy(NamedTuple):
    """What bounds a task's life."""

    delayed: bool
    retry_max: int
    lost_max: int
    attempts_max: int
    """What callers saw, and the lost leases that end a task of which nobody heard."""
    forgets: bool
    """Tasks that have ended are forgotten after a while; their ids are not."""
    ghosts: bool
    """Claims whose answers were lost, and sessions that were closed, are reckoned with."""


def by_itself(seen: Seen, policy: Policy) -> Iterator[Seen]:
    """What may become of a task without any operation on it."""
    state = seen.state
    if state in {"scheduled", "failed"}:
        yield seen._replace(state="pending")
    elif state == "in_progress":
        lost = seen.lost + 1
        yield seen._replace(state="dead_letter" if lost > policy.lost_max else "pending", lost=lost)
        if policy.ghosts:
            yield seen._replace(state="pending")
    elif policy.forgets and state in _TERMINAL:
        yield seen._replace(state="gone")
    elif state == "pending" and policy.ghosts and seen.attempt < policy.attempts_max:
        yield seen._replace(
            state="in_progress", token=_NOBODY, attempt=seen.attempt + 1, settled=-1
        )


@lru_cache(maxsize=1 << 14)
def reachable(seen: Seen, policy: Policy) -> tuple[Seen, ...]:
    """A task as it is and as it may become by itself."""
    found, todo = {seen}, [seen]
    for one in todo:
        for new in by_itself(one, policy):
            if new not in found:
                found.add(new)
                todo.append(new)
    return tuple(todo)


def numbered(steps: list[Step]) -> list[Step]:
    """Put numbers from 0 on for tokens, keeping their order, and for payloads.

    Tasks that live alike then look alike, and what may become of one need not be thought
    out again for the next.
    """
    tokens = {token: at for at, token in enumerate(sorted({0, *(step.token for step in steps)}))}
    contents: dict[bytes, int] = {}

    def plain(step: Step) -> Step:
        if step.kind != "submit":
            return step._replace(token=tokens[step.token]) if step.token else step
        told, content = step.value
        return step._replace(value=(told, contents.setdefault(content, len(contents))))

    return [plain(step) for step in steps]


def play(step: Step, seen: Seen, policy: Policy) -> Seen | None:
    """The task after an operation; None if it cannot have been answered so."""
    return _PLAYED[step.kind](step, seen, policy)


def _submit(step: Step, seen: Seen, policy: Policy) -> Seen | None:
    told, content = step.value
    if told == "refused":
        return seen if seen.state == "absent" else None
    if seen.state == "absent":
        state = "scheduled" if policy.delayed else "pending"
        return None if told else seen._replace(state=state, content=content)
    # A repetition is answered as the first time, and other content is a conflict. Nobody
    # knows which of the two it was if there was no answer.
    same = seen.content == content
    return seen if step.optional or same is (told == "") else None


def _grant(step: Step, seen: Seen, _policy: Policy) -> Seen | None:
    if seen.state == "in_progress" and seen.token == step.token:
        return seen if seen.attempt == step.value else None
    if seen.state != "pending" or step.token <= seen.token or seen.attempt + 1 != step.value:
        return None
    return seen._replace(state="in_progress", token=step.token, attempt=step.value, settled=-1)


def _result(step: Step, seen: Seen, policy: Policy) -> Seen | None:
    outcome, told = step.value
    if seen.state in _MISSING:
        return seen if told == "NOT_FOUND" else None
    lives = seen.state == "in_progress" and seen.token == step.token
    if told == "NOT_FOUND":
        return None
    if told == "LEASE_LOST":
        repeated = seen.token == step.token and seen.settled == outcome
        return None if lives or repeated else seen
    if not lives:
        return seen if seen.token == step.token and seen.settled == outcome else None
    if outcome == 0:
        after = seen._replace(state="completed", settled=0)
    else:
        failures = seen.failures + 1
        dead = outcome == 2 or failures > policy.retry_max
        state = "dead_letter" if dead else "failed"
        after = seen._replace(state=state, failures=failures, settled=outcome)
    return after if told in {None, after.state} else None


def _fenced(step: Step, seen: Seen, _policy: Policy) -> Seen | None:
    if seen.state in _MISSING:
        return seen if step.value == "NOT_FOUND" else None
    lives = seen.state == "in_progress" and seen.token == step.token
    if step.value == "LEASE_LOST":
        return None if lives else seen
    if step.value or not lives:
        return None
    return seen._replace(state="pending") if step.kind == "release" else seen


def _cancel(step: Step, seen: Seen, _policy: Policy) -> Seen | None:
    if seen.state in _MISSING:
        return seen if step.value == "NOT_FOUND" else None
    allowed = seen.state in {"scheduled", "pending", "failed", "cancelled"}
    if step.value == "NOT_CANCELLABLE":
        return None if allowed else seen
    return seen._replace(state="cancelled") if allowed and not step.value else None


def _read(step: Step, seen: Seen, _policy: Policy) -> Seen | None:
    told = step.value
    if told is None:
        return seen if seen.state in _MISSING else None
    return seen if (seen.state, seen.attempt, seen.failures, seen.lost) == told else None


_PLAYED: Final = {
    "submit": _submit,
    "grant": _grant,
    "result": _result,
    "extend": _fenced,
    "progress": _fenced,
    "release": _fenced,
    "cancel": _cancel,
    "read": _read,
}


def search(steps: list[Step], policy: Policy) -> bool | None:
    """Tell whether some order explains the steps; None if that was too much to try.

    Args:
        steps: In order of their begin.
        policy: Of the task.
    """
    count = len(steps)
    needed = sum(1 << at for at, step in enumerate(steps) if not step.optional)
    by_end = sorted((step.ends, 1 << at) for at, step in enumerate(steps))
    start = (0, ABSENT)
    seen_before = {start}
    todo = [start]
    while todo:
        done, seen = todo.pop()
        if done & needed == needed:
            return True
        if len(seen_before) > CONFIGURATIONS_MAX:
            return None
        first_end = next((ends for ends, which in by_end if not done & which), NEVER)
        states = reachable(seen, policy)
        found = []
        for at in range(count):
            step = steps[at]
            if step.begins > first_end:
                break
            if done >> at & 1:
                continue
            for before in states:
                after = play(step, before, policy)
                if after is None:
                    continue
                new = (done | 1 << at, after)
                if new not in seen_before:
                    seen_before.add(new)
                    found.append(new)
        # First what began first, on a task to which nothing happened by itself: so it was
        # as a rule, and most stories are explained without a wrong turn.
        todo += reversed(found)
    return False


class Linearizable(Invariant):
    """Some order explains it."""

    name = "linearizable"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._history = world.history

    def finished(self) -> None:
        steps, policies = stories_of(self._history.operations)
        forgets = self.world.options.retention_ms < _NEVER_MS
        for task_id, listed in steps.items():
            policy = policies.get(task_id)
            if policy is None:
                continue
            policy = policy._replace(forgets=forgets)
            plain = numbered(listed)
            verdict = search(plain, policy)
            if not verdict:
                verdict = search(plain, policy._replace(ghosts=True))
            if not verdict:
                told = "\n  ".join(step.operation.describe() for step in listed)
                how = "no order explains" if verdict is False else "it takes too long to explain"
                self.fail(f"{how} what was told of task {task_id.hex()[:12]}:\n  {told}")


def stories_of(
    operations: list[Operation],
) -> tuple[dict[bytes, list[Step]], dict[bytes, Policy]]:
    """Cut a history into what happened to each task; submits tell how long it may live."""
    steps: dict[bytes, list[Step]] = {}
    policies: dict[bytes, Policy] = {}
    for operation in operations:
        for task_id, step, options in _touched(operation):
            steps.setdefault(task_id, []).append(step)
            if options is not None and task_id not in policies:
                policies[task_id] = Policy(
                    delayed=options.get("delay_ms", 0) > 0,
                    retry_max=options.get("retry_max", 5),
                    lost_max=options.get("lost_max", 3),
                    attempts_max=0,
                    forgets=False,
                    ghosts=False,
                )
    for task_id, policy in policies.items():
        most = max(_attempt_in(step) for step in steps[task_id])
        unheard = policy.lost_max + 1
        policies[task_id] = policy._replace(attempts_max=most + unheard)
    return steps, policies


def _attempt_in(step: Step) -> int:
    if step.kind == "grant":
        return int(step.value)
    if step.kind == "read" and step.value is not None:
        return int(step.value[1])
    return 0


def _touched(operation: Operation) -> Iterator[tuple[bytes, Step, dict[str, int] | None]]:
    """Give what an operation did to each task it names: id, step, options of a submit."""
    if operation.code == GAVE_UP and operation.outcome == "fail":
        return
    kind, what, answer = operation.kind, operation.what, operation.answer
    ok, unknown = operation.outcome == "ok", operation.outcome in _UNKNOWN
    code = "" if unknown else operation.code
    if kind == "submit":
        yield what[0], _step(operation, "submit", (_submitted(code), what[3])), what[4]
    elif kind == "batch":
        items = answer[0] if ok else [[code]] * len(what[0])
        for task, item in zip(what[0], items, strict=True):
            said = (_submitted(item[0]), task[3])
            yield task[0], _step(operation, "submit", said), task[4]
    elif kind == "claim" and ok:
        for grant in answer[0]:
            yield grant[0], _step(operation, "grant", grant[5], grant[1]), None
    elif kind in _SINGLE and code != "RATE_LIMITED":
        yield what[0], _single(operation, kind, code), None


def _single(operation: Operation, kind: str, code: str) -> Step:
    """What an operation on one task says of it."""
    what, answer = operation.what, operation.answer
    if kind == "result":
        told = answer[0] if answer else code or None
        return _step(operation, kind, (what[2], told), what[1])
    if kind == "cancel":
        return _step(operation, kind, code)
    if kind in {"read", "wait"}:
        seen = tuple(answer[0][key] for key in _TOLD) if answer else None
        return _step(operation, "read", seen)
    return _step(operation, kind, code, what[1])


def _step(operation: Operation, kind: str, value: Any, token: int = 0) -> Step:
    unknown = operation.outcome in _UNKNOWN
    ends = NEVER if unknown else operation.returned
    return Step(kind, operation.invoked, ends, unknown, token, value, operation)


def _submitted(code: str | int) -> str:
    """Reduce the answer to a submit to what it says of the task."""
    return "" if not code else "CONFLICT" if code == "CONFLICT" else "refused"
