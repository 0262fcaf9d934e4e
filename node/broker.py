"""The node's side of consensus: what was applied, dropped or changed, and what follows.

`Broker` joins the parts that serve clients and hears the replica as its `Listener`.
It knows no socket and no event loop: clocks and `schedule` are given.
"""

from __future__ import annotations

import logging
from typing import Final

from cluster.configuration import ChangeRefusal, Configuration
from cluster.faults import DiskFailedError, StartError
from cluster.interface import DropReason, Status
from node.answers import Answers
from node.claims import Claims
from node.dispatcher import Dispatcher
from node.door import Door
from node.leadership import Leadership
from node.leases import LeaseKeeper
from node.lessons import Lessons
from node.members import Members
from node.proposer import Batch, Proposer, Request
from node.queries import Queries
from node.reads import Barriers
from node.registrations import Registrations
from node.surroundings import Consensus, Observer, Rules, Surroundings
from node.timekeeper import Timekeeper
from node.workers import Workers
from statemachine import (
    Expire,
    InternalCommand,
    Machine,
    Outcome,
    Release,
    Reply,
    Retire,
    Submit,
    SubmitBatch,
    encode_internal,
    join_entry,
)

_LOG = logging.getLogger(__name__)

STOOD_STILL_S: Final = 0.5
"""After so long without a tick the process, or its machine, was stopped. It is what a heartbeat
in time leaves of the shortest lease."""
BARRIER_RETRY_S: Final = 0.2
"""When a new leader whose first barrier failed asks again."""


