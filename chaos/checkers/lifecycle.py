"""The life of one task as its callers can tell, for the search of `linearizable`.

The states and moves are those of docs/lifecycle.md. `play` tells what an operation leaves
behind, if it can have been answered as it was; `by_itself` what may happen between any two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

from chaos.evidence import TERMINAL
from chaos.history import Operation

NOBODY: Final = -1
"""Token of a lease that no caller heard of."""
UNTOLD: Final = object()
"""In place of what an answer does not say."""
_SUCCESS: Final = 0
_FINAL_FAILURE: Final = 2
_CANCELLABLE: Final = frozenset({"scheduled", "pending", "failed", "cancelled"})


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
    """Which of the contents that were submitted for the id it has."""
    result: Any
    permille: int | None


ABSENT: Final = Seen("absent", 0, 0, 0, 0, -1, 0, None, None)


class Policy(NamedTuple):
    """What bounds a task's life."""

    delayed: bool
    retry_max: int
    lost_max: int
    attempts_max: int
    """No caller saw more; an order with more explains nothing that one without does not."""
    ghosts: bool
    """Claims whose answers were lost are reckoned with."""
    leavers: bool
    """Sessions that were closed are reckoned with: their leases are lost without charge."""


Play: TypeAlias = "Callable[[Step, Seen, Policy], Seen | None]"
"""The task after an operation; None if it cannot have been answered so."""


class Step(NamedTuple):
    """One operation as it touches one task."""

    play: Play
    begins: float
    ends: float
    optional: bool
    """Nobody knows whether it happened."""
    token: int
    told: Any
    """The answer, "" where it was not heard; see the function that plays it."""
    asked: Any
    operation: Operation


def by_itself(seen: Seen, policy: Policy) -> Iterator[Seen]:
    """What may become of a task without an answered operation on it."""
    state, token, attempt, failures, lost, settled, content, result, permille = seen
    if state == "in_progress":
        after = "dead_letter" if lost + 1 > policy.lost_max else "pending"
        yield Seen(after, token, attempt, failures, lost + 1, settled, content, result, permille)
        if policy.leavers:
            yield seen._replace(state="pending")
    elif state in {"scheduled", "failed"}:
        yield Seen("pending", token, attempt, failures, lost, settled, content, result, permille)
    elif state == "pending" and policy.ghosts and attempt < policy.attempts_max:
        yield Seen("in_progress", NOBODY, attempt + 1, failures, lost, -1, content, result, None)


def reachable(seen: Seen, policy: Policy) -> list[Seen]:
    """A task as it is and as it may become by itself."""
    found = [seen]
    if seen.state not in TERMINAL:
        for one in found:
            found += [new for new in by_itself(one, policy) if new not in found]
    return found


def submit(step: Step, seen: Seen, policy: Policy) -> Seen | None:
    """The same content adds a task once; other content is a conflict."""
    told, content = step.told, step.asked
    if told == "REFUSED":
        return seen if seen.state == "absent" else None
    if seen.state == "absent":
        state = "scheduled" if policy.delayed else "pending"
        return None if told else Seen(state, 0, 0, 0, 0, -1, content, None, None)
    same = seen.content == content
    return seen if step.optional or same is (not told) else None


def grant(step: Step, seen: Seen, _policy: Policy) -> Seen | None:
    """A claim takes a pending task.

    Repetitions are of one claim, which is one step; another one gets no lease that is taken.
    """
    state, token, attempt, failures, lost, _, content, result, _ = seen
    if state != "pending" or step.token <= token or attempt + 1 != step.told:
        return None
    return Seen("in_progress", step.token, step.told, failures, lost, -1, content, result, None)


