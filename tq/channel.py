"""The client's way to the leader, whoever that is at the moment.

A request has one deadline and one frame, which is sent again and again, byte for byte,
until an answer settles it or the deadline passes: the task id, the token or the request
id inside make repeating it harmless. The caller waits on one future all the while; there
is no task per request, and no retry logic in the callers.

    unsent ──► sent on a connection ──► settled (ACK, NACK that is meant)
      ▲                │
      └────────────────┘  REDIRECT, "not now", or the connection is lost

One seeker task looks for the leader while requests wait without a connection, or for one
of a later term while the node they were sent to is silent: the node a REDIRECT named, then
all endpoints in turn, with backoff and jitter after a full round.

Whether an expired request may have been accepted is kept exactly: `at_risk` once a frame
was sent and the connection ended, or the leader lost its office, without an answer.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from tq.connection import Connection, refusal
from tq.doubt import lack, verdict, verdicts
from tq.errors import (
    BadRequest,
    ConfigError,
    ProtocolError,
    Rejected,
    TqError,
    Unavailable,
    UnknownOutcome,
    from_refusal,
)
from tq.given_up import GivenUpClaims
from tq.protocol import Code, Type
from tq.request import PARKED, Request, frame_of
from tq.room import Room
from tq.seeker import Seeker

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping, Sequence

    from tq.connection import Dial

REQUEST_ID_FIRST_MIN: Final = 2**56


class Channel:
    """Requests to the leader of one cluster.

    Args:
        endpoints: `host:port` each, at least one.
        name: The client's name, for the nodes' logs.
        options: HELLO's options: `namespace`, and `token` if there is one.
        dial: Makes transports.
        rng: Draws the jitter.
        in_flight_max: Requests at one time, parked claims and waits not counted; more
            wait for room.
        any_node: Whether a node that does not lead will do.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        name: str,
        options: Mapping[str, str],
        dial: Dial,
        rng: random.Random,
        in_flight_max: int,
        any_node: bool = False,
    ) -> None:
        self._seeker = Seeker(
            endpoints,
            name=name,
            options=options,
            dial=dial,
            make=self._make_connection,
            rng=rng,
            any_node=any_node,
        )
        self._in_flight_max = in_flight_max
        self.info: Mapping[str, Any] = {}
        """What the leader said of itself when it was last connected to; {} before."""
        self._reset()

    def _reset(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        # A session remembers its claims by their request ids, and may have several clients,
        # or one after the other: each counts from a place of its own.
        self._request_id = REQUEST_ID_FIRST_MIN + int.from_bytes(os.urandom(7))
        self._given_up = GivenUpClaims(self.call)
        # Every request that is not settled, in the order of the request ids.
        self._requests: dict[int, Request] = {}
        # What waits for room on the connection; without one, `_requests` says who waits.
        self._unsent: deque[Request] = deque()
        self._room = Room(self._in_flight_max)
        self._connection: Connection | None = None
        self._has_answered = False  # whether the node at its other end did, to any request
        # Left for another node, while their last answers may still come.
        self._leaving: list[Connection] = []
        self._search: asyncio.Task[None] | None = None
        self._seeker.start_over()

    # ---------------------------------------------------------------------- requests

    async def call(
        self, message_type: Type, fields: Sequence[object], *, deadline_s: float
    ) -> list[Any]:
        """Ask the leader.

        Args:
            message_type: A request.
            fields: The payload without its request id.
            deadline_s: Seconds until the request is given up, whatever happens.

        Returns:
            The payload of the ACK; element 0 is the request id.

        Raises:
            Unavailable: The deadline passed, and nothing was accepted.
            UnknownOutcome: The deadline passed, and it may have been accepted.
            Rejected: The cluster refused it.
            ConfigError: It holds something that cannot be sent.
        """
        expires_at_s = self._attach().time() + deadline_s
        if deadline_s <= 0:
            raise Unavailable(f"{message_type.name}: the deadline was over before it was sent")
        if message_type in PARKED:
            return await self._ask(message_type, fields, deadline_s, expires_at_s)
        room = self._room
        if not room.enter():
            await room.wait(expires_at_s)
        try:
            return await self._ask(message_type, fields, deadline_s, expires_at_s)
        finally:
            room.leave()

    async def _ask(
        self, message_type: Type, fields: Sequence[object], deadline_s: float, expires_at_s: float
    ) -> list[Any]:
        loop = asyncio.get_running_loop()
        if self._closed:  # while this waited for room
            raise Unavailable(f"{message_type.name}: the client was closed")
        self._request_id = request_id = self._request_id + 1
        frame = frame_of(message_type, [request_id, *fields])
        request = Request(message_type, frame, loop.create_future())
        self._requests[request_id] = request
        timer = loop.call_at(expires_at_s, self._expire, request, deadline_s)
        if self._connection is not None:
            self._unsent.append(request)
            self._send_unsent()
        if self._connection is None or self._connection.is_silent:
            self._seek()
        try:
            return await request.future
        except asyncio.CancelledError:
            if request.future.done() and not request.future.cancelled():
                failed = request.future.exception()  # nobody will ask for it any more
                if failed is None and message_type == Type.CLAIM_TASK:
                    self._given_up.give_back(request.future.result())
            raise
        finally:
            timer.cancel()
            self._requests.pop(request_id, None)
            self._note_given_up(request, request_id)

    def _note_given_up(self, request: Request, request_id: int) -> None:
        """Note a claim that may still be answered, and nobody waits for it any more."""
        if request.connection is not None and request.message_type == Type.CLAIM_TASK:
            self._given_up.note(request_id, request.connection)
            request.connection = None

    async def close(self) -> None:
        """Give up all requests and close all connections."""
        self._closed = True
        for request in self._requests.values():
            self._settle(request, self._lack(request, "the client was closed"))
        if self._search is not None:
            self._search.cancel()
            await asyncio.wait([self._search])
        connections = [*self._leaving, *([self._connection] if self._connection else [])]
        self._connection, self._leaving = None, []
        for connection in connections:
            connection.close()
        for connection in connections:
            await connection.wait_closed()
        await self._seeker.wait_closed()

    def _attach(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            if self._loop is not None:
                if not self._loop.is_closed():
                    raise ConfigError("this client belongs to another running event loop")
                self._reset()
            self._loop = loop
        if self._closed:
            raise ConfigError("this client was closed")
        return loop

    # ----------------------------------------------------------------------- sending

    def _send_unsent(self) -> None:
        connection = self._connection
        while connection is not None and self._unsent and not connection.paused:
            request = self._unsent.popleft()
            if request.future.done() or request.connection is not None:
                continue
            if len(request.frame) - 4 > connection.frame_max_bytes:
                text = f"the frame is over the node's limit of {connection.frame_max_bytes} bytes"
                self._settle(request, verdict(request, BadRequest(Code.TOO_LARGE, text)))
                continue
            request.connection = connection
            connection.send(request.frame)

    def _expire(self, request: Request, deadline_s: float) -> None:
        self._settle(request, self._lack(request, f"no answer within {deadline_s:.3g} s"))

    def _settle(self, request: Request, outcome: list[Any] | TqError) -> None:
        if request.future.done():
            return
        if isinstance(outcome, TqError):
            request.future.set_exception(outcome)
        else:
            request.future.set_result(outcome)

    def _lack(self, request: Request, why: str) -> TqError:
        """Make the error of a request that ends without an answer."""
        trouble = self._seeker.troubles()
        return lack(request, f"{why} ({trouble})" if trouble else why)

    # ----------------------------------------------------------------------- answers

    def _receive(self, connection: Connection, message_type: int, payload: list[Any]) -> None:
        request = self._requests.get(payload[0])
        if request is None or request.future.done():
            if message_type == Type.NACK and payload[0] == 0:
                connection.abort(f"refused by the node: {refusal(payload)}")
            if request is not None and request.connection is connection:
                self._note_given_up(request, payload[0])  # in this very moment
            self._given_up.answered(payload[0], message_type, payload)
            return
        if message_type == Type.ACK:
            self._note_answer(request)
            request.future.set_result(verdicts(request, payload))
        elif message_type == Type.NACK:
            self._refused(connection, request, payload)
        elif message_type == Type.REDIRECT:
            self._redirected(connection, request, payload)
        else:
            raise ProtocolError(f"an answer of type {message_type:#04x}")

    def _note_answer(self, request: Request) -> None:
        request.connection = None
        self._has_answered = True
        self._seeker.succeeded()

    def _refused(self, connection: Connection, request: Request, payload: list[Any]) -> None:
        error = refusal(payload)
        _, code, _, retry_after_ms = payload
        if isinstance(error, Rejected):
            self._note_answer(request)
            request.future.set_exception(verdict(request, error))
            return
        self._seeker.note(connection.address, str(error))
        request.at_risk = request.at_risk or isinstance(error, UnknownOutcome)
        self._take_back(connection, request)
        # A node that stops will not come to its senses: another one may lead already.
        rest_ms = 0 if code == Code.SHUTTING_DOWN else retry_after_ms or 0
        self._leave(connection, hint="", pause_min_s=rest_ms / 1000)

    def _redirected(self, connection: Connection, request: Request, payload: list[Any]) -> None:
        match payload:
            case [_, str() as leader, int()]:
                said = f"says that {leader} leads" if leader else "knows no leader"
                self._seeker.note(connection.address, said)
                self._take_back(connection, request)
                self._leave(connection, hint=leader, pause_min_s=0)
            case _:
                raise ProtocolError("a REDIRECT without leader and term")

    def _take_back(self, connection: Connection, request: Request) -> None:
        """Make a request unsent again that `connection` certainly did not accept."""
        if request.connection is connection:
            request.connection = None
            if self._connection not in {None, connection}:
                self._unsent.append(request)
                self._send_unsent()

    def _leave(self, connection: Connection, *, hint: str, pause_min_s: float) -> None:
        if connection is not self._connection:
            return
        self._connection = None
        self._leaving.append(connection)
        hint = hint if hint != connection.address else ""
        self._seeker.missed(hint=hint, pause_min_s=pause_min_s)
        self._seek()

    def _on_lost(self, connection: Connection, reason: str) -> None:
        if reason:
            self._seeker.note(connection.address, reason)
        for request in self._requests.values():
            if request.connection is connection:
                request.connection = None
                request.at_risk = True
        self._given_up.lost(connection)
        if connection in self._leaving:
            self._leaving.remove(connection)
        if connection is self._connection:
            self._connection = None
            if not self._has_answered:
                # Or a request that ends its connections would be sent a thousand times a second.
                self._seeker.missed()
            if self._is_anyone_waiting():
                self._seek()

    # ----------------------------------------------------------------------- seeking

    def _make_connection(self, address: str) -> Connection:
        return Connection(
            address,
            receive=self._receive,
            lost=self._on_lost,
            resumed=self._send_unsent,
            silent=self._on_silent,
            is_urgent=lambda: self._room.taken > 0,
        )

    def _on_silent(self, connection: Connection) -> None:
        if connection is self._connection and self._is_anyone_waiting():
            self._seek()

    def _seek(self) -> None:
        if self._search is None and not self._closed:
            self._search = asyncio.get_running_loop().create_task(self._find_leader())

    def _is_anyone_waiting(self) -> bool:
        return any(not request.future.done() for request in self._requests.values())

    async def _find_leader(self) -> None:
        try:
            while self._is_anyone_waiting():
                if self._connection is not None and not self._connection.is_silent:
                    return
                connection = await self._seeker.find(beside=self._connection)
                if connection is not None:
                    self._use(connection)
                    return
        except Rejected as error:
            # HELLO was refused for good. Each request gets an error of its own.
            for request in self._requests.values():
                own = from_refusal(error.code, error.text)
                assert isinstance(own, Rejected)
                request.at_risk = request.at_risk or request.connection is not None
                self._settle(request, verdict(request, own))
        finally:
            self._seeker.rest()
            self._search = None

    def _use(self, connection: Connection) -> None:
        if self._connection is not None:
            self._connection.abort("fell silent")
        leaving, self._leaving = self._leaving, []
        for old in leaving:  # tells _on_lost, which puts its unanswered requests at risk
            if old.has_unanswered:
                old.abort("another node is asked")  # and here no copy of them may come later
            else:
                old.close()
        self._connection, self._has_answered = connection, False
        self.info = connection.info
        self._unsent = deque(
            request for request in self._requests.values() if request.connection is None
        )
        self._send_unsent()
