"""Request in, command or answer out: the one place that knows every message type.

The order of questions is the same for all: is it a request, was HELLO accepted, does
this node lead, is it well formed, does the door admit it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from node.answers import Answers
from node.claims import Claims
from node.door import Door
from node.gate import Gate
from node.leadership import Leadership
from node.members import Members
from node.proposer import Proposer, Request
from node.queries import Queries
from node.registrations import Registrations
from node.requests import NoRoomError, RequestError, parse_hello, request_id_of
from node.session import Session
from node.tokens import Role
from node.waiting import ParkedClaim, ParkedWait
from statemachine import (
    Claim,
    ClientCommand,
    Extend,
    Invalid,
    RegisterWorker,
    SubmitBatch,
    command_prefix,
    decode_command,
)
from tq.protocol import Code, Type

_LOGGED: Final = frozenset(
    {
        Type.REGISTER_WORKER,
        Type.DEREGISTER_WORKER,
        Type.SUBMIT_TASK,
        Type.SUBMIT_BATCH,
        Type.CLAIM_TASK,
        Type.TASK_RESULT,
        Type.EXTEND,
        Type.PROGRESS,
        Type.RELEASE,
        Type.CANCEL_TASK,
    }
)
_NEW_WORK: Final = frozenset(
    {Type.REGISTER_WORKER, Type.SUBMIT_TASK, Type.SUBMIT_BATCH, Type.CLAIM_TASK}
)
"""Refused while the node drains; results and renewals are still taken."""
_ADMIN: Final = frozenset({Type.CHANGE_MEMBERS, Type.DIGEST, Type.LOG_HASHES})
"""Asked by principals with the role `admin` alone."""


class Dispatcher:
    """Takes the frames of every session.

    Args:
        leadership: Who leads.
        answers: Sends the answers.
        door: Admits commands.
        proposer: Takes admitted commands.
        claims: Takes admitted claims.
        registrations: Knows copies of registrations.
        queries: Answers what enters no log.
        members: Takes changes of the members.
        gate: Lets clients in, or not.
        welcome: The info map of an accepted HELLO.
        now_s: The monotonic clock, seconds.
    """

    def __init__(
        self,
        *,
        leadership: Leadership,
        answers: Answers,
        door: Door,
        proposer: Proposer,
        claims: Claims,
        registrations: Registrations,
        queries: Queries,
        members: Members,
        gate: Gate,
        welcome: Callable[[], Mapping[str, object]],
        now_s: Callable[[], float],
    ) -> None:
        self._leadership = leadership
        self._answers = answers
        self._door = door
        self._proposer = proposer
        self._claims = claims
        self._registrations = registrations
        self._queries = queries
        self._gate = gate
        self._welcome = welcome
        self._now_s = now_s
        self._draining = False
        self._held: list[tuple[Session, int, bytes]] | None = None
        """Commands that wait while leadership is on its way to another node."""
        self._any_node: dict[int, Callable[[Session, bytes], None]] = {
            Type.HELLO: self._hello,
            Type.HEARTBEAT: self._heartbeat,
            Type.QUERY_STATUS: self._status,
            Type.LIST_TASKS: self._list_tasks,
            Type.NODE_STATUS: queries.node_status,
            Type.DIGEST: queries.digest,
            Type.LOG_HASHES: queries.log_hashes,
        }
        self._leader_only: dict[int, Callable[[Session, bytes], None]] = {
            Type.WAIT_RESULT: queries.wait,
            Type.GET_STATS: queries.statistics,
            Type.LIST_WORKERS: queries.workers,
            Type.CHANGE_MEMBERS: members.change,
        }
        # Each takes the command its type decodes to.
        self._admit: dict[int, Callable[[Any], None]] = {
            Type.SUBMIT_TASK: door.submit,
            Type.SUBMIT_BATCH: door.submit_batch,
            Type.CLAIM_TASK: door.claim,
            Type.TASK_RESULT: door.result,
            Type.PROGRESS: self._admit_progress,
        }

    def receive(self, session: Session, message_type: int, body: bytes) -> None:
        """Handle one frame; whatever it holds, only its own session is touched."""
        try:
            self._receive(session, message_type, body)
        except NoRoomError as error:
            self._queries.behind_barrier(
                session,
                Type(message_type),
                error.request_id,
                lambda: self._receive_as_leader(session, message_type, body),
                size_bytes=len(body),
                at_once=True,
            )
        except RequestError as error:
            self._refuse(session, message_type, error)

    def closed(self, session: Session) -> None:
        """Forget what a closed connection had parked."""
        for parked in list(session.parked):
            if isinstance(parked, ParkedClaim):
                self._claims.closed(parked)
            elif isinstance(parked, ParkedWait):
                self._queries.closed(parked)

    def drain(self) -> None:
        """Refuse new work from now on."""
        self._draining = True

    def hold(self) -> None:
        """Keep commands from now on, neither taken nor refused."""
        if self._held is None:
            self._held = []

    def go_on(self) -> None:
        """Handle what was kept, as if it came now."""
        held, self._held = self._held or [], None
        for one in held:
            self._receive_later(*one)

    def _receive_later(self, session: Session, message_type: int, body: bytes) -> None:
        """Handle a frame that was kept, as if it came now."""
        session.settle(len(body))
        if not session.closed:
            self.receive(session, message_type, body)

    def _receive_as_leader(self, session: Session, message_type: int, body: bytes) -> None:
        """Handle a frame again that this node seemed to have no room for.

        It led after the frame came, so what it knows now is all that was accepted before.
        """
        try:
            self._receive(session, message_type, body)
        except RequestError as error:
            self._refuse(session, message_type, error)

    def _refuse(self, session: Session, message_type: int, error: RequestError) -> None:
        self._answers.nack(
            session,
            message_type,
            error.request_id,
            code=error.code,
            text=error.text,
            retry_after_ms=error.retry_after_ms,
        )

    def _receive(self, session: Session, message_type: int, body: bytes) -> None:
        if not session.accepted and message_type != Type.HELLO:
            self._refuse_stranger(session, message_type)
        elif message_type in _LOGGED:
            self._logged(session, message_type, body)
        elif message_type in _ADMIN and session.role is not Role.ADMIN:
            self._forbid(session, message_type, body)
        elif (anywhere := self._any_node.get(message_type)) is not None:
            anywhere(session, body)
        elif (handler := self._leader_only.get(message_type)) is None:
            raise RequestError(
                Code.UNKNOWN_TYPE,
                f"no request has the type 0x{message_type:02x}",
                request_id=request_id_of(body),
            )
        elif self._leadership.leads:
            handler(session, body)
        else:
            self._answers.redirect(session, message_type, request_id_of(body))

    def _logged(self, session: Session, type_: int, body: bytes) -> None:
        if self._held is not None:
            session.begin(len(body))
            self._held.append((session, type_, body))
            return
        if not self._leadership.leads:
            self._answers.redirect(session, type_, request_id_of(body))
            return
        if self._draining and type_ in _NEW_WORK:
            self._answers.shutting_down(session, type_, request_id_of(body))
            return
        try:
            command = decode_command(
                type_, body, namespace=session.namespace, principal=session.principal
            )
        except Invalid as error:
            raise RequestError(error.code, error.text, request_id=request_id_of(body)) from None
        if type(command) is RegisterWorker and self._is_copy(session, command, body):
            return
        admit = self._admit.get(type_)
        if admit is not None:
            admit(command)
        prefix = session.prefixes.get(type_)
        if prefix is None:
            prefix = command_prefix(type_, session.namespace, session.principal)
            session.prefixes[type_] = prefix
        self._propose(session, command, prefix + body, type_)

    def _propose(
        self, session: Session, command: ClientCommand, spliced: bytes, type_: int
    ) -> None:
        if type(command) is Claim:
            self._claims.receive(session, command, spliced)
            return
        tasks = len(command.tasks) if type(command) is SubmitBatch else 1
        session.begin(len(spliced))
        request = Request(command, spliced, type_=type_, session=session, tasks=tasks)
        if type(command) is Extend:
            request.done = self._claims.extending(command.token)
        elif type(command) is RegisterWorker:
            request.done = self._registrations.begin(command)
        self._proposer.add(request)

    def _is_copy(self, session: Session, command: RegisterWorker, body: bytes) -> bool:
        """Say whether a registration was proposed before; if so it has, or gets, that answer."""
        opened = self._registrations.opened(command)
        if opened is not None:
            self._queries.behind_barrier(
                session,
                Type.REGISTER_WORKER,
                command.request_id,
                partial(self._registrations.tell_again, session, command, opened),
                size_bytes=len(body),
                at_once=True,
            )
            return True
        later = partial(self._receive_later, session, int(Type.REGISTER_WORKER), body)
        return self._registrations.wait(session, command, len(body), later)

    def _hello(self, session: Session, body: bytes) -> None:
        hello = parse_hello(body)
        if session.accepted:
            raise RequestError(
                Code.BAD_REQUEST, "HELLO was accepted already", request_id=hello.request_id
            )
        admitted = self._gate.admit(hello.token)
        if isinstance(admitted, str):
            session.closing = True  # nothing more is taken from it
            self._gate.later(lambda: self._turn_away(session, hello.request_id, admitted))
            return
        session.principal, session.role = admitted
        session.accepted = True
        session.name = hello.client_name
        session.namespace = hello.namespace
        self._answers.ack(session, Type.HELLO, (hello.request_id, self._welcome()))

    def _turn_away(self, session: Session, request_id: int, text: str) -> None:
        session.closing = False
        self._answers.nack(session, Type.HELLO, request_id, code=Code.UNAUTHENTICATED, text=text)
        session.closing = True

    def _forbid(self, session: Session, message_type: int, body: bytes) -> None:
        self._gate.refused("role")
        raise RequestError(
            Code.FORBIDDEN,
            f"{Type(message_type).name} needs a token with the role admin, and that of "
            f"{session.principal} has the role {session.role}",
            request_id=request_id_of(body),
        )

    def _heartbeat(self, session: Session, body: bytes) -> None:
        self._queries.heartbeat(session, body, leads=self._leadership.leads)

    def _status(self, session: Session, body: bytes) -> None:
        self._queries.status(session, body, leads=self._leadership.leads)

    def _list_tasks(self, session: Session, body: bytes) -> None:
        self._queries.list_tasks(session, body, leads=self._leadership.leads)

    def _refuse_stranger(self, session: Session, message_type: int) -> None:
        self._answers.nack(
            session,
            message_type,
            0,
            code=Code.UNAUTHENTICATED,
            text="the first request of a connection must be HELLO",
        )
        session.closing = True

    def _admit_progress(self, command: Any) -> None:  # noqa: ANN401 - of the type PROGRESS decodes to
        self._door.progress(command, now_s=self._now_s())