def complete(step: Step, seen: Seen, _policy: Policy) -> Seen | None:
    """Ends the task for the live token; repeated, it gets the same answer."""
    told = step.told
    state, token, attempt, failures, lost, settled, content, _, permille = seen
    if told == "NOT_FOUND" or state == "absent":
        return seen if told == "NOT_FOUND" and state == "absent" else None
    lives = state == "in_progress" and token == step.token
    repeated = token == step.token and settled == _SUCCESS
    if told == "LEASE_LOST":
        return None if lives or repeated else seen
    if not lives:
        return seen if repeated else None
    if told not in {"", "completed"}:
        return None
    return Seen(
        *("completed", token, attempt, failures, lost, _SUCCESS, content, step.asked, permille)
    )


def fail(step: Step, seen: Seen, policy: Policy) -> Seen | None:
    """Ends the attempt for the live token.

    The SDK repeats a call whose answer was lost. If the task was claimed again in the
    meantime, what it hears then is LEASE_LOST, though the failure was taken: so a refused
    one may have counted.
    """
    told, outcome = step.told, step.asked
    state, token, attempt, failures, lost, settled, content, result, permille = seen
    if told == "NOT_FOUND" or state == "absent":
        return seen if told == "NOT_FOUND" and state == "absent" else None
    lives = state == "in_progress" and token == step.token
    if not lives:
        if token != step.token or settled != outcome:
            return seen if told == "LEASE_LOST" else None
        return seen if told == ("dead_letter" if state == "dead_letter" else "failed") else None
    dead = outcome == _FINAL_FAILURE or failures + 1 > policy.retry_max
    if dead and told == "LEASE_LOST":
        return None
    after = "dead_letter" if dead else "failed"
    if told not in {"", "LEASE_LOST", after}:
        return None
    return Seen(after, token, attempt, failures + 1, lost, outcome, content, result, permille)


def release(step: Step, seen: Seen, _policy: Policy) -> Seen | None:
    """Gives the live lease back. Repeated by the SDK, it hears LEASE_LOST of its own doing."""
    if step.told == "NOT_FOUND" or seen.state == "absent":
        return seen if step.told == "NOT_FOUND" and seen.state == "absent" else None
    if seen.state == "in_progress" and seen.token == step.token:
        return seen._replace(state="pending")
    return seen if step.told == "LEASE_LOST" else None


def hold(step: Step, seen: Seen, _policy: Policy) -> Seen | None:
    """Extends or keeps the live lease, and changes nothing that can be seen here."""
    if step.told == "NOT_FOUND" or seen.state == "absent":
        return seen if step.told == "NOT_FOUND" and seen.state == "absent" else None
    lives = seen.state == "in_progress" and seen.token == step.token
    return seen if lives is (step.told != "LEASE_LOST") else None


def progress(step: Step, seen: Seen, policy: Policy) -> Seen | None:
    """Notes how far the attempt is."""
    held = hold(step, seen, policy)
    if held is None or step.told:
        return held
    return seen if seen.permille == step.asked else seen._replace(permille=step.asked)


def cancel(step: Step, seen: Seen, _policy: Policy) -> Seen | None:
    """Ends what does not run."""
    told, state = step.told, seen.state
    if told == "NOT_FOUND" or state == "absent":
        return seen if told == "NOT_FOUND" and state == "absent" else None
    if told == "NOT_CANCELLABLE":
        return None if state in _CANCELLABLE else seen
    if state == "cancelled":
        return seen
    return seen._replace(state="cancelled") if state in _CANCELLABLE else None


def read(step: Step, seen: Seen, _policy: Policy) -> Seen | None:
    """Tells the state."""
    told = step.told
    if told is None:
        return seen if seen.state == "absent" else None
    state, attempt, failures, lost, result, permille = told
    if (
        state != seen.state
        or (attempt is not UNTOLD and attempt != seen.attempt)
        or (failures is not UNTOLD and failures != seen.failures)
        or (lost is not UNTOLD and lost != seen.lost)
        or (permille is not UNTOLD and permille != seen.permille)
        # What a dead letter keeps of its last failure is not in the history.
        or (state == "completed" and result is not UNTOLD and result != seen.result)
    ):
        return None
    return seen
