from __future__ import annotations

import re

import pytest

import tq
from tq import errors
from tq.errors import Rejected, TqError, Unavailable, UnknownOutcome, from_refusal
from tq.protocol import Code

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
