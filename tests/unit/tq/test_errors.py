from __future__ import annotations

import multiprocessing
import re

import pytest

import tq
from tests.support.fake_cluster import a_status
from tq import errors
from tq.errors import Rejected, TqError, Unavailable, UnknownOutcome, from_refusal
from tq.ids import TaskId
from tq.protocol import Code
from tq.status import TaskStatus

EXPECTED = {
    Code.MALFORMED: Rejected,
    Code.UNKNOWN_TYPE: Rejected,
    Code.TOO_LARGE: errors.BadRequest,
    Code.BAD_REQUEST: errors.BadRequest,
    Code.UNAUTHENTICATED: errors.Unauthenticated,
    Code.FORBIDDEN: errors.Forbidden,
    Code.NOT_FOUND: errors.NotFound,
    Code.CONFLICT: errors.Conflict,
    Code.TOO_OLD: errors.TooOld,
    Code.TOO_NEW: errors.TooNew,
    Code.QUEUE_FULL: errors.QueueFull,
    Code.DISK_FULL: errors.DiskFull,
    Code.LEASE_LOST: errors.LeaseLost,
    Code.NOT_CANCELLABLE: errors.NotCancellable,
    Code.UNKNOWN_SESSION: errors.UnknownSession,
    Code.NO_QUORUM: Unavailable,
    Code.UNKNOWN_OUTCOME: UnknownOutcome,
    Code.RATE_LIMITED: errors.RateLimited,
    Code.SHUTTING_DOWN: Unavailable,
    Code.TOO_MANY_CONNECTIONS: Unavailable,
    Code.BEHIND: Unavailable,
    Code.CHANGE_UNDER_WAY: Unavailable,
    Code.NOT_SETTLED: Unavailable,
    Code.HANDING_OVER: Unavailable,
    Code.NO_SUCH_MEMBER: errors.ChangeRefused,
    Code.ALREADY: errors.ChangeRefused,
    Code.NOT_CAUGHT_UP: errors.ChangeRefused,
    Code.NOT_WAITING: errors.ChangeRefused,
    Code.QUORUM_AT_RISK: errors.ChangeRefused,
    Code.TOO_MANY_MEMBERS: errors.ChangeRefused,
}


def test_every_code_has_its_error() -> None:
    assert set(EXPECTED) == set(Code)


@pytest.mark.parametrize("code", Code)
def test_a_refusal_becomes_the_error_of_its_code(code: Code) -> None:
    error = from_refusal(code, "why", 1500)
    assert type(error) is EXPECTED[code]
    assert "why" in str(error)
    if isinstance(error, Rejected):
        assert (error.code, error.text, error.retry_after_s) == (code, "why", 1.5)


def test_a_code_of_the_future_is_a_plain_refusal() -> None:
    error = from_refusal("SOMETHING_NEW", "")
    assert type(error) is Rejected
    assert str(error) == "SOMETHING_NEW"


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = re.findall(r"[├└]── (\w+)", errors.__doc__ or "")
    real = {
        name
        for name, thing in vars(errors).items()
        if isinstance(thing, type) and issubclass(thing, TqError) and thing is not TqError
    }
    assert set(drawn) == real
    assert len(drawn) == len(set(drawn))


def test_every_error_is_exported() -> None:
    real = {
        name
        for name, thing in vars(errors).items()
        if isinstance(thing, type) and issubclass(thing, TqError)
    }
    assert real <= set(tq.__all__)


def journey(error: TqError) -> TqError:
    """Take an error the way it goes between the processes of a user's pool."""
    here, there = multiprocessing.Pipe()
    with here, there:
        here.send(error)
        arrived = there.recv()
    assert isinstance(arrived, TqError)
    return arrived


def an_error(kind: type[TqError]) -> TqError:
    if issubclass(kind, Rejected):
        return kind("SOME_CODE", "what and why", 2.5)
    if kind is errors.TaskFailed:
        return errors.TaskFailed(TaskStatus.from_map(a_status(TaskId.new(), "dead_letter")))
    return kind("what and why")


KINDS = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TqError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_travels_between_processes_as_it_is(kind: type[TqError]) -> None:
    error = an_error(kind)
    error.shard = "east"
    arrived = journey(error)
    assert type(arrived) is kind
    assert (str(arrived), arrived.shard) == (str(error), "east")
    if isinstance(error, Rejected) and isinstance(arrived, Rejected):
        told = (arrived.code, arrived.text, arrived.retry_after_s)
        assert told == (error.code, error.text, error.retry_after_s)
    if isinstance(error, errors.TaskFailed) and isinstance(arrived, errors.TaskFailed):
        assert arrived.status == error.status


def test_what_was_added_to_an_error_travels_with_it() -> None:
    unknown = UnknownOutcome("no answer")
    unknown.task_id = TaskId.new()
    partly = tq.PartlySubmitted([tq.App("unused:7401").handle(unknown.task_id), unknown])
    arrived = journey(partly)
    assert isinstance(arrived, tq.PartlySubmitted)
    assert str(arrived) == str(partly)
    task_id, error = arrived.outcomes
    assert task_id == unknown.task_id
    assert isinstance(error, UnknownOutcome)
    assert error.task_id == unknown.task_id
