"""The first start of a cluster, as a step machine without I/O.

Every node is in one of three durable states: EMPTY (it knows no cluster), RECORDED (it has
the cluster's id), BOOTSTRAPPED (elections are allowed). It tells its state in each handshake
and whenever it changes. All rules look only at the own state and at what the peers connected
now have said over their present connection:

1. EMPTY, and some peer is BOOTSTRAPPED, or this is the lowest id and some peer is RECORDED:
   adopt its id as an *amnesiac* and become BOOTSTRAPPED; the flag is durable first.
2. EMPTY with the lowest id, and every other voter is connected and EMPTY: draw an id, become
   RECORDED.
3. EMPTY with another id, and the lowest is RECORDED: record its id, become RECORDED.
4. RECORDED with the lowest id, and every other voter is connected and has recorded the same
   id: become BOOTSTRAPPED.
5. RECORDED, and some peer is BOOTSTRAPPED with the same id: become BOOTSTRAPPED.

A node without a list of voters is told to join a running cluster: only rule 1 is for it.

A state is durable before it is announced, so a crash between any two steps only repeats
announcements: whoever comes back says its state in the handshake and the rules go on.

Why a lost directory is never taken for a new one. The first BOOTSTRAPPED node of a cluster
is the one with the lowest id, and only when all have recorded (4); the others follow (5).
So an EMPTY node that meets a BOOTSTRAPPED one had recorded the id, has lost it, and perhaps
its votes with it (1). The lowest records an id before anyone else hears of it, so if it is
EMPTY and a peer is not, it has lost its directory too (1), and it never says RECORDED for
that id again. Hence whoever hears it say RECORDED (3) knows that nobody was BOOTSTRAPPED
before, itself included. What an earlier life of a peer announced cannot arrive late: a new
connection ends the old one, and what a dead connection brought is never delivered.

The price: if the lowest loses its directory in the middle of the very first start, nodes
that were still EMPTY become amnesiacs with it, and there may be no quorum. Nothing was
accepted then; emptying all directories starts over.

Peers of two clusters are told apart in their handshakes (`mismatch`).

A node without peers goes through 2 and 4 at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from cluster.identity import BootstrapState, Identity, name_voters
from cluster.refusals import Reason, Refusal

EMPTY, RECORDED, BOOTSTRAPPED = BootstrapState


class Record(NamedTuple):
    """Make this identity durable before the next output; with the flag, that one first."""

    identity: Identity
    amnesiac: bool


class Announce(NamedTuple):
    """Tell every connected peer the state and the cluster id."""

    state: BootstrapState
    cluster_id: bytes | None


Output = Record | Announce


@dataclass(frozen=True, slots=True)
class PeerState:
    """What a connected peer last said of itself."""

    state: BootstrapState
    cluster_id: bytes | None


class Bootstrap:
    """Decides when this node may take part in elections, and as what.

    Args:
        identity: As loaded from the data directory, or a new one.
        draw: Returns 16 random bytes; called at most once per first start.
    """

    def __init__(self, identity: Identity, draw: Callable[[], bytes]) -> None:
        self.identity = identity
        self._draw = draw
        self._peers: dict[int, PeerState] = {}
        self._others = tuple(voter for voter in identity.voters if voter != identity.node_id)
        self._lowest = min(identity.voters, default=None)

    @property
    def waiting_for(self) -> tuple[int, ...]:
        """Voters that are not connected, for the log line of a start that does not go on."""
        return tuple(voter for voter in self._others if voter not in self._peers)

    def start(self) -> list[Output]:
        """Begin; a node without peers is bootstrapped when this is carried out."""
        return self._settle()

    def peer_said(self, peer: int, state: BootstrapState, cluster_id: bytes | None) -> list[Output]:
        """Take what a peer says, in its handshake or later; replaces what it said before."""
        self._peers[peer] = PeerState(state, cluster_id)
        return self._settle()

    def peer_left(self, peer: int) -> None:
        """Forget what was said over a connection that is gone."""
        self._peers.pop(peer, None)

    def _settle(self) -> list[Output]:
        outputs: list[Output] = []
        while (step := self._next()) is not None:
            self.identity = step.identity
            announced = Announce(step.identity.state, step.identity.cluster_id)
            outputs += [step, announced]
        return outputs

    def _next(self) -> Record | None:
        if self.identity.state == EMPTY:
            return self._from_empty()
        if self.identity.state == RECORDED:
            return self._from_recorded()
        return None

    def _from_empty(self) -> Record | None:
        leads = self.identity.node_id == self._lowest
        ids = self._ids(RECORDED, BOOTSTRAPPED) if leads else self._ids(BOOTSTRAPPED)
        if ids:
            return self._adopt(ids[0], BOOTSTRAPPED)
        if self._lowest is None:
            return None
        if leads:
            return None if self.waiting_for else self._adopt(self._draw(), RECORDED)
        lowest = self._peers.get(self._lowest)
        known = lowest is not None and lowest.state == RECORDED and lowest.cluster_id
        return self._adopt(known, RECORDED) if known else None

    def _from_recorded(self) -> Record | None:
        mine = self.identity.cluster_id
        everyone = not self.waiting_for and all(
            peer.state >= RECORDED and peer.cluster_id == mine for peer in self._peers.values()
        )
        if mine in self._ids(BOOTSTRAPPED) or (everyone and self.identity.node_id == self._lowest):
            return Record(replace(self.identity, state=BOOTSTRAPPED), amnesiac=False)
        return None

    def _adopt(self, cluster_id: bytes, state: BootstrapState) -> Record:
        identity = replace(self.identity, cluster_id=cluster_id, state=state)
        return Record(identity, amnesiac=state == BOOTSTRAPPED)

    def _ids(self, *states: BootstrapState) -> list[bytes]:
        said = {peer.cluster_id for peer in self._peers.values() if peer.state in states}
        return sorted(cluster_id for cluster_id in said if cluster_id is not None)


def mismatch(mine: Identity, peer: int, voters: tuple[int, ...], said: PeerState) -> Refusal | None:
    """Say why a peer cannot belong to this node's cluster, None when it can.

    The lists of voters only have to be equal until the cluster is founded, and a node that
    joins has none. Whether the peer is a member is another question (`cluster.membership`).

    Args:
        mine: This node.
        peer: The other's node id.
        voters: The voters it is configured with.
        said: What it says of itself.
    """
    if mine.cluster_id and said.cluster_id and mine.cluster_id != said.cluster_id:
        return Refusal(
            Reason.FOREIGN_CLUSTER,
            f"node {peer} belongs to cluster {said.cluster_id.hex()}, node {mine.node_id} to "
            f"cluster {mine.cluster_id.hex()}: one of the two has another cluster's data directory",
        )
    founded = mine.state == said.state == BOOTSTRAPPED
    if voters == mine.voters or founded or not voters or not mine.voters:
        return None
    advice = "the lists must be equal"
    if BOOTSTRAPPED in {mine.state, said.state}:
        advice += ", or the one with an empty directory starts with --join instead"
    return Refusal(
        Reason.MISDIRECTED,
        f"node {peer} is configured with voters {name_voters(voters)}, "
        f"node {mine.node_id} with {name_voters(mine.voters)}: {advice}",
    )
