"""Requests that enter no log: heartbeats, look-ups, waits, and what any node says of itself.

What speaks for the cluster waits for a read barrier; what a node says of itself
does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final

from cluster.interface import LogHashes
from node.answers import Answers
from node.digests import Digests
from node.leases import LeaseKeeper
from node.reads import Barriers
from node.requests import (
    Heartbeat,
    ListQuery,
    RequestError,
    StatusQuery,
    WaitQuery,
    parse_bare,
    parse_heartbeat,
    parse_list,
    parse_log,
    parse_query,
    parse_wait,
)
from node.session import Session
from node.turns import Turns
from node.waiting import ParkedWait, WaitRoom
from node.workers import Workers
from statemachine import Machine
from tq.protocol import Code, Type

_TERMINAL: Final = frozenset({"completed", "dead_letter", "cancelled"})
BEHIND_RETRY_MS: Final = 20
"""When a node that has not applied enough for a stale read may have done so."""


class Queries:
    """Answers from this node's memory.

    Args:
        machine: Read, never changed.
        barriers: Prove that this node leads.
        leases: Renewed by heartbeats.
        workers: Learn of heartbeats.
        answers: Sends the answers.
        node_status: The map of NODE_STATUS.
        applied_index: Where the machine stands.
        log_hashes: Checksums of the log: (from index, how many) -> a piece of it.
        schedule: Runs a callback soon in the event loop.
        now_s: The monotonic clock, seconds.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        barriers: Barriers,
        leases: LeaseKeeper,
        workers: Workers,
        answers: Answers,
        node_status: Callable[[], Mapping[str, object]],
        applied_index: Callable[[], int],
        log_hashes: Callable[[int, int], LogHashes],
        schedule: Callable[[Callable[[], None]], object],
        now_s: Callable[[], float],
    ) -> None:
        self._machine = machine
        self._barriers = barriers
        self._leases = leases
        self._workers = workers
        self._answers = answers
        self._node_status = node_status
        self._applied_index = applied_index
        self._log_hashes = log_hashes
        self._turns = Turns(schedule)
        self._digests = Digests(machine.digest, applied_index=applied_index, now_s=now_s)
        self._now_s = now_s
        self._waits = WaitRoom()
        self._beats_s: dict[object, float] = {}
        """When the heartbeats came that wait for their barrier, the oldest first."""

    @property
    def parked(self) -> int:
        """Waits for a task's end."""
        return len(self._waits)

    # ------------------------------------------------------------ any node

    def node_status(self, session: Session, body: bytes) -> None:
        """Answer NODE_STATUS."""
        request_id = parse_bare(body)
        self._answers.ack(session, Type.NODE_STATUS, (request_id, self._node_status()))

    def digest(self, session: Session, body: bytes) -> None:
        """Answer DIGEST: recomputed over the whole state, which takes its time."""
        request_id = parse_bare(body)
        rest_ms = self._digests.rest_ms()
        if rest_ms:
            raise RequestError(
                Code.RATE_LIMITED,
                "a digest over the whole state was just computed",
                request_id=request_id,
                retry_after_ms=rest_ms,
            )
        self._answers.ack(session, Type.DIGEST, (request_id, *self._digests.take()))

    def log_hashes(self, session: Session, body: bytes) -> None:
        """Answer LOG_HASHES."""
        request_id, start, limit = parse_log(body)

        def tell() -> None:
            piece = self._log_hashes(start, limit)
            self._answers.ack(session, Type.LOG_HASHES, (request_id, *piece))

        self._turns.add(session, tell)

    def keep_alive(self, session: Session, beat: Heartbeat) -> None:
        """Answer the heartbeat of no worker: the connection lives on."""
        if beat.tokens:
            raise RequestError(
                Code.BAD_REQUEST, "session 0 holds no tokens", request_id=beat.request_id
            )
        self._answers.ack(session, Type.HEARTBEAT, (beat.request_id, ()))

    # ------------------------------------------------------------ the leader

    def heartbeat(self, session: Session, body: bytes, *, leads: bool) -> None:
        """Renew a worker's leases once a barrier has passed; tell which are lost."""
        beat = parse_heartbeat(body)
        if beat.session == 0:
            self.keep_alive(session, beat)
        elif not leads:
            self._answers.redirect(session, Type.HEARTBEAT, beat.request_id)
        else:
            waits = object()
            self._beats_s[waits] = self._now_s()
            self.behind_barrier(
                session,
                Type.HEARTBEAT,
                beat.request_id,
                lambda: self._renew(session, beat),
                size_bytes=len(body),
                at_once=True,  # time runs, and the answer is short
            )
            self._barriers.add(lambda _ok: self._heard(waits))

    def _heard(self, waits: object) -> None:
        del self._beats_s[waits]

    def heard_until(self, now_s: float) -> float:
        """Return until when every heartbeat that came has done what it does.

        While barriers take their time, as over slow disks, no worker is late that was in time.
        """
        return next(iter(self._beats_s.values()), now_s)

    def status(self, session: Session, body: bytes, *, leads: bool) -> None:
        """Answer QUERY_STATUS: behind a barrier, or as this node has it if that will do."""
        query = parse_query(body)
        if query.is_stale:
            self._tell_stale(session, query)
        elif not leads:
            self._answers.redirect(session, Type.QUERY_STATUS, query.request_id)
        else:
            self.behind_barrier(
                session, Type.QUERY_STATUS, query.request_id, lambda: self._tell(session, query)
            )

    def list_tasks(self, session: Session, body: bytes, *, leads: bool) -> None:
        """Answer LIST_TASKS: behind a barrier, or as this node has it if that will do."""
        query = parse_list(body, session.namespace)

        def tell() -> None:
            page = self._machine.list_tasks(query.wanted)
            fields = (query.request_id, *page, self._applied_index())
            self._answers.ack(session, Type.LIST_TASKS, fields)

        if query.is_stale:
            self._require_applied(query)
            self._turns.add(session, tell)
        elif not leads:
            self._answers.redirect(session, Type.LIST_TASKS, query.request_id)
        else:
            in_turn = partial(self._turns.add, session, tell)
            self.behind_barrier(session, Type.LIST_TASKS, query.request_id, in_turn)

    def wait(self, session: Session, body: bytes) -> None:
        """Answer WAIT_RESULT when the task has ended or the wait is over."""
        query = parse_wait(body)
        self.behind_barrier(
            session, Type.WAIT_RESULT, query.request_id, lambda: self._tell_or_park(session, query)
        )

    def statistics(self, session: Session, body: bytes) -> None:
        """Answer GET_STATS."""
        request_id = parse_bare(body)

        def tell() -> None:
            fields = (request_id, self._machine.statistics())
            self._answers.ack(session, Type.GET_STATS, fields)

        in_turn = partial(self._turns.add, session, tell)
        self.behind_barrier(session, Type.GET_STATS, request_id, in_turn)

    def workers(self, session: Session, body: bytes) -> None:
        """Answer LIST_WORKERS for the namespace of the connection."""
        request_id = parse_bare(body)

        def tell() -> None:
            now_s = self._now_s()
            listed = [
                self._workers.describe(one, now_s=now_s)
                for one in self._machine.sessions(session.namespace)
            ]
            self._answers.ack(session, Type.LIST_WORKERS, (request_id, listed))

        in_turn = partial(self._turns.add, session, tell)
        self.behind_barrier(session, Type.LIST_WORKERS, request_id, in_turn)

    # ------------------------------------------------------------ parked waits

    def finished(self, task_ids: Iterable[bytes]) -> None:
        """Answer the waits for tasks that became terminal."""
        for wait in self._waits.finished(task_ids):
            self._tell_when_room(wait)

    def poll(self, now_s: float) -> None:
        """Answer the waits that are over with the state as it is."""
        for wait in self._waits.pop_due(now_s):
            self._tell_when_room(wait)

    def stand_down(self) -> None:
        """Send every parked wait to the new leader."""
        for wait in self._waits.clear():
            self._answers.redirect(wait.session, Type.WAIT_RESULT, wait.request_id)

    def drain(self) -> None:
        """Send every parked wait away: this node stops."""
        for wait in self._waits.clear():
            self._answers.shutting_down(wait.session, Type.WAIT_RESULT, wait.request_id)

    def closed(self, wait: ParkedWait) -> None:
        """Forget a wait whose connection is gone."""
        self._waits.remove(wait)

    # ------------------------------------------------------------

    def behind_barrier(
        self,
        session: Session,
        type_: Type,
        request_id: int,
        tell: Callable[[], None],
        *,
        size_bytes: int = 0,
        at_once: bool = False,
    ) -> None:
        """Answer when it is proved that this node led after the question came.

        What is told later than that, since the client has answers to read first, is no
        older for it.
        """
        session.begin(size_bytes)

        def told() -> None:
            session.settle(size_bytes)
            if not session.closed:
                tell()

        def read(ok: bool) -> None:
            if ok and not at_once:
                session.when_room(told)
            elif ok:
                told()
            else:
                session.settle(size_bytes)
                self._answers.not_accepted(session, type_, request_id)

        self._barriers.add(read)

    def _renew(self, session: Session, beat: Heartbeat) -> None:
        now_s = self._now_s()
        if not self._leases.counting:
            self._answers.not_accepted(session, Type.HEARTBEAT, beat.request_id)
            return
        if not self._leases.is_alive(beat.session):
            self._answers.nack(
                session,
                Type.HEARTBEAT,
                beat.request_id,
                code=Code.UNKNOWN_SESSION,
                text="the session is not registered",
            )
            return
        lost = self._leases.renew(beat.session, beat.tokens, now_s=now_s)
        self._workers.heard(beat.session, beat.stats, now_s=now_s)
        self._answers.ack(session, Type.HEARTBEAT, (beat.request_id, lost))

    def _require_applied(self, query: StatusQuery | ListQuery) -> None:
        """Refuse a stale read that wants more than this node has applied.

        The applied index of a process only grows, so one connection never sees an older
        state after a newer one. A client that moves to another node says what it has seen.
        """
        applied_index = self._applied_index()
        if applied_index < max(query.at_least, 1):  # with nothing applied, nothing is known
            raise RequestError(
                Code.BEHIND,
                f"this node has applied entry {applied_index} so far",
                request_id=query.request_id,
                retry_after_ms=BEHIND_RETRY_MS,
            )

    def _tell_stale(self, session: Session, query: StatusQuery) -> None:
        """Answer from the applied state, and name its index; nil where the task is not in it."""
        self._require_applied(query)
        session.begin(0)

        def told() -> None:
            session.settle(0)
            status = self._machine.status(session.namespace, query.task_id)
            fields = (query.request_id, status, self._applied_index())
            self._answers.ack(session, Type.QUERY_STATUS, fields)

        session.when_room(told)

    def _tell(self, session: Session, query: StatusQuery) -> None:
        status = self._machine.status(session.namespace, query.task_id)
        if status is None:
            self._not_found(session, Type.QUERY_STATUS, query.request_id)
        else:
            self._answers.ack(session, Type.QUERY_STATUS, (query.request_id, status))

    def _tell_or_park(self, session: Session, query: WaitQuery) -> None:
        status = self._machine.status(session.namespace, query.task_id)
        request_id = query.request_id
        if status is None:
            self._not_found(session, Type.WAIT_RESULT, request_id)
        elif query.wait_ms == 0 or status["state"] in _TERMINAL:
            self._answers.ack(session, Type.WAIT_RESULT, (request_id, status))
        elif len(session.parked) >= session.limits.parked_max:
            self._answers.nack(
                session,
                Type.WAIT_RESULT,
                request_id,
                code=Code.RATE_LIMITED,
                text="too many requests are parked",
                retry_after_ms=1000,
            )
        else:
            until_s = self._now_s() + query.wait_ms / 1000
            self._waits.park(
                ParkedWait(session, request_id=request_id, task_id=query.task_id, until_s=until_s)
            )

    def _tell_when_room(self, wait: ParkedWait) -> None:
        wait.session.when_room(lambda: self._tell_waiter(wait))

    def _tell_waiter(self, wait: ParkedWait) -> None:
        session = wait.session
        status = self._machine.status(session.namespace, wait.task_id)
        if status is None:
            self._not_found(session, Type.WAIT_RESULT, wait.request_id)
        else:
            self._answers.ack(session, Type.WAIT_RESULT, (wait.request_id, status))

    def _not_found(self, session: Session, type_: Type, request_id: int) -> None:
        text = "no task with this id in the namespace"
        self._answers.nack(session, type_, request_id, code=Code.NOT_FOUND, text=text)
