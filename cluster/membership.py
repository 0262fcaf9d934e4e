"""Who belongs to the cluster, as one node knows it: whom it reaches, whom it lets in.

The engine decides by the configuration in its own log (`cluster.configuration`). A node also
has to reach those its log does not name yet: one that was away while members were replaced
finds the others by what its peers say, and one that joins has nothing but a list of addresses
to begin with. So connections follow the union of three:

1. the configuration in force in this node's log, committed or not;
2. the latest *committed* configuration heard of, be it in the own log or from a peer; every
   node tells it in its handshakes and when it changes;
3. the configured list, until this node has a cluster that counts it in.

Only a committed configuration is passed on: it never comes back, so a node that was in an
earlier one and is not in this one was removed, and may end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from cluster.addresses import Address
from cluster.configuration import Configuration
from cluster.handshake import Hello, Standing
from cluster.identity import BootstrapState, Identity, name_voters
from cluster.refusals import Reason, Refusal

_log = logging.getLogger(__name__)

DEPARTURE_S = 2.0
"""Connections to removed members stay for so long: they are to hear what has become of them."""


class MembershipUser(Protocol):
    """What the replica does with it."""

    def reach(self, addresses: Mapping[int, Address]) -> None:
        """Have connections with exactly these nodes from now on."""

    def announce(self, standing: Standing) -> None:
        """Tell every connected peer, and every later one."""

    def settled(self, configuration: Configuration) -> None:
        """Hear of a committed configuration, own or a peer's, newer than the one before."""

    def removed(self, index: int) -> None:
        """Hear, once, that the entry `index` has made this node a member no longer."""


@dataclass(frozen=True, slots=True)
class Known:
    """A configuration and the index of the entry that made it."""

    index: int
    configuration: Configuration


