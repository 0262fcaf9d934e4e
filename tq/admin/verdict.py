"""From what the nodes said, or did not say, to one word about the cluster.

Pure: answers in, rows and a verdict out. A member is never left out because it is
silent, and "healthy" is only said when every member was seen to be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from tq.admin.exits import Exit

_FINE: Final = frozenset({"healthy", "catching up", "not a member"})
"""States of nodes that leave the cluster as healthy as it is."""

LAG_MAX: Final = 1_000
"""A follower this many entries behind the leader's commit index is not healthy."""


class Verdict(StrEnum):
    """One word about the cluster, as seen from where the question was asked."""

    HEALTHY = "HEALTHY"
    DEGRADED = "DEGRADED"
    """It works, but not every member does, or not every member could be seen."""
    NO_QUORUM = "NO QUORUM"
    """Nobody leads: submits are not accepted now."""
    UNKNOWN = "UNKNOWN"
    """No member answered; the trouble may as well lie between here and there."""


EXITS: Final = {
    Verdict.HEALTHY: Exit.OK,
    Verdict.DEGRADED: Exit.DEGRADED,
    Verdict.NO_QUORUM: Exit.NO_QUORUM,
    Verdict.UNKNOWN: Exit.ERROR,
}


@dataclass(frozen=True)
class Answer:
    """What asking one address gave.

    Attributes:
        address: Which was asked.
        status: The node's own words; None if there were none.
        reason: Why there were none.
    """

    address: str
    status: Mapping[str, Any] | None = None
    reason: str = ""


@dataclass(frozen=True)
class Row:
    """One node, reachable or not; None is what could not be learned.

    Attributes:
        member: It belongs to the cluster; others may wait to be let in, or be on their way out.
        voter: It counts for a majority; a learner only follows.
    """

    node_id: int | None
    role: str | None
    state: str
    reason: str
    term: int | None
    commit_index: int | None
    applied_index: int | None
    lag: int | None
    client_address: str | None
    http_address: str | None
    leader_id: int | None = None
    member: bool = True
    voter: bool = True

    @property
    def reachable(self) -> bool:
        """Whether the member answered."""
        return self.state != "unreachable"

    @property
    def votes(self) -> bool:
        """Whether the member counts for a majority: one that forgot does not yet."""
        return self.reachable and self.voter and self.state != "amnesiac"


