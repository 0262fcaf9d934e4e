"""Thousands of legal histories, and what must be noticed when one is tampered with."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

import pytest

from chaos.check import judge
from chaos.evidence import Evidence, Sample
from chaos.history import Operation
from tests.unit.chaos.legal import LegalWorld

HISTORIES = 2_000
CHUNK = 250
BASE = 20_000


@pytest.fixture(autouse=True)
def no_pauses() -> Iterator[None]:
    """A world is full of cycles; to look for them again and again takes most of the time."""
    gc.disable()
    yield
    gc.enable()
    gc.collect()


def small(seed: int) -> Evidence:
    return LegalWorld(seed, tasks=2 + seed % 3, play_ms=40 + seed % 70).run()


@pytest.mark.parametrize("base", range(BASE, BASE + HISTORIES, CHUNK))
def test_no_checker_complains_of_a_legal_history(base: int) -> None:
    for seed in range(base, base + CHUNK):
        for verdict in judge(small(seed)):
            assert verdict.ok, (
                f"{verdict.name} complains of the legal history of seed {seed}: "
                f"{verdict.violations[0]}\nreplay: python -m tests.unit.chaos.replay {seed}"
            )


def test_legal_histories_are_in_every_trouble_there_is() -> None:
    seen: set[tuple[str, str]] = set()
    for seed in range(BASE, BASE + 250):
        seen |= {(one.kind, one.code or one.outcome) for one in LegalWorld(seed).run().history}
    reports = ("complete", "fail", "release", "extend", "progress")
    wanted = {(kind, how) for kind in (*reports, "claim", "submit") for how in ("ok", "unknown")}
    wanted |= {("submit", "CONFLICT"), ("submit", "QUEUE_FULL"), ("claim", "UNKNOWN_SESSION")}
    wanted |= {("complete", "LEASE_LOST"), ("fail", "LEASE_LOST"), ("cancel", "NOT_CANCELLABLE")}
    wanted |= {("get", "NOT_FOUND"), ("get", "ok"), ("cancel", "ok"), ("deregister", "ok")}
    assert wanted - seen == set()


# -- tampering: each takes a legal history and breaks one promise in it, if it can


def lose_a_task(evidence: Evidence, rng: Random) -> bool:
    """An accepted task is not there at the end."""
    finals = [
        story.final() for story in evidence.stories.values() if story.accepted() and story.final()
    ]
    if not finals:
        return False
    final = rng.choice(finals)
    assert final is not None
    final.outcome, final.value = "fail", {"code": "NOT_FOUND"}
    return True


def complete_twice(evidence: Evidence, rng: Random) -> bool:
    """A late report of another lease is taken."""
    for story in evidence.stories.values():
        done = [one for one in story.reports if one.kind == "complete" and one.outcome == "ok"]
        older = [one for one in story.grants if done and one.token < done[0].arguments["token"]]
        if older:
            late = _copy(done[0], at=done[0].at + 40_000_000)
            late.arguments = {"token": older[0].token, "result": "stale"}
            return _add(evidence, late)
    return False


def forget_a_submit(evidence: Evidence, rng: Random) -> bool:
    """A read that began after the submit was acknowledged does not find the task."""
    accepted = [one for one in evidence.history if one.kind == "submit" and one.outcome == "ok"]
    if not accepted:
        return False
    submit = rng.choice(accepted)
    assert submit.to is not None
    read = Operation(0, "r9", "get", submit.task, {"consistency": "linearizable"}, submit.to + 1)
    read.to, read.outcome, read.value = submit.to + 2, "fail", {"code": "NOT_FOUND"}
    return _add(evidence, read)


def add_twice(evidence: Evidence, rng: Random) -> bool:
    """A repeated submit adds the task again."""
    accepted = [one for one in evidence.history if one.kind == "submit" and one.outcome == "ok"]
    if not accepted:
        return False
    again = _copy(rng.choice(accepted), at=accepted[-1].at + 1_000_000)
    again.value = {"index": again.value["index"] + 1_000}
    return _add(evidence, again)


def shrink_a_token(evidence: Evidence, rng: Random) -> bool:
    """A later attempt gets a smaller token than an earlier one."""
    for story in evidence.stories.values():
        if len({grant.attempt for grant in story.grants}) > 1:
            latest = max(story.grants, key=lambda grant: grant.attempt)
            for told in latest.operation.value["grants"]:
                if told["token"] == latest.token:
                    told["token"] = min(grant.token for grant in story.grants) - 1
                    return True
    return False


def differ(evidence: Evidence, rng: Random) -> bool:
    """One node keeps another state of a task."""
    export = rng.choice(evidence.exports)
    tasks = dict(export.tasks)
    if not tasks:
        return False
    task = rng.choice(sorted(tasks))
    tasks[task] = {**tasks[task], "lost": 77}
    object.__setattr__(export, "tasks", tasks)
    return True


def read_the_past(evidence: Evidence, rng: Random) -> bool:
    """A deposed leader answers a read: in progress, after the completion was acknowledged."""
    for story in evidence.stories.values():
        done = [one for one in story.reports if one.kind == "complete" and one.outcome == "ok"]
        if done and done[0].to is not None:
            read = _copy(done[0], at=done[0].to + 1_000)
            read.kind, read.arguments = "get", {"consistency": "linearizable"}
            read.value = {"state": "in_progress", "attempt": 1}
            return _add(evidence, read)
    return False


def lease_to_two(evidence: Evidence, rng: Random) -> bool:
    """A lease is granted once more, to the session of somebody else."""
    for story in evidence.stories.values():
        for grant in story.grants:
            again = _copy(grant.operation, at=(grant.operation.to or 0) + 1_000)
            again.arguments["session"] = grant.session + 1
            [told] = [one for one in grant.operation.value["grants"] if one["token"] == grant.token]
            again.value = {"grants": [told]}
            return _add(evidence, again)
    return False


def grant_of_another_line(evidence: Evidence, rng: Random) -> bool:
    """A claim gets a task of a queue it did not ask for."""
    claims = [one for one in evidence.history if one.kind == "claim" and one.outcome == "ok"]
    claims = [one for one in claims if one.value["grants"]]
    if not claims:
        return False
    claim = rng.choice(claims)
    claim.arguments["queues"] = [{"a": "b", "b": "a"}[claim.value["grants"][0]["queue"]]]
    return True


def stale_of_another_end(evidence: Evidence, rng: Random) -> bool:
    """A node that lags tells of an end the task never had."""
    return _read_old(evidence, state="dead_letter")


def stale_with_another_result(evidence: Evidence, rng: Random) -> bool:
    """A node that lags has another result."""
    return _read_old(evidence, result="another")


def _read_old(evidence: Evidence, **wrong: str) -> bool:
    """Add a stale read of a task that is completed, with something wrong in it."""
    for story in evidence.stories.values():
        final = story.final()
        if final is not None and final.outcome == "ok" and final.value["state"] == "completed":
            read = _copy(final, at=evidence.history[-1].at + 1_000)
            read.who, read.arguments = "r9", {"consistency": "stale"}
            read.value = {**final.value, "applied": evidence.exports[0].applied, **wrong}
            return _add(evidence, read)
    return False


def cut_a_list(evidence: Evidence, rng: Random) -> bool:
    """A page that is the last lacks its last task, which was there."""
    for page in evidence.history:
        if page.kind != "list" or page.outcome != "ok" or page.value["until"] is not None:
            continue
        told = page.value["tasks"]
        accepted = evidence.stories[told[-1]].accepted() if told else None
        if accepted is not None:
            page.value = {**page.value, "tasks": told[:-1]}
            return True
    return False


def lead_twice(evidence: Evidence, rng: Random) -> bool:
    """A second node leads in the same term."""
    led = next(one for one in evidence.samples if one.role == "leader")
    other = next(one for one in evidence.samples if one.node != led.node and one.at >= led.at)
    other.role, other.term = "leader", led.term
    return True


def go_back(evidence: Evidence, rng: Random) -> bool:
    """A node forgets what it has applied while it runs."""
    mine = [one for one in evidence.samples if one.node == 3]
    mine[-1].applied = mine[-2].applied - 1
    return not any(fault.to is None or fault.to > mine[-2].at for fault in evidence.faults)


def go_astray(evidence: Evidence, rng: Random) -> bool:
    """A node has another state for a while, and is filled again."""
    told = [one.digest_index for one in evidence.samples if one.node != 2 and one.digest_index]
    mine = [one for one in evidence.samples if one.node == 2 and one.digest_index in told]
    if not mine:
        return False
    rng.choice(mine).digest = "e"
    return True


def forget_the_term(evidence: Evidence, rng: Random) -> bool:
    """The leader is started again, and its vote was not on disk."""
    led = [one for one in evidence.samples if one.role == "leader" and one.term > 1]
    if not led:
        return False
    again = replace(led[-1], at=led[-1].at + 2, role="follower", term=led[-1].term - 1)
    evidence.samples += [Sample(led[-1].at + 1, led[-1].node, up=False), again]
    evidence.samples.sort(key=lambda one: one.at)
    return True


def forget_a_session(evidence: Evidence, rng: Random) -> bool:
    """A session is none a moment after a heartbeat for it was answered; its worker goes on."""
    left = {one.arguments["session"] for one in evidence.history if one.kind == "deregister"}
    opened = [one for one in evidence.history if one.kind == "register"]
    beats = [
        one
        for one in evidence.history
        if one.kind == "heartbeat" and one.outcome == "ok" and one.arguments["session"] not in left
    ]
    beats = [one for one in beats if sum(each.who == one.who for each in opened) == 1]
    if not beats:
        return False
    beat = rng.choice(beats)
    told = _copy(beat, at=(beat.to or 0) + 1_000)
    told.outcome, told.value = "fail", {"code": "UNKNOWN_SESSION"}
    return _add(evidence, told)


def refuse_for_no_reason(evidence: Evidence, rng: Random) -> bool:
    """A new task is told that a disk is full."""
    submits = [one for one in evidence.history if one.kind == "submit"]
    if not submits:
        return False
    refused = _copy(rng.choice(submits), at=evidence.history[-1].at + 1_000)
    refused.task, refused.outcome, refused.value = "f" * 32, "fail", {"code": "DISK_FULL"}
    return _add(evidence, refused)


def grant_at_once(evidence: Evidence, rng: Random) -> bool:
    """A delay of minutes is not kept."""
    for story in evidence.stories.values():
        if story.grants and story.accepted() is not None:
            for submit in story.submits:
                submit.arguments["delay_ms"] = 300_000
            return True
    return False


def tell_the_past(evidence: Evidence, rng: Random) -> bool:
    """Of a task nobody asks at the end, and the nodes told their tasks before it was there."""
    story = next((one for one in evidence.stories.values() if one.accepted()), None)
    accepted = None if story is None else story.accepted()
    if story is None or accepted is None:
        return False
    evidence.history = [one for one in evidence.history if one is not story.final()]
    evidence.exports = [
        replace(one, applied=accepted.value["index"] - 1, tasks={}) for one in evidence.exports
    ]
    return True


def compare_nothing(evidence: Evidence, rng: Random) -> bool:
    """Each node tells the digest of another entry, and no task."""
    evidence.exports = [
        replace(one, whole=False, tasks={}, digest_index=one.digest_index - one.node)
        for one in evidence.exports
    ]
    return True


def _copy(operation: Operation, *, at: int) -> Operation:
    return Operation(
        0,
        operation.who,
        operation.kind,
        operation.task,
        dict(operation.arguments),
        at,
        at + 1_000,
        operation.outcome,
        operation.value,
    )


def _add(evidence: Evidence, operation: Operation) -> bool:
    evidence.history.append(operation)
    evidence.history.sort(key=lambda one: one.at)
    return True


@pytest.mark.parametrize(
    ("tamper", "noticed_by"),
    [
        (lose_a_task, {"durable", "linearizable"}),
        (complete_twice, {"once", "fencing", "linearizable"}),
        (forget_a_submit, {"linearizable"}),
        (add_twice, {"idempotent"}),
        (shrink_a_token, {"fencing"}),
        (differ, {"agreement"}),
        (read_the_past, {"linearizable"}),
        (lease_to_two, {"fencing", "linearizable"}),
        (grant_of_another_line, {"grants"}),
        (stale_of_another_end, {"stale"}),
        (stale_with_another_result, {"stale"}),
        (cut_a_list, {"stale"}),
        (lead_twice, {"samples"}),
        (go_back, {"samples"}),
        (go_astray, {"samples"}),
        (forget_the_term, {"samples"}),
        (forget_a_session, {"lease_bound"}),
        (refuse_for_no_reason, {"refusals"}),
        (grant_at_once, {"delay"}),
        (tell_the_past, {"durable"}),
        (compare_nothing, {"agreement"}),
    ],
)
def test_a_legal_history_that_is_tampered_with_is_noticed(
    tamper: Callable[[Evidence, Random], bool], noticed_by: set[str]
) -> None:
    tampered = 0
    for seed in range(BASE, BASE + 300):
        evidence = small(seed)
        if not tamper(evidence, Random(seed)):
            continue
        evidence.__dict__.pop("stories", None)  # cut before it was tampered with
        tampered += 1
        kept = {verdict.name for verdict in judge(evidence) if verdict.ok}
        assert not noticed_by & kept, f"seed {seed}: {noticed_by & kept} notice nothing"
        if tampered == 15:
            break
    assert tampered == 15
