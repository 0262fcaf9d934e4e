"""What serves clients and what starts a node, with one rule taken out each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cluster.interface import DropReason
from node.broker import Broker
from node.claims import Claims
from node.door import Door
from node.leases import Lease, LeaseKeeper
from node.proposer import Batch
from node.reads import Barriers, Read
from node.requests import RequestError
from node.waiting import ParkedClaim
from statemachine import Machine, TaskResult, decode_entry
from tq.protocol import Code

if TYPE_CHECKING:
    from tests.simulation.world import SimNode

_result = Door.result


def checks_the_token_at_receipt(door: Door, command: TaskResult) -> None:
    """The fence is at the door, where the log has not spoken yet."""
    _result(door, command)
    machine = door._machine  # the door's own method else
    status = machine.status(command.namespace, command.task_id)
    running = status is not None and status["state"] == "in_progress"
    if running and machine.lease_of(command.token) is None:
        raise RequestError(Code.LEASE_LOST, "no longer yours", request_id=command.request_id)


class WallClockBroker(Broker):
    """Gives its keeper of leases a wall clock beside the right one."""

    def __init__(self, machine: Machine, consensus: Any, **given: Any) -> None:
        super().__init__(machine, consensus, **given)
        around = given["around"]
        self.leases.wall_s = lambda: around.wall_ms() / 1000  # type: ignore[attr-defined]


class LeasesByWallClock(LeaseKeeper):
    """Leases end by the wall clock; sessions by the monotonic one."""

    def wall_s(self) -> float:
        raise NotImplementedError

    def take_over(self, leases: Iterable[Lease], sessions: Iterable[int], *, now_s: float) -> None:
        super().take_over((), sessions, now_s=now_s)
        for lease in leases:
            self.granted(lease.token, lease_ms=lease.lease_ms, now_s=now_s)

    def granted(self, token: int, *, lease_ms: int, now_s: float) -> None:
        super().granted(token, lease_ms=lease_ms, now_s=self.wall_s())

    def extended(self, token: int, *, now_s: float) -> None:
        super().extended(token, now_s=self.wall_s())

    def renew(self, session: int, tokens: Iterable[int], *, now_s: float) -> list[int] | None:
        lost = super().renew(session, tokens, now_s=self.wall_s())
        self.registered(session, now_s=now_s)
        return lost

    def expired(self, *, now_s: float) -> list[tuple[bytes, int]]:
        return super().expired(now_s=self.wall_s())


class SessionsByWallClock(LeaseKeeper):
    """Sessions end by the wall clock; leases by the monotonic one."""

    def wall_s(self) -> float:
        raise NotImplementedError

    def take_over(self, leases: Iterable[Lease], sessions: Iterable[int], *, now_s: float) -> None:
        super().take_over(leases, (), now_s=now_s)
        for session in sessions:
            self.registered(session, now_s=now_s)

    def registered(self, session: int, *, now_s: float) -> None:
        super().registered(session, now_s=self.wall_s())

    def renew(self, session: int, tokens: Iterable[int], *, now_s: float) -> list[int] | None:
        lost = super().renew(session, tokens, now_s=now_s)
        self.registered(session, now_s=now_s)
        return lost

    def dead_sessions(self, is_registered: Any, *, now_s: float) -> list[int]:
        return super().dead_sessions(is_registered, now_s=self.wall_s())


class ExpiresAtOnce(LeaseKeeper):
    """A new leader takes every lease for run out."""

    def take_over(self, leases: Iterable[Lease], sessions: Iterable[int], *, now_s: float) -> None:
        leases = list(leases)
        super().take_over(leases, sessions, now_s=now_s)
        for lease in leases:
            self.granted(lease.token, lease_ms=0, now_s=now_s)


class NoBarriers(Barriers):
    """A leader answers without asking whether it still leads."""

    def add(self, read: Read) -> None:
        self._schedule(lambda: read(True))


def takes_all_sessions_for_its_own(claims: Claims, claim: ParkedClaim) -> bool:
    """A claim of a session that this leader does not know is not for the log to judge."""
    return bool(claim.known) or claims._room.reserve(claim)


def answers_claims_unasked(claims: Claims, claim: ParkedClaim) -> None:
    """A leader tells what it knows of a claim without asking whether it still leads."""
    if claims._leases.is_alive(claim.command.session):
        claims._answer_empty(claim)
    else:
        claims._refuse(claim, code=Code.UNKNOWN_SESSION, text="not registered")


class RefusesUnasked(Exception):  # noqa: N818 - what is caught in the place of a refusal
    """A leader refuses for a full queue without asking whether it still leads."""


class SaysNotAccepted(Broker):
    """What may have taken effect is answered as if it certainly had not."""

    def dropped(self, context: object, reason: DropReason) -> None:
        super().dropped(context, "NOT_LEADER" if isinstance(context, Batch) else reason)


def ignores_the_mark(storage: object, damaged: bool) -> None:
    """What a start finds is all there ever was."""
    del storage, damaged


class ReadsTheClockInApply(Broker):
    """The machine takes its own node's time for the entry's."""

    def __init__(self, machine: Machine, consensus: Any, **given: Any) -> None:
        super().__init__(machine, consensus, **given)
        apply, around = machine.apply, given["around"]

        def late(index: int, entry: bytes, decoded: object | None = None) -> object:
            del decoded
            return apply(index, entry, (around.wall_ms(), decode_entry(entry)[1]))

        machine.apply = late  # type: ignore[method-assign, assignment]  # the plant


_at_hand: dict[int, SimNode] = {}
_raised: set[tuple[int, int]] = set()


def note_node(node: SimNode) -> None:
    """Let `OutOfMemory` find the nodes of the world that is set up."""
    if node.node_id == 1:
        _raised.clear()
    _at_hand[node.node_id] = node


class OutOfMemory(Broker):
    """Not a bug: the second node's machine raises now and then, before it has changed."""

    def __init__(self, machine: Machine, consensus: Any, **given: Any) -> None:
        super().__init__(machine, consensus, **given)
        apply, node = machine.apply, _at_hand[given["rules"].node_id]

        def tight(index: int, entry: bytes, decoded: object | None = None) -> object:
            doomed = node.node_id == 2 and index % 97 == 0 and (2, index) not in _raised
            if doomed and not node.world.healed:
                _raised.add((2, index))
                node.hurts.add("eio")  # it may end for that
                raise MemoryError
            return apply(index, entry, decoded)

        machine.apply = tight  # type: ignore[method-assign, assignment]  # the fault