@dataclass(frozen=True)
class Report:
    """The cluster as it was seen.

    Attributes:
        verdict: The word.
        reason: What it rests on.
        rows: All members by node id, then addresses that are no known member's.
        leader_id: The leader, if one was seen or named; None otherwise.
        term: The highest term seen.
        cluster_id: Hexadecimal; None if nobody answered.
        configuration_index: The log entry that says who the members are; 0 while they are
            those the cluster was founded with.
    """

    verdict: Verdict
    reason: str
    rows: list[Row]
    leader_id: int | None
    term: int | None
    cluster_id: str | None
    configuration_index: int = 0

    @property
    def can_lose(self) -> int:
        """How many more members may stop before nothing is accepted any more."""
        voting = sum(row.votes for row in self.rows if row.node_id is not None)
        return max(0, voting - (self.size // 2 + 1))

    @property
    def size(self) -> int:
        """Number of voters; addresses that are no known member's do not count."""
        return len(_voters(self.rows))

    @property
    def learners(self) -> int:
        """Number of members that do not vote."""
        return sum(row.member and not row.voter for row in self.rows if row.node_id is not None)

    @property
    def reachable(self) -> int:
        """Number of voters that answered."""
        return sum(row.reachable for row in _voters(self.rows))


def addresses_to_ask(answers: Sequence[Answer]) -> list[str]:
    """Return the client addresses of members that were named by others and not asked yet."""
    heard = {_id_of(answer.status) for answer in answers if answer.status is not None}
    asked = {answer.address for answer in answers}
    named = {
        peer["client_address"]
        for answer in answers
        for peer in _peers(answer.status)
        if peer.get("client_address") and peer.get("node_id") not in heard
    }
    return sorted(named - asked)


def judge(answers: Sequence[Answer]) -> Report:
    """Make rows and a verdict of everything that was heard."""
    heard = {
        _id_of(answer.status): answer for answer in reversed(answers) if answer.status is not None
    }
    if not heard:
        rows = [_silent_row(None, answer.address, None, answer.reason) for answer in answers]
        return Report(Verdict.UNKNOWN, "no member answered, seen from here", rows, None, None, None)
    leader = _leader(heard)
    commit_index = leader.get("commit_index") if leader is not None else None
    term = max(answer.status.get("term", 0) for answer in heard.values() if answer.status)
    known = _addresses(heard)
    rows = [_row(answer, known, commit_index, term) for answer in heard.values()]
    rows += _silent_rows(heard, answers)
    members = _newest_members(heard, leader)
    rows = [_placed(row, members) for row in rows]
    rows.sort(key=lambda row: (row.node_id is None, row.node_id, row.client_address))
    verdict, reason = _verdict([row for row in rows if row.node_id is not None], leader)
    first = next(iter(heard.values())).status or {}
    return Report(
        verdict=verdict,
        reason=reason,
        rows=rows,
        leader_id=_leader_id(rows, leader),
        term=term,
        cluster_id=first.get("cluster_id"),
        configuration_index=int(members.get("configuration_index") or 0),
    )


def _verdict(rows: list[Row], leader: Mapping[str, Any] | None) -> tuple[Verdict, str]:
    voters = _voters(rows)
    size, reachable = len(voters), sum(row.reachable for row in voters)
    leader_id = _leader_id(rows, leader)
    if leader_id is None:
        forgot = [f"node {row.node_id} is amnesiac" for row in rows if row.state == "amnesiac"]
        seen = f"no leader; {reachable} of {size} members answered"
        return Verdict.NO_QUORUM, "; ".join([seen, *forgot])
    followers = sum(bool(peer.get("connected", False)) for peer in _peers(leader) if _votes(peer))
    if leader is not None and max(followers + 1, reachable) <= size // 2:
        return Verdict.NO_QUORUM, f"leader {leader_id} has no majority: {reachable} of {size} up"
    troubles = [f"node {row.node_id} is {row.state}" for row in rows if row.state not in _FINE]
    if leader is None:
        troubles.append(f"leader {leader_id} was named by others, not seen")
    if troubles:
        return Verdict.DEGRADED, "; ".join(troubles)
    size = len(rows)
    everyone = "the only member answered" if size == 1 else f"all {size} members answered and agree"
    return Verdict.HEALTHY, everyone


def _voters(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.node_id is not None and row.member and row.voter]


def _votes(peer: Mapping[str, Any]) -> bool:
    """Whether a peer counts; older nodes know voters only, and do not say so."""
    return bool(peer.get("voter", True))


def _newest_members(
    heard: Mapping[int, Answer], leader: Mapping[str, Any] | None
) -> Mapping[str, Any]:
    """Return the words of the node that knows the members best: the leader, or the latest."""
    if leader is not None:
        return leader
    told = [answer.status for answer in heard.values() if answer.status]
    return max(told, key=lambda status: int(status.get("configuration_index") or 0))


def _placed(row: Row, members: Mapping[str, Any]) -> Row:
    """Say of a node whether it belongs to the cluster, and counts."""
    voters, learners = members.get("voters"), members.get("learners") or ()
    if not voters or row.node_id is None or row.node_id in voters:
        return row
    if row.node_id not in learners:
        state = "not a member" if row.reachable else row.state
        return replace(row, role=None, state=state, member=False, voter=False)
    # One that joined has forgotten nothing; it says so until it has been filled up.
    state = "catching up" if row.state in {"lagging", "amnesiac"} else row.state
    return replace(row, role="learner", state=state, voter=False)


def _leader(heard: Mapping[int, Answer]) -> Mapping[str, Any] | None:
    """Return the words of the leader of the highest term; an older one is deposed."""
    leaders = [a.status for a in heard.values() if a.status and a.status.get("role") == "leader"]
    newest = max((a.status.get("term", 0) for a in heard.values() if a.status), default=0)
    return next((leader for leader in leaders if leader.get("term") == newest), None)


def _leader_id(rows: list[Row], leader: Mapping[str, Any] | None) -> int | None:
    """Return the leader seen, or the one named by those of the highest term."""
    if leader is not None:
        return _id_of(leader)
    newest = max((row.term for row in rows if row.term is not None), default=None)
    named = {row.leader_id for row in rows if row.term == newest and row.leader_id is not None}
    return named.pop() if len(named) == 1 else None


def _addresses(heard: Mapping[int, Answer]) -> dict[int, Mapping[str, Any]]:
    """Return what the members say of each other's addresses, by node id."""
    return {
        int(peer["node_id"]): peer
        for answer in heard.values()
        for peer in _peers(answer.status)
        if peer.get("client_address")
    }


def _row(
    answer: Answer, known: Mapping[int, Mapping[str, Any]], commit_index: int | None, term: int
) -> Row:
    status = answer.status or {}
    said_by_others = known.get(_id_of(status), {})
    applied = status.get("applied_index")
    lag = None if commit_index is None or applied is None else max(0, commit_index - int(applied))
    return Row(
        node_id=_id_of(status),
        role=status.get("role"),
        state=_state(status, lag, term),
        reason="",
        term=status.get("term"),
        commit_index=status.get("commit_index"),
        applied_index=applied,
        lag=lag,
        client_address=status.get("client_address") or answer.address,
        http_address=status.get("http_address") or said_by_others.get("http_address") or None,
        leader_id=status.get("leader_id"),
    )


def _state(status: Mapping[str, Any], lag: int | None, term: int) -> str:
    if status.get("amnesiac"):
        return "amnesiac"
    if status.get("role") == "candidate" or status.get("leader_id") is None:
        return "no leader"
    if status.get("term") != term:
        return "outdated"
    return "lagging" if lag is not None and lag > LAG_MAX else "healthy"


def _silent_rows(heard: Mapping[int, Answer], answers: Sequence[Answer]) -> list[Row]:
    """Return a row for each member that did not answer, and each address nobody owns."""
    silent: dict[int, Mapping[str, Any]] = {}
    for answer in heard.values():
        for peer in _peers(answer.status):
            node_id = int(peer.get("node_id", 0))
            if node_id not in heard and (node_id not in silent or peer.get("client_address")):
                silent[node_id] = peer
    reasons = {answer.address: answer.reason for answer in answers if answer.status is None}
    addresses = {node_id: peer.get("client_address") or "" for node_id, peer in silent.items()}
    strangers = [address for address in reasons if address not in addresses.values()]
    nameless = [node_id for node_id, address in addresses.items() if not address]
    if len(strangers) == len(nameless) == 1:
        # One member without an address, one address without a member: they belong together.
        addresses[nameless[0]] = strangers.pop()
    rows = []
    for node_id, peer in silent.items():
        address = addresses[node_id]
        reason = reasons.get(address, "its client address is not known")
        rows.append(_silent_row(node_id, address, peer.get("http_address"), reason))
    return rows + [_silent_row(None, address, None, reasons[address]) for address in strangers]


def _silent_row(
    node_id: int | None, client_address: str, http_address: str | None, reason: str
) -> Row:
    return Row(
        node_id=node_id,
        role=None,
        state="unreachable",
        reason=reason,
        term=None,
        commit_index=None,
        applied_index=None,
        lag=None,
        client_address=client_address or None,
        http_address=http_address or None,
    )


def _id_of(status: Mapping[str, Any] | None) -> int:
    return int((status or {}).get("node_id", 0))


def _peers(status: Mapping[str, Any] | None) -> Sequence[Mapping[str, Any]]:
    peers = (status or {}).get("peers") or ()
    return [peer for peer in peers if isinstance(peer, Mapping)]