class Broker:
    """Serves clients on top of a machine and consensus.

    Args:
        machine: The replicated machine; read between entries.
        consensus: Takes entries and barriers.
        rules: From the configuration.
        around: Clocks, loop and addresses.
        observer: Gets the figures.
    """

    def __init__(
        self,
        machine: Machine,
        consensus: Consensus,
        *,
        rules: Rules,
        around: Surroundings,
        observer: Observer,
    ) -> None:
        self._machine = machine
        self._around = around
        self._observer = observer
        now_s = around.now_s
        self.leadership = Leadership(node_id=rules.node_id, client_address=around.client_address)
        self.leases = LeaseKeeper(
            lease_of=machine.lease_of, session_s=lambda: machine.settings.lease_ms / 1000
        )
        self._answers = Answers(self.leadership, count=observer.count_request)
        self._workers = Workers()
        self._registrations = Registrations(leases=self.leases, answers=self._answers, now_s=now_s)
        self._door = Door(
            machine,
            payload_max_bytes=rules.payload_max_bytes,
            disk_low=around.disk_low,
            is_current=lambda: self.leases.counting,
        )
        self._barriers = Barriers(consensus.read_barrier, around.schedule)
        self._timekeeper = Timekeeper(
            machine, leases=self.leases, rules=rules, started_s=around.now_s()
        )
        self.proposer = Proposer(
            propose=consensus.propose,
            join=join_entry,
            failed=self._fail,
            schedule=around.schedule,
            now_s=now_s,
            wall_ms=around.wall_ms,
        )
        self.claims = Claims(
            machine,
            proposer=self.proposer,
            leases=self.leases,
            answers=self._answers,
            barriers=self._barriers,
            now_s=now_s,
        )
        self.queries = self._make_queries()
        self._members = Members(
            consensus.change_members,
            answers=self._answers,
            barriers=self._barriers,
            peer_addresses=around.peer_addresses,
            reachable=around.reachable,
            look=around.look,
        )
        self.dispatcher = self._make_dispatcher()
        self._take_over_at_s: float | None = None
        self._ticked_s = now_s()
        self._handing_over = False
        self._lessons = Lessons(
            door=self._door,
            leases=self.leases,
            workers=self._workers,
            registrations=self._registrations,
            is_registered=lambda session: machine.session(session) is not None,
            observe_run=observer.observe_run,
            now_s=now_s,
        )

    def _make_queries(self) -> Queries:
        around = self._around
        return Queries(
            self._machine,
            barriers=self._barriers,
            leases=self.leases,
            workers=self._workers,
            answers=self._answers,
            node_status=around.node_status,
            applied_index=around.applied_index,
            log_hashes=around.log_hashes,
            schedule=around.schedule,
            now_s=around.now_s,
        )

    def _make_dispatcher(self) -> Dispatcher:
        return Dispatcher(
            leadership=self.leadership,
            answers=self._answers,
            door=self._door,
            proposer=self.proposer,
            claims=self.claims,
            registrations=self._registrations,
            queries=self.queries,
            members=self._members,
            gate=self._around.gate,
            welcome=self._welcome,
            now_s=self._around.now_s,
        )

    # ------------------------------------------------------------ the replica's listener

    def applied(self, index: int, outcome: object, context: object | None) -> None:
        """Answer the commands of an entry of ours, and follow the hints of any entry."""
        del index
        if type(outcome) is not Outcome:
            return  # the no-op of a new leader
        if type(context) is Batch and self.proposer.settled(context):
            for request, reply in zip(context.requests, outcome.replies, strict=True):
                self._answer_safely(request, reply)
        if self.leadership.leads:
            if outcome.advance_due:
                self._timekeeper.advance_due()
            if outcome.ready:
                self.claims.wake(outcome.ready)
        if outcome.finished:
            self.queries.finished(outcome.finished)

    def dropped(self, context: object, reason: DropReason) -> None:
        """Answer the commands of an entry that gets no outcome here."""
        if isinstance(context, Batch) and self.proposer.settled(context):
            self._drop(context.requests, unknown=reason == "UNKNOWN_OUTCOME")

    def read_done(self, context: object, ok: bool) -> None:
        """Go on with the reads behind a barrier."""
        self._barriers.passed(context, ok=ok)

    def change_done(self, context: object, index: int, refusal: ChangeRefusal | None) -> None:
        """Answer who wanted the members changed."""
        self._members.done(context, index, refusal)

    def members_changed(self, configuration: Configuration, index: int) -> None:
        """Let the node say who belongs to the cluster now."""
        self._around.members_changed(configuration, index)

    def removed(self, index: int) -> None:
        """End the process in good order: the cluster goes on without it."""
        self._around.removed(index)

    def role_changed(self, status: Status) -> None:
        """Begin or end a term of leadership."""
        self._around.role_changed(status)
        led, term = self.leadership.leads, self.leadership.term
        leader_id = status.leader_id
        if status.role == "leader":
            leader_id = status.node_id
        elif leader_id == status.node_id:
            leader_id = None
        self.leadership.changed(leader_id=leader_id, term=status.term)
        leads = self.leadership.leads
        if led and (not leads or status.term != term):
            self._stand_down()
        if leads and (not led or status.term != term):
            self._lead()
        if self._handing_over and self.has_handed_over:
            self.end_hand_over()

    def fatal(self, text: str) -> None:
        """End the process: an invariant is broken, and nothing here can be trusted."""
        self._answers.fall_silent()
        self._around.fatal(text)

    # ------------------------------------------------------------ time

    def tick(self) -> None:
        """Do what is due. Called every few tens of milliseconds."""
        now_s = self._around.now_s()
        since_s, self._ticked_s = now_s - self._ticked_s, now_s
        if since_s > STOOD_STILL_S:
            self.leases.stood_still(since_s)
        self.claims.poll(now_s)
        self.queries.poll(now_s)
        self.proposer.poll()
        if not self.leadership.leads:
            return
        if self.proposer.is_stuck:
            self._answer_in_doubt()
        if self._take_over_at_s is not None and now_s >= self._take_over_at_s:
            self._ask_to_take_over()
        try:
            commands = self._timekeeper.poll(
                now_s=now_s,
                heard_s=self.queries.heard_until(now_s),
                wall_ms=self._around.wall_ms,
            )
        except (StartError, DiskFailedError):
            return  # it was told of: the process ends
        for command in commands:
            self._propose(command)

    # ------------------------------------------------------------ handing over, draining

    @property
    def has_handed_over(self) -> bool:
        """Whether another node leads, and clients can be told where."""
        return not self.leadership.leads and bool(self.leadership.leader_address)

    def begin_hand_over(self) -> None:
        """Keep what comes from now on; what is under way goes on.

        Neither refused nor dropped: in a moment the new leader is known, and every client
        that waits is sent straight to it.
        """
        self._handing_over = True
        self._answers.hold_redirects()
        self.dispatcher.hold()

    def end_hand_over(self) -> None:
        """Send clients to the new leader; serve them here if there is none."""
        self._handing_over = False
        self._answers.release_redirects()
        self.dispatcher.go_on()

    @property
    def idle(self) -> bool:
        """Nothing is under way: each command and each claim has its answer."""
        return self.proposer.idle and self.claims.idle

    def drain(self) -> None:
        """Refuse new work and send away what is parked; what is under way goes on."""
        self.dispatcher.drain()
        self.claims.drain()
        self.queries.drain()

    # ------------------------------------------------------------ leadership

    def _lead(self) -> None:
        self.claims.lead()
        # First of all, so that it is in the entry before any client's command.
        settings = self._timekeeper.bootstrap()
        if settings is not None:
            self._propose(settings)
        self._ask_to_take_over()

    def _ask_to_take_over(self) -> None:
        self._take_over_at_s = None
        term = self.leadership.term

        def take_over(ok: bool) -> None:
            if not self.leadership.leads or self.leadership.term != term:
                return
            now_s = self._around.now_s()
            if not ok:
                self._take_over_at_s = now_s + BARRIER_RETRY_S
                return
            sessions = list(self._machine.sessions())
            self._workers.take_over(sessions)
            self.leases.take_over(
                self._machine.leases(), [one.session for one in sessions], now_s=now_s
            )

        self._barriers.add(take_over)

    def _stand_down(self) -> None:
        self._take_over_at_s = None
        self.leases.stand_down()
        self._workers.stand_down()
        self._timekeeper.stand_down()
        self._drop(self.proposer.take_waiting(), unknown=False)
        self._barriers.fail()
        self.claims.stand_down()
        self.queries.stand_down()

    # ------------------------------------------------------------ answers

    def _answer_safely(self, request: Request, reply: Reply) -> None:
        """Answer one request; whatever goes wrong must not reach the others, or consensus."""
        try:
            self._answer(request, reply)
        except Exception:  # noqa: BLE001 - see above
            _LOG.exception("a %s could not be answered", type(request.command).__name__)
            if request.session is not None:
                request.session.give_up()

    def _answer(self, request: Request, reply: Reply) -> None:
        if request.claim is not None:
            self.claims.replied(request.claim, reply)
            return
        self._lessons.learn(request.command, reply)
        if request.done is not None:
            request.done()
        session = request.session
        if session is not None:
            session.settle(len(request.spliced))
            if not session.closed and not request.told:
                request_id = request.command.request_id
                self._answers.reply(session, request.type, request_id, reply)

    def _drop(self, requests: list[Request], *, unknown: bool) -> None:
        for request in requests:
            try:
                self._drop_one(request, unknown=unknown)
            except Exception:  # noqa: BLE001 - one must not reach the others, or consensus
                _LOG.exception("a %s could not be answered", type(request.command).__name__)

    def _drop_one(self, request: Request, *, unknown: bool) -> None:
        command = request.command
        if request.claim is not None:
            self.claims.dropped(request.claim, unknown=unknown)
            return
        if isinstance(command, Submit | SubmitBatch):
            self._door.arrived(command)
        if request.done is not None:
            request.done()
        if isinstance(command, Retire):
            self._timekeeper.sweep_again(self._around.now_s())
        elif isinstance(command, Release) and request.session is None and self.leadership.leads:
            self.claims.release_dropped(request)
        if request.session is not None:
            request.session.settle(len(request.spliced))
            if not request.told:
                answer = self._answers.unknown_outcome if unknown else self._answers.not_accepted
                answer(request.session, request.type, command.request_id)

    def _answer_in_doubt(self) -> None:
        """Keep nobody waiting while nothing can be committed.

        A leader stays in office while it fills the follower that makes its majority, and that
        may take minutes. What is under way may still be committed: whoever asked is told once
        that nobody knows, and the rest is done when its outcome comes.
        """
        self._drop(self.proposer.take_waiting(), unknown=False)
        for request in self.proposer.under_way():
            if request.session is not None and not request.told:
                request.told = True
                if not request.session.closed:
                    request_id = request.command.request_id
                    self._answers.unknown_outcome(request.session, request.type, request_id)
        self.claims.tell_unknown()
        self._registrations.tell_unknown()

    def _fail(self, batch: Batch) -> None:
        """Answer a batch whose entry raised on its way: nobody knows how far it came."""
        self._drop(batch.requests, unknown=True)

    def _welcome(self) -> dict[str, object]:
        return {
            **self._around.welcome(),
            "leader": self.leadership.leader_address,
            "term": self.leadership.term,
            "claim_max": self._machine.settings.claim_max,
        }

    # ------------------------------------------------------------ the node's own commands

    def _propose(self, command: InternalCommand) -> None:
        tasks = 1
        if isinstance(command, Expire):
            tasks = len(command.leases)
        elif isinstance(command, Retire):
            tasks = len(command.task_ids)
        request = Request(command, encode_internal(command), type_=0, tasks=tasks)

        request.done = lambda: self._timekeeper.settled(command)
        self.proposer.add(request)