class Membership:
    """Keeps what is known of the members.

    Args:
        identity: This node's; its `voters` are empty where it joins a running cluster.
        configured: Peer addresses of the voters, or of the members a joining node is to reach.
        user: Told of what follows.
        time: The monotonic clock, seconds.
    """

    def __init__(
        self,
        identity: Identity,
        configured: Mapping[int, Address],
        user: MembershipUser,
        time: Callable[[], float],
    ) -> None:
        self._identity = identity
        self._node_id = identity.node_id
        self._configured = dict(configured)
        self._user = user
        self._time = time
        self._own: Known | None = None
        self._committed: Known | None = None
        self._member_at: int | None = None
        self._counted_in = bool(identity.voters)
        """This node itself was a member, and not only an earlier one with its number."""
        self._left: dict[int, int] = {}
        self._reached: dict[int, Address] = {}
        self._forget_at: float | None = None
        self._is_removed = False

    @property
    def founding(self) -> Configuration:
        """The configuration that counts while the disk holds none."""
        voters = self._identity.voters
        if not voters:
            return Configuration.nobody()
        # A single node that listens to no peers has no port to be reached at.
        known = {peer: at for peer, at in self._configured.items() if peer in voters and at[1]}
        return Configuration(voters=voters, learners=(), addresses=known)

    @property
    def standing(self) -> Standing:
        """What this node says of itself and its cluster."""
        identity, known = self._identity, self._committed
        if known is None:
            return Standing(identity.state, identity.cluster_id)
        content = known.configuration.to_bytes()
        return Standing(identity.state, identity.cluster_id, known.index, content)

    @property
    def request(self) -> str:
        """What an operator has to do before a node that joins is let in."""
        host, port = self._configured.get(self._node_id, ("HOST", "PORT"))
        add = f"tq-admin cluster add {self._node_id} {host}:{port}"
        return f"node {self._node_id} waits to be let into a cluster: run `{add}`"

    @property
    def addresses(self) -> dict[int, Address]:
        """Peer addresses of everyone this node has to do with, as the cluster knows them."""
        found: dict[int, Address] = {}
        if not self._counts_me:
            found.update(self._configured)
        for known in sorted((self._own, self._committed), key=_index):
            if known is not None:
                for member in known.configuration.members:
                    address = known.configuration.addresses.get(member)
                    address = address or self._configured.get(member)
                    if address is not None:
                        found[member] = address
        return found

    def identified(self, identity: Identity) -> None:
        """Take what was recorded of this node."""
        self._identity = identity
        self._tell()

    def in_force(self, index: int, configuration: Configuration) -> None:
        """Take the configuration of the own log, which may still be taken back."""
        if self._own is None:
            self._compare(configuration)
        self._own = Known(index, configuration)
        self._reach()

    def committed(self) -> None:
        """Take note that the configuration in force is committed."""
        if self._own is not None:
            if self._node_id in self._own.configuration.members:
                self._counted_in = True
            self._settle(self._own)

    def was_member(self, index: int) -> None:
        """Take note that this node was a member in or before the configuration at `index`.

        It has its memory, so it has founded its cluster or was filled up as one of its members.
        Which entry let it in it may not know to be committed before a leader says so, and no
        leader speaks to it if it was removed meanwhile.
        """
        self._counted_in = True
        self._member_at = index

    def led(self) -> None:
        """Take note that a leader speaks to this node: leaders speak to members alone."""
        self._counted_in = True

    def hear(self, index: int, content: bytes) -> None:
        """Take the latest committed configuration that a peer of this cluster knows.

        Raises:
            ConfigurationError: It is none.
        """
        if content and (self._committed is None or index > self._committed.index):
            self._settle(Known(index, Configuration.from_bytes(content)))

    def refusal(self, hello: Hello) -> Refusal | None:
        """Say why a node of this cluster is not let in, None when it is."""
        peer = hello.node_id
        if self._identity.state != BootstrapState.BOOTSTRAPPED:
            return self._refuse_before_the_start(hello)
        if peer in self.addresses or peer in self._members:
            return None
        if peer in self._left:
            text = f"node {peer} was removed from the cluster at entry {self._left[peer]}"
        elif hello.state == BootstrapState.EMPTY:
            text = f"node {peer} is not a member yet: run `tq-admin cluster add {peer} HOST:PORT`"
        else:
            known = self._committed or self._own
            text = (
                f"node {peer} is not a member of the cluster as of entry "
                f"{known.index if known else 0}: it was removed, or has to be added with "
                f"`tq-admin cluster add {peer} HOST:PORT`"
            )
        return Refusal(Reason.NOT_A_MEMBER, text)

    def tick(self) -> None:
        """Let go of those who have left, once they had time to hear of it."""
        if self._forget_at is not None and self._time() >= self._forget_at:
            self._forget_at = None
            self._reached = self.addresses
            self._user.reach(self._reached)

    @property
    def _members(self) -> set[int]:
        known = [one.configuration for one in (self._own, self._committed) if one is not None]
        return {member for one in known for member in one.members}

    @property
    def _counts_me(self) -> bool:
        founded = self._identity.state == BootstrapState.BOOTSTRAPPED
        return founded and self._node_id in self._members

    def _refuse_before_the_start(self, hello: Hello) -> Refusal | None:
        peer, me = hello.node_id, self._node_id
        voters = self._identity.voters
        if voters and peer not in voters:
            text = (
                f"node {peer} is not among the voters {name_voters(voters)} "
                f"that node {me} is configured with"
            )
        elif not voters and hello.state != BootstrapState.BOOTSTRAPPED:
            text = f"node {peer} has no running cluster that node {me} could join yet"
        else:
            return None
        return Refusal(Reason.NOT_A_MEMBER, text)

    def _settle(self, known: Known) -> None:
        """Take a committed configuration that is newer than the one known so far."""
        before = self._committed
        if not known.configuration.members or (before and known.index <= before.index):
            return
        self._committed = known
        members = known.configuration.members
        if before is not None:
            gone = set(before.configuration.members) - set(members)
            self._left.update(dict.fromkeys(gone, known.index))
        for member in members:
            self._left.pop(member, None)
        self._user.settled(known.configuration)
        self._tell()
        self._reach()
        if self._node_id in members:
            self._member_at = known.index
        elif self._was_member_before(known.index) and not self._is_removed:
            self._is_removed = True
            self._user.removed(known.index)

    def _was_member_before(self, index: int) -> bool:
        return self._counted_in and self._member_at is not None and self._member_at <= index

    def _tell(self) -> None:
        self._user.announce(self.standing)

    def _compare(self, configuration: Configuration) -> None:
        """Warn of a list of peers that the cluster has left behind."""
        listed, members = sorted(self._configured), configuration.members
        if self._identity.voters and tuple(listed) != members:
            _log.warning(
                "the list of peers names nodes %s, the members of the cluster are %s: "
                "the cluster's own list counts",
                name_voters(listed),
                name_voters(members),
            )

    def _reach(self) -> None:
        wanted = self.addresses
        if set(self._reached) - set(wanted):
            self._forget_at = self._time() + DEPARTURE_S
        reached = {**self._reached, **wanted}
        if reached != self._reached:
            self._reached = reached
            self._user.reach(reached)


def _index(known: Known | None) -> int:
    return -1 if known is None else known.index
