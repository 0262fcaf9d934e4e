"""Every answer to a client leaves through here: made, counted, sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, cast

from node.leadership import Leadership
from node.session import Session
from statemachine import (
    Accepted,
    BatchAccepted,
    Done,
    Recorded,
    Refused,
    Registered,
    Reply,
)
from tq.errors import FrameTooLarge
from tq.protocol import ARRAY_MAX, Code, Type, encode

NO_QUORUM_RETRY_MS: Final = 200
SHUTDOWN_RETRY_MS: Final = 500

_NAMES: Final = {int(one): one.name for one in Type}
_OTHER: Final = "UNKNOWN"
_REMEDIES: Final = {
    int(Type.LIST_WORKERS): (
        "; GET_STATS counts workers: spread them over namespaces, or give them fewer capabilities"
    ),
    int(Type.GET_STATS): (
        "; LIST_TASKS looks into one queue, and the metrics name some: have fewer queues"
    ),
}
"""What may be done where an answer has outgrown the protocol, by type of the request."""


class Answers:
    """Makes and sends the answers of this node.

    Args:
        leadership: Who leads.
        count: Told of every answer: name of the request's type, code.
    """

    def __init__(self, leadership: Leadership, *, count: Callable[[str, str], None]) -> None:
        self._leadership = leadership
        self._count = count
        self._held: list[tuple[Session, int, int]] | None = None
        """Redirects that wait for the new leader's name: (session, type, request id)."""
        self._silent = False

    def fall_silent(self) -> None:
        """Say nothing from now on: the process ends, and the machine may hold half of something.

        What was made before still leaves.
        """
        self._silent = True

    def hold_redirects(self) -> None:
        """Keep redirects from now on: leadership is on its way to another node."""
        if self._held is None:
            self._held = []

    def release_redirects(self) -> None:
        """Send what was kept, with the leader as it is known now."""
        held, self._held = self._held or [], None
        for session, type_, request_id in held:
            self.redirect(session, type_, request_id)

    def ack(self, session: Session, type_: int, fields: Sequence[object]) -> None:
        """Answer with success; with TOO_LARGE if the protocol cannot carry the answer.

        Args:
            session: Who asked.
            type_: Type of the request.
            fields: The payload, the request id first, then values or maps of values.
        """
        try:
            frame = encode(Type.ACK, fields)
        except FrameTooLarge as error:
            self._too_large(session, type_, fields, str(error))
            return
        # An array has a byte of the frame for each of its elements, or more.
        if len(frame) > ARRAY_MAX and (length := _longest_array(fields)) > ARRAY_MAX:
            text = f"an array would have {length} elements, over the limit of {ARRAY_MAX}"
            self._too_large(session, type_, fields, text)
            return
        if not self._silent:
            self._count(_NAMES[type_], "ACK")
            session.send(frame)

    def _too_large(
        self, session: Session, type_: int, fields: Sequence[object], limit: str
    ) -> None:
        request_id = cast("int", fields[0])
        text = f"the answer is too long: {limit}{_REMEDIES.get(type_, '')}"
        self.nack(session, type_, request_id, code=Code.TOO_LARGE, text=text)

    def nack(
        self,
        session: Session,
        type_: int,
        request_id: int,
        *,
        code: str,
        text: str,
        retry_after_ms: int | None = None,
    ) -> None:
        """Answer with a refusal; the connection ends with it when the bytes were no request."""
        if self._silent:
            return
        self._count(_NAMES.get(type_, _OTHER), code)
        frame = encode(Type.NACK, [request_id, code, text, retry_after_ms])
        if code == Code.MALFORMED:
            session.end(frame)
        else:
            session.send(frame)

    def redirect(self, session: Session, type_: int, request_id: int) -> None:
        """Name the leader: this node does not lead."""
        if self._held is not None:
            self._held.append((session, type_, request_id))
            return
        if self._silent:
            return
        self._count(_NAMES[type_], "REDIRECT")
        leadership = self._leadership
        address = "" if leadership.leads else leadership.leader_address
        session.send(encode(Type.REDIRECT, [request_id, address, leadership.term]))

    def not_accepted(self, session: Session, type_: int, request_id: int) -> None:
        """Say that the request certainly has no effect, and where to try again."""
        if not self._leadership.leads or self._held is not None:
            self.redirect(session, type_, request_id)
            return
        self.nack(
            session,
            type_,
            request_id,
            code=Code.NO_QUORUM,
            text="the leader cannot reach a quorum",
            retry_after_ms=NO_QUORUM_RETRY_MS,
        )

    def unknown_outcome(self, session: Session, type_: int, request_id: int) -> None:
        """Say that the request may or may not have an effect."""
        self.nack(
            session,
            type_,
            request_id,
            code=Code.UNKNOWN_OUTCOME,
            text="nobody knows whether the request has had, or will have, its effect: ask again",
            retry_after_ms=0,
        )

    def shutting_down(self, session: Session, type_: int, request_id: int) -> None:
        """Refuse new work: this node drains."""
        self.nack(
            session,
            type_,
            request_id,
            code=Code.SHUTTING_DOWN,
            text="the node is shutting down",
            retry_after_ms=SHUTDOWN_RETRY_MS,
        )

    def reply(self, session: Session, type_: int, request_id: int, reply: Reply) -> None:
        """Send what the machine replied, grants excepted: those carry payloads."""
        if type(reply) is Accepted:
            self.ack(session, type_, (request_id, reply.log_index))
            return
        match reply:
            case Recorded():
                self.ack(session, type_, (request_id, reply.state))
            case Done():
                self.ack(session, type_, (request_id,))
            case Refused():
                self.nack(
                    session,
                    type_,
                    request_id,
                    code=reply.code,
                    text=reply.text,
                    retry_after_ms=reply.retry_after_ms,
                )
            case BatchAccepted():
                listed = [_batch_item(item) for item in reply.replies]
                self.ack(session, type_, (request_id, listed))
            case Registered():
                self.ack(session, type_, (request_id, reply.session, reply.lease_ms))
            case _:
                raise AssertionError(f"a {type(reply).__name__} has no plain answer")


def _longest_array(fields: Sequence[object]) -> int:
    """Count the elements of the longest array among the fields, and in maps among them."""
    values = (
        value for one in fields for value in (one.values() if isinstance(one, dict) else (one,))
    )
    return max((len(value) for value in values if isinstance(value, list | tuple)), default=0)


def _batch_item(item: Accepted | Refused) -> tuple[object, ...]:
    if isinstance(item, Accepted):
        return (0, item.log_index)
    return (item.code, item.text, item.retry_after_ms)
