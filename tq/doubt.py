"""What a refusal says of an earlier sending of the same request: as a rule, nothing.

A request that lost its connection is sent again. If the second sending is refused because
the queue is full just then, the first may still be on its way into the log, and the task
is accepted after its caller heard that it was not. So a refusal settles such a request only
if it would have been the answer to every sending, whenever it arrived.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tq.errors import Rejected, TqError, Unavailable, UnknownOutcome
from tq.protocol import Code, Type
from tq.request import READS

if TYPE_CHECKING:
    from tq.request import Request

_SETTLING: Final[frozenset[str]] = frozenset(
    {
        Code.BAD_REQUEST,  # of every sending, for they are equal
        Code.CONFLICT,  # a task with this content would have been found instead
        Code.TOO_OLD,  # log time does not go back
        Code.LEASE_LOST,  # a lease does not come back; docs/protocol.md has the exceptions
        Code.UNKNOWN_SESSION,  # nor does a session
        "ALREADY",  # whoever did it, it is done
        "NO_SUCH_MEMBER",
    }
)


def lack(request: Request, why: str) -> TqError:
    """Return the error of a request that ends without an answer."""
    text = f"{request.message_type.name}: {why}"
    may_count = request.at_risk or request.connection is not None
    if may_count and request.message_type not in READS:
        return UnknownOutcome(text)
    return Unavailable(text)


def verdict(request: Request, error: Rejected) -> TqError:
    """Return what its caller has to hear of a request whose latest sending was refused."""
    error.repeated = request.at_risk
    if not request.at_risk or request.message_type in READS or error.code in _SETTLING:
        return error
    return UnknownOutcome(f"{request.message_type.name}: {_doubtful(str(error))}")


def verdicts(request: Request, payload: list[Any]) -> list[Any]:
    """Return the answer to a request, with the refusals of single tasks of a batch in doubt."""
    if not request.at_risk or request.message_type != Type.SUBMIT_BATCH:
        return payload
    match payload:
        case [request_id, list() as entries, *rest]:
            return [request_id, [_entry(entry) for entry in entries], *rest]
        case _:
            return payload


def _entry(entry: object) -> object:
    match entry:
        case [str() as code, str() as text, _] if code not in _SETTLING:
            return [Code.UNKNOWN_OUTCOME, _doubtful(f"{code}: {text}"), None]
        case _:
            return entry


def _doubtful(refusal: str) -> str:
    return (
        f"it was sent before, and that may yet take effect; sent again, it was refused: {refusal}"
    )
