"""The way of a claim on the leader: propose, answer with payloads, park, wake.

A claim and its repetitions are one request: it waits once, with the latest of them, and all
their connections get its answer. If each waited, one that nobody listens to any more would be
granted tasks when the other has long been answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, TypeAlias

from node.answers import Answers
from node.leases import LeaseKeeper
from node.proposer import Proposer, Request
from node.reads import Barriers
from node.recent import Recent
from node.session import Session
from node.waiting import ClaimRequest, ClaimRoom, ParkedClaim, QueueKey
from statemachine import (
    Claim,
    CommandType,
    Grant,
    Granted,
    Machine,
    Release,
    Reply,
    command_prefix,
)
from tq.protocol import FRAME_MAX_BYTES, Code, Type, encode

CAUTIOUS_S: Final = 30.0
"""For so long a new leader proposes claims it would park: each may repeat one that was
granted before its time, and parking it would strand those tasks until their leases end."""
WorkerSession: TypeAlias = tuple[str, int]
"""Namespace and number of a worker's session."""

_KEPT_OF_ONE_MAX: Final = 4096
_KEPT_MAX: Final = 100_000
"""Bounds of how many claims are remembered, of one session and at all: some 40 MB. What lives
of a claim that was forgotten the machine knows."""
_ROOM_BYTES: Final = FRAME_MAX_BYTES - 4096
_GRANT_BYTES: Final = 512
"""Bound of a grant without its payload."""
_FRAME_HEAD_BYTES: Final = 5


