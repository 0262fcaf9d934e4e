"""Changes of the members, from the request to the answer.

The engine decides (`cluster.configuration`); here its words become texts that say what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from cluster.addresses import Address
from cluster.configuration import (
    MEMBERS_MAX,
    VOTERS_MAX,
    AddLearner,
    Change,
    ChangeRefusal,
    Promote,
)
from cluster.inquiry import Finding
from node.answers import Answers
from node.lookout import Seen
from node.reads import Barriers
from node.requests import RequestError, parse_change
from node.session import Session
from tq.protocol import Code, Type

RETRY_MS: Final = 100
"""When what stood in the way may be over: a change under way, a leader that hands over."""
CATCH_UP_RETRY_MS: Final = 500
START_RETRY_MS: Final = 1000
AT_RISK_RETRY_MS: Final = 500
"""A leader that is new has to hear from the others first."""

_TEXTS: Final[Mapping[str, tuple[Code, str, int | None]]] = {
    "CHANGE_UNDER_WAY": (
        Code.CHANGE_UNDER_WAY,
        "another change of the members is not committed yet",
        RETRY_MS,
    ),
    "NOT_SETTLED": (Code.NOT_SETTLED, "the leader has only just been elected", RETRY_MS),
    "HANDING_OVER": (
        Code.HANDING_OVER,
        "node {node} leads, and hands leadership over before it can be removed",
        RETRY_MS,
    ),
    "NO_SUCH_MEMBER": (Code.NO_SUCH_MEMBER, "node {node} is not a member of the cluster", None),
    "NOT_CAUGHT_UP": (
        Code.NOT_CAUGHT_UP,
        "node {node} has not caught up with the log yet: see LAG in `tq-admin cluster status`, and "
        "whether it is connected",
        CATCH_UP_RETRY_MS,
    ),
    "QUORUM_AT_RISK": (
        Code.QUORUM_AT_RISK,
        "afterwards too few voters would be connected and caught up for a majority: bring the "
        "others back first (`tq-admin cluster status` names them)",
        AT_RISK_RETRY_MS,
    ),
    "TOO_MANY": (
        Code.TOO_MANY_MEMBERS,
        f"a cluster has at most {VOTERS_MAX} voters, and {MEMBERS_MAX} members together",
        None,
    ),
}


class Asked(NamedTuple):
    """A change under way, and who wants it."""

    session: Session
    request_id: int
    change: Change


class Members:
    """Takes changes of the members to the engine and brings its answers back.

    Args:
        change_members: Of the replica.
        answers: Sends the answers.
        barriers: Prove that this node leads: of its members another one may know better.
        peer_addresses: Peer address by member, of the configuration in force.
        reachable: Says why no peer can be told to reach an address, "" if it can.
        look: Looks whether a node waits at its address; calls back.
    """

    def __init__(
        self,
        change_members: Callable[[Change, object], object],
        *,
        answers: Answers,
        barriers: Barriers,
        peer_addresses: Callable[[], Mapping[int, Address]],
        reachable: Callable[[Address], str],
        look: Callable[[AddLearner, Seen], None],
    ) -> None:
        self._change_members = change_members
        self._answers = answers
        self._barriers = barriers
        self._peer_addresses = peer_addresses
        self._reachable = reachable
        self._look = look
        self._looking = False

    def change(self, session: Session, body: bytes) -> None:
        """Take a CHANGE_MEMBERS; `done` answers it."""
        request_id, change = parse_change(body)
        asked = Asked(session, request_id, change)

        def take(ok: bool) -> None:
            if ok:
                self._take(asked)
            else:
                self.done(asked, 0, "NOT_LEADER")

        if isinstance(change, AddLearner):
            trouble = self._reachable(change.address)
            if trouble:
                raise RequestError(Code.BAD_REQUEST, trouble, request_id=request_id)
        self._barriers.add(take)

    def _take(self, asked: Asked) -> None:
        change = asked.change
        if isinstance(change, AddLearner) and change.node_id not in self._peer_addresses():
            self._look_first(asked, change)
        else:
            self._change_members(change, asked)

    def _look_first(self, asked: Asked, change: AddLearner) -> None:
        """Add nobody who does not answer: it would be missing until somebody removed it."""
        if self._looking:  # one at a time: each costs a connection to wherever a client says
            self.done(asked, 0, "CHANGE_UNDER_WAY")
            return
        self._looking = True

        def seen(finding: Finding | None) -> None:
            self._looking = False
            if finding is None:
                self._change_members(change, asked)
            elif not asked.session.closed:
                self._answers.nack(
                    asked.session,
                    Type.CHANGE_MEMBERS,
                    asked.request_id,
                    code=Code.NOT_WAITING,
                    text=finding.text,
                    retry_after_ms=START_RETRY_MS if finding.may_pass else None,
                )

        self._look(change, seen)

    def done(self, context: object, index: int, refusal: ChangeRefusal | None) -> None:
        """Answer a change that is committed, or was refused."""
        if not isinstance(context, Asked) or context.session.closed:
            return
        session, request_id, change = context
        if refusal is None:
            self._answers.ack(session, Type.CHANGE_MEMBERS, (request_id, index))
        elif refusal == "NOT_LEADER":
            self._answers.not_accepted(session, Type.CHANGE_MEMBERS, request_id)
        elif refusal == "UNKNOWN_OUTCOME":
            self._answers.unknown_outcome(session, Type.CHANGE_MEMBERS, request_id)
        else:
            code, text, retry_ms = self._words(refusal, change)
            self._answers.nack(
                session,
                Type.CHANGE_MEMBERS,
                request_id,
                code=code,
                text=text.format(node=change.node_id),
                retry_after_ms=retry_ms,
            )

    def _words(self, refusal: ChangeRefusal, change: Change) -> tuple[Code, str, int | None]:
        if refusal != "ALREADY":
            return _TEXTS[refusal]
        if isinstance(change, Promote):
            return Code.ALREADY, "node {node} is a voter already", None
        known = self._peer_addresses().get(change.node_id)
        if not isinstance(change, AddLearner) or known is None or known == change.address:
            return Code.ALREADY, "node {node} is a member already", None
        host, port = known
        text = f"is a member already, at {host}:{port}: remove it first to add it elsewhere"
        return Code.CONFLICT, "node {node} " + text, None
