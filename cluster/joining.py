"""How a replica and its peers come together: handshakes, bootstrap, who takes part.

Between the transport and the replica: it answers for this node in handshakes, carries out
what `cluster.bootstrap` decides, and lets through only what comes from a peer that takes
part in elections while this node does as well.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cluster.bootstrap import Bootstrap, Output, PeerState, Record, mismatch
from cluster.configuration import ConfigurationError
from cluster.faults import StartError
from cluster.handshake import Hello, Refused, Standing
from cluster.identity import CLUSTER_ID_BYTES, BootstrapState
from cluster.membership import Membership
from cluster.messages import Message
from cluster.recovery import Storage
from cluster.refusals import Reason, Refusal
from cluster.vitals import Report

_NONCE_BYTES = 8
_log = logging.getLogger(__name__)


class JoiningUser(Protocol):
    """What the replica hears and is asked for."""

    def drop_peer(self, peer: int, reason: str) -> None:
        """Close the connection to a peer."""

    def bootstrapped(self) -> None:
        """Take part in elections from now on."""

    def failed(self, text: str) -> None:
        """Hear that what a peer said could not be recorded; nothing may be said any more."""

    def joined(self, peer: int) -> None:
        """Hear that a peer that takes part is connected."""

    def parted(self, peer: int) -> None:
        """Hear that such a peer is not connected any more."""

    def message_came(self, peer: int, message: Message) -> None:
        """Take a message of such a peer."""

    def reported(self, peer: int, report: Report) -> None:
        """Take what such a peer says of itself."""

    def drained(self) -> None:
        """Act on what one read has brought."""


@dataclass(frozen=True, slots=True)
class OwnAddresses:
    """What this node tells its peers of itself: host:port, "" where it has none."""

    client: str
    http: str


class Joining:
    """The node as its peers see it (`cluster.transport.PeerHandler`).

    Args:
        storage: Where identities are recorded.
        membership: Who belongs to the cluster.
        own: Told to the peers.
        draw_bytes: Source of the cluster id and the nonce of this process.
        user: The replica.
    """

    def __init__(
        self,
        storage: Storage,
        membership: Membership,
        own: OwnAddresses,
        draw_bytes: Callable[[int], bytes],
        user: JoiningUser,
    ) -> None:
        self._storage = storage
        self._membership = membership
        self._own = own
        self._nonce = draw_bytes(_NONCE_BYTES)
        self._user = user
        self._bootstrap = Bootstrap(storage.identity, lambda: draw_bytes(CLUSTER_ID_BYTES))
        self._connected: set[int] = set()
        self._joined: set[int] = set()
        self._ready: set[int] = set()
        self._missing: tuple[int, ...] = ()
        self._asked = False
        node_id = storage.identity.node_id
        self.addresses: dict[int, tuple[str, str]] = {node_id: (own.client, own.http)}
        """(client address, HTTP address) of every node heard of since the start."""

    @property
    def takes_part(self) -> bool:
        """Whether this node may vote and lead."""
        return self._storage.identity.state == BootstrapState.BOOTSTRAPPED

    def start(self) -> None:
        """Say what this node is; a node without peers is bootstrapped on return."""
        self._membership.identified(self._storage.identity)
        self._carry_out(self._bootstrap.start())
        self._say_who_is_missing()

    def hello(self, to: int) -> Hello:
        """Return this node's hello as of now."""
        identity = self._storage.identity
        standing = self._membership.standing
        return Hello(
            node_id=identity.node_id,
            to=to,
            incarnation=identity.incarnation,
            state=identity.state,
            cluster_id=identity.cluster_id,
            voters=identity.voters,
            client_address=self._own.client,
            http_address=self._own.http,
            nonce=self._nonce,
            configuration_index=standing.configuration_index,
            configuration=standing.configuration,
        )

    def judge(self, hello: Hello) -> Refusal | None:
        """Say why a peer does not belong to this cluster, None when it does."""
        said = PeerState(hello.state, hello.cluster_id)
        refusal = mismatch(self._storage.identity, hello.node_id, hello.voters, said)
        if refusal is None:
            # It may know of members this node has not heard of yet, itself among them.
            standing = Standing(*said_of(hello))
            refusal = self._hear(hello.node_id, standing) or self._membership.refusal(hello)
        return refusal

    def connected(self, peer: int, hello: Hello) -> None:
        """Take a peer in."""
        self._connected.add(peer)
        self.addresses[peer] = (hello.client_address, hello.http_address)
        self.state_said(peer, Standing(*said_of(hello)))
        self._say_who_is_missing()

    def disconnected(self, peer: int, reason: str) -> None:
        """Forget what a peer said."""
        del reason
        self._connected.discard(peer)
        self._ready.discard(peer)
        self._bootstrap.peer_left(peer)
        self._say_who_is_missing()
        if peer in self._joined:
            self._joined.discard(peer)
            self._user.parted(peer)

    def refused_by(self, peer: int, refusal: Refused) -> None:
        """Learn from a refusal whether this node is still a member."""
        if refusal.cluster_id is not None:
            self._hear(peer, Standing(BootstrapState.BOOTSTRAPPED, *refusal[1:]))

    def state_said(self, peer: int, standing: Standing) -> None:
        """Take a peer's bootstrap state, and the members it knows."""
        state, cluster_id = standing[:2]
        voters = self._storage.identity.voters
        refusal = mismatch(self._storage.identity, peer, voters, PeerState(state, cluster_id))
        refusal = refusal or self._hear(peer, standing)
        if refusal is not None:
            self._user.drop_peer(peer, refusal)
            return
        if state == BootstrapState.BOOTSTRAPPED:
            self._ready.add(peer)
        try:
            self._carry_out(self._bootstrap.peer_said(peer, state, cluster_id))
        except Exception as error:  # noqa: BLE001 - whatever it is, the disk is lost
            # In memory the step is taken, on the disk it is not: only a new start can tell.
            node_id = self._storage.identity.node_id
            _log.critical(
                "node %d cannot record its part in the first start", node_id, exc_info=True
            )
            self._user.failed(str(error) if isinstance(error, StartError) else repr(error))
            return
        self._join()

    def received(self, peer: int, message: Message) -> None:
        """Pass a message on, if its sender takes part and this node does."""
        if peer in self._joined:
            self._user.message_came(peer, message)

    def reported(self, peer: int, report: Report) -> None:
        """Pass a report on, if its sender takes part."""
        if peer in self._joined:
            self._user.reported(peer, report)

    def drained(self) -> None:
        """Pass the end of a read on."""
        self._user.drained()

    def _hear(self, peer: int, standing: Standing) -> Refusal | None:
        """Take the configuration a peer knows, if it is of this node's cluster or of none yet."""
        identity = self._storage.identity
        joins = not identity.voters and identity.cluster_id is None
        if not joins and standing.cluster_id != identity.cluster_id:
            return None
        try:
            self._membership.hear(standing.configuration_index, standing.configuration)
        except ConfigurationError as error:
            return Refusal(Reason.MALFORMED, f"node {peer} names no members: {error}")
        return None

    def _say_who_is_missing(self) -> None:
        """Tell the operator of a first start what it waits for, whenever that changes."""
        identity = self._storage.identity
        if not identity.voters and not self.takes_part and not self._asked:
            self._asked = True
            _log.info("%s", self._membership.request)
        missing = () if self.takes_part else tuple(self._bootstrap.waiting_for)
        if missing and missing != self._missing:
            _log.info("first start: waiting for every voter; not connected: %s", _named(missing))
        self._missing = missing

    def _join(self) -> None:
        if self.takes_part:
            for peer in sorted(self._ready - self._joined):
                self._joined.add(peer)
                self._user.joined(peer)

    def _carry_out(self, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, Record):
                self._record(output)
            else:
                self._membership.identified(self._storage.identity)

    def _record(self, output: Record) -> None:
        if output.amnesiac:
            self._storage.forget("its directory was empty and its cluster is not new")
        self._storage.record(output.identity)
        if self.takes_part:
            cluster_id = output.identity.cluster_id or b""
            me = output.identity.node_id
            _log.info("node %d is bootstrapped: cluster %s", me, cluster_id.hex())
            self._user.bootstrapped()


def said_of(hello: Hello) -> tuple[BootstrapState, bytes | None, int, bytes]:
    """Return what a hello says of its node, in the order of `Standing`."""
    return (hello.state, hello.cluster_id, hello.configuration_index, hello.configuration)


def _named(nodes: tuple[int, ...]) -> str:
    return ", ".join(f"node {node}" for node in nodes)