class Claims:
    """Everything this node knows of claims.

    Args:
        machine: Read for payloads and for what can be claimed.
        proposer: Takes claims that may find something.
        leases: Learns every grant.
        answers: Sends the answers.
        barriers: Prove that this node leads.
        now_s: The monotonic clock, seconds.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        proposer: Proposer,
        leases: LeaseKeeper,
        answers: Answers,
        barriers: Barriers,
        now_s: Callable[[], float],
    ) -> None:
        self._machine = machine
        self._proposer = proposer
        self._leases = leases
        self._answers = answers
        self._barriers = barriers
        self._now_s = now_s
        self._room = ClaimRoom(machine.ready)
        self._under_way: dict[ClaimRequest, ParkedClaim] = {}
        self._granted: Recent[WorkerSession, tuple[int, ...]] = Recent(
            most_of_one=_KEPT_OF_ONE_MAX, most=_KEPT_MAX
        )
        """Tokens of the claims that were granted some of late."""
        self._unreleased: list[Request] = []
        """Releases of this node's own that were dropped."""
        self._cautious_until_s = 0.0
        self._draining = False

    @property
    def parked(self) -> int:
        """Claims that wait."""
        return len(self._room)

    @property
    def idle(self) -> bool:
        """No claim is on its way through the log or behind a barrier."""
        return not self._under_way

    def receive(self, session: Session, command: Claim, spliced: bytes) -> None:
        """Propose a claim, or let it wait if nothing is ready.

        A repetition takes the place of the claim it repeats.
        """
        now_s = self._now_s()
        claim = ParkedClaim(
            command,
            spliced,
            session=session,
            queues=[(command.namespace, queue) for queue in command.queues],
            until_s=now_s + command.wait_ms / 1000,
        )
        before = self._under_way.get(claim.request)
        if before is not None:
            claim.repeat(before.heir or before)
            before.heir = claim
            return
        self._room.replace(claim)
        worker = (command.namespace, command.session)
        claim.known = self._granted.get(worker, command.request_id, now_s=now_s) or ()
        if claim.known and not self._holds(claim):
            self._answer_empty(claim)  # what it was granted has ended: it was heard, or is lost
        elif self._is_for_the_log(claim) or now_s < self._cautious_until_s:
            self._propose(claim)
        elif command.wait_ms == 0 or self._draining:
            self._answer_empty_if_leading(claim)
        elif len(session.parked) >= session.limits.parked_max:
            self._refuse(claim, code=Code.RATE_LIMITED, text="too many requests are parked")
        else:
            self._room.park(claim)

    def _is_for_the_log(self, claim: ParkedClaim) -> bool:
        """Whether a claim may find something, or be refused, by what is committed."""
        session, request_id = claim.command.session, claim.command.request_id
        return (
            bool(claim.known)
            or self._room.reserve(claim)
            or bool(self._machine.claimed(session, request_id))
            or (self._leases.counting and not self._leases.is_alive(session))
        )

    def replied(self, claim: ParkedClaim, reply: Reply) -> None:
        """Answer a claim that went through the log; park it again if it found nothing."""
        was_woken = bool(claim.reserved)
        claim = self._arrived(claim)
        if not isinstance(reply, Granted):
            request_id = claim.command.request_id
            for connection in claim.connections:
                self._answers.reply(connection, Type.CLAIM_TASK, request_id, reply)
        elif reply.grants:
            self._granted_to(claim, reply.grants)
        elif self._draining or claim.until_s <= self._now_s():
            self._answer_empty(claim)
        elif claim.is_heard():
            full = len(claim.session.parked) >= claim.session.limits.parked_max
            if full and not was_woken:  # in the cautious time nobody has looked before
                self._refuse(claim, code=Code.RATE_LIMITED, text="too many requests are parked")
            else:
                self._room.park(claim, first=was_woken)
        self.wake(claim.queues)

    def dropped(self, claim: ParkedClaim, *, unknown: bool) -> None:
        """Answer a claim whose entry got no outcome here."""
        claim = self._arrived(claim)
        answer = self._answers.unknown_outcome if unknown else self._answers.not_accepted
        for connection in claim.connections:
            answer(connection, Type.CLAIM_TASK, claim.command.request_id)

    def tell_unknown(self) -> None:
        """Say that nobody knows what becomes of the claims under way; they go on all the same."""
        for one in self._under_way.values():
            claim = one.heir or one
            for connection in claim.tell_nobody():
                request_id = claim.command.request_id
                self._answers.unknown_outcome(connection, Type.CLAIM_TASK, request_id)

    def extending(self, token: int) -> Callable[[], None]:
        """Hold a lease that an EXTEND is under way for; return what lets it go."""
        self._leases.hold(token)
        return lambda: self._leases.let_go(token)

    def wake(self, queues: Iterable[QueueKey]) -> None:
        """Propose the parked claims that these queues can serve now."""
        for claim in self._room.wake(queues):
            self._propose(claim)

    def lead(self) -> None:
        """Begin a term of leadership."""
        self._cautious_until_s = self._now_s() + CAUTIOUS_S
        self._granted.clear()

    def stand_down(self) -> None:
        """Send every parked claim to the new leader."""
        self._unreleased.clear()
        for claim in self._room.clear():
            for connection in claim.connections:
                self._answers.redirect(connection, Type.CLAIM_TASK, claim.command.request_id)

    def drain(self) -> None:
        """Answer every parked claim with nothing, and park none from now on."""
        self._draining = True
        for claim in self._room.clear():
            self._answer_empty_if_leading(claim)

    def release_dropped(self, request: Request) -> None:
        """Propose a release of this node's own again, in a moment: nobody else would."""
        request.done = None  # who waited for it was answered now
        self._unreleased.append(request)

    def closed(self, claim: ParkedClaim) -> None:
        """Forget a parked claim whose connection is gone, and no earlier one is there."""
        self._room.remove(claim)
        if claim.is_heard():
            self._room.park(claim, first=True)

    def poll(self, now_s: float) -> None:
        """Answer the claims whose wait is over; wake what a lost hint left asleep."""
        for claim in self._room.pop_due(now_s):
            self._answer_empty_if_leading(claim)
        for claim in self._room.wake_any():
            self._propose(claim)
        dropped, self._unreleased = self._unreleased, []
        for request in dropped:
            self._proposer.add(request)  # a lease that has ended meanwhile is refused there

    def _holds(self, claim: ParkedClaim) -> bool:
        """Whether leases of a known claim live, those included that are being given back."""
        command = claim.command
        claimed = self._machine.claimed(command.session, command.request_id)
        return bool(claimed) or self._lives(claim.known)

    def _lives(self, tokens: Iterable[int]) -> bool:
        return any(self._machine.lease_of(token) is not None for token in tokens)

    def _propose(self, claim: ParkedClaim) -> None:
        command = claim.command
        # An expiry would follow it in the log, and end what its client has just been told of.
        claim.held = self._machine.claimed(command.session, command.request_id)
        for token in claim.held:
            self._leases.hold(token)
        self._under_way[claim.request] = claim
        claim.session.begin(len(claim.spliced))
        request = Request(
            claim.command, claim.spliced, type_=Type.CLAIM_TASK, tasks=claim.command.tasks_max
        )
        request.claim = claim
        self._proposer.add(request)

    def _answer_empty_if_leading(self, claim: ParkedClaim) -> None:
        """Answer with nothing once it is proved that this node still leads.

        Another leader may have granted this very request tasks, and a client that hears of
        nothing asks for them no more.
        """
        self._under_way[claim.request] = claim
        claim.session.begin(len(claim.spliced))
        self._barriers.add(partial(self._proved, claim))

    def _proved(self, claim: ParkedClaim, ok: bool) -> None:
        claim = self._arrived(claim)
        if not ok:
            for connection in claim.connections:
                request_id = claim.command.request_id
                self._answers.not_accepted(connection, Type.CLAIM_TASK, request_id)
        elif claim.until_s > self._now_s() and not self._draining:
            self._propose(claim)  # repeated meanwhile, to wait for longer
        else:
            self._answer_empty(claim)

    def _arrived(self, claim: ParkedClaim) -> ParkedClaim:
        """End the way of a claim; return who waits for its answer, itself or its repetition."""
        del self._under_way[claim.request]
        for token in claim.held:
            self._leases.let_go(token)
        claim.held = ()
        claim.session.settle(len(claim.spliced))
        self._room.give_back(claim)
        return claim.heir or claim

    def _granted_to(self, claim: ParkedClaim, grants: list[Grant]) -> None:
        """Note the leases of a claim, and tell of them."""
        now_s = self._now_s()
        for grant in grants:
            self._leases.granted(grant.token, lease_ms=grant.lease_ms, now_s=now_s)
        if claim.known:
            others = [one for one in grants if one.token not in claim.known]
            if others:
                self._give_back(claim, others)
                return
        else:
            namespace, session, request_id = claim.request
            tokens = tuple(grant.token for grant in grants)
            self._granted.note((namespace, session), request_id, tokens, now_s=now_s)
        for connection in claim.connections:
            connection.when_room(partial(self._answer, claim, grants, connection))

    def _give_back(self, claim: ParkedClaim, others: list[Grant]) -> None:
        """Answer a repetition with nothing once what it was granted now is released.

        Its tasks ended while it was on its way, and it was granted others as if it were new.
        The client may have had its answer, and wait for no second one.
        """
        under_way = {one.token for one in others}
        self._under_way[claim.request] = claim
        claim.session.begin(len(claim.spliced))

        def released(token: int) -> None:
            under_way.discard(token)
            if under_way:
                return
            if self._lives(one.token for one in others):
                self.dropped(claim, unknown=True)
            else:
                self._answer_empty(self._arrived(claim))

        self._release(claim.command, others, released)

    def _answer(self, claim: ParkedClaim, grants: list[Grant], connection: Session) -> None:
        if connection.closed:
            return
        listed: list[tuple[object, ...]] = []
        size_bytes = 0
        # The client may have been slow to read what came before, and leases do not wait.
        grants = [grant for grant in grants if self._machine.lease_of(grant.token) is not None]
        for number, grant in enumerate(grants):
            payload = self._machine.payload(grant.task_id)
            size_bytes += len(payload) + _GRANT_BYTES
            if number and size_bytes > _ROOM_BYTES:
                self._release(claim.command, grants[number:])
                break
            listed.append((*grant[:4], payload, *grant[4:]))
        fields = (claim.command.request_id, listed)
        self._answers.ack(connection, Type.CLAIM_TASK, fields)

    def _release(
        self, command: Claim, grants: list[Grant], released: Callable[[int], None] | None = None
    ) -> None:
        """Give tasks back; `released` hears of each token's release, applied or dropped."""
        head = command_prefix(CommandType.RELEASE, command.namespace, command.principal)
        for grant in grants:
            release = Release(0, command.namespace, command.principal, grant.task_id, grant.token)
            body = encode(Type.RELEASE, (0, grant.task_id, grant.token))[_FRAME_HEAD_BYTES:]
            request = Request(release, head + body, type_=Type.RELEASE)
            if released is not None:
                request.done = partial(released, grant.token)
            self._proposer.add(request)

    def _answer_empty(self, claim: ParkedClaim) -> None:
        for connection in claim.connections:
            self._answers.ack(connection, Type.CLAIM_TASK, (claim.command.request_id, ()))

    def _refuse(self, claim: ParkedClaim, *, code: str, text: str) -> None:
        for connection in claim.connections:
            self._answers.nack(
                connection,
                Type.CLAIM_TASK,
                claim.command.request_id,
                code=code,
                text=text,
                retry_after_ms=1000 if code == Code.RATE_LIMITED else None,
            )
