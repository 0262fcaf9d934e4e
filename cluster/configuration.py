"""Who belongs to the cluster: voters, learners, and where each of them is reached.

A configuration is a value. The one in force is the latest in the log, committed or not
(Raft thesis 4.1), so it travels as an entry of the log: a zero byte, which no other entry
starts with, and the bytes of the whole configuration. One change adds, promotes or removes
one node; any majority before it and any majority after it have a node in common.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from cluster.addresses import Address

VOTERS_MAX: Final = 9
"""Most voters: every entry waits for a majority of them."""

MEMBERS_MAX: Final = 32
"""Most voters and learners together."""

CONFIGURATION_MARK: Final = b"\x00"
"""What the log entry of a configuration starts with, and no other entry."""

_FORMAT: Final = 1
_HEAD = struct.Struct(">BB")
_MEMBER = struct.Struct(">IBHB")
_LEARNER, _VOTER = 0, 1


class ConfigurationError(ValueError):
    """The bytes or the members are not a configuration."""


class AddLearner(NamedTuple):
    """Let a node receive the log. It is not counted until it is promoted.

    Attributes:
        node_id: The new member.
        address: Where its peers reach it.
    """

    node_id: int
    address: Address


class Promote(NamedTuple):
    """Make a learner that has caught up a voter."""

    node_id: int


class Remove(NamedTuple):
    """Let a voter or a learner go. A leader hands leadership over instead."""

    node_id: int


Change = AddLearner | Promote | Remove

ChangeRefusal = Literal[
    "NOT_LEADER",
    "UNKNOWN_OUTCOME",
    "CHANGE_UNDER_WAY",
    "NOT_SETTLED",
    "NO_SUCH_MEMBER",
    "ALREADY",
    "NOT_CAUGHT_UP",
    "QUORUM_AT_RISK",
    "HANDING_OVER",
    "TOO_MANY",
]
"""Why a change did not happen. Only after UNKNOWN_OUTCOME may it yet have happened.

NOT_LEADER: ask the leader. CHANGE_UNDER_WAY: an earlier one is not committed. NOT_SETTLED:
the leader is so new that it has committed nothing of its term. NO_SUCH_MEMBER, ALREADY: there
is nothing to do. NOT_CAUGHT_UP: the learner lacks too much. QUORUM_AT_RISK: afterwards fewer
voters than a majority would be connected and caught up. HANDING_OVER: leadership is being
given to another node, which can be asked in a moment. TOO_MANY: `VOTERS_MAX` or `MEMBERS_MAX`.
"""


@dataclass(frozen=True, slots=True)
class Configuration:
    """The members of the cluster.

    Attributes:
        voters: Ids of those whose word counts, ascending.
        learners: Ids of those who only follow, ascending.
        addresses: Peer address by member; some may be missing.

    Raises:
        ConfigurationError: An id is both, twice there or out of range, or an address is not
            one.
    """

    voters: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    addresses: Mapping[int, Address] = field(default_factory=dict)

    def __post_init__(self) -> None:
        voters, learners = tuple(sorted(self.voters)), tuple(sorted(self.learners))
        members = voters + learners
        if len(set(members)) != len(members):
            raise ConfigurationError("a node is a member twice")
        if len(members) > MEMBERS_MAX:
            raise ConfigurationError(f"more than {MEMBERS_MAX} members")
        if not all(0 <= member < 1 << 32 for member in members):
            raise ConfigurationError("a node id is not between 0 and 2^32 - 1")
        known = {member: self.addresses[member] for member in members if member in self.addresses}
        for host, port in known.values():
            if not (0 < len(host) < 256 and host.isascii() and 0 < port < 1 << 16):
                raise ConfigurationError(f"{host[:256]}:{port} is not an address")
        object.__setattr__(self, "voters", voters)
        object.__setattr__(self, "learners", learners)
        object.__setattr__(self, "addresses", known)

    @classmethod
    def nobody(cls) -> Configuration:
        """The configuration of a node that waits to be let into a cluster."""
        return cls()

    @property
    def members(self) -> tuple[int, ...]:
        """Voters and learners, ascending."""
        return tuple(sorted(self.voters + self.learners))

    @property
    def quorum(self) -> int:
        """How many voters make a majority."""
        return len(self.voters) // 2 + 1

    def with_learner(self, node_id: int, address: Address) -> Configuration:
        """The same with one more learner.

        Raises:
            ConfigurationError: It is a member already, or the address is not one.
        """
        addresses = {**self.addresses, node_id: address}
        return Configuration(self.voters, (*self.learners, node_id), addresses)

    def promoted(self, node_id: int) -> Configuration:
        """The same with a learner made a voter.

        Raises:
            ConfigurationError: It is not a learner.
        """
        if node_id not in self.learners:
            raise ConfigurationError(f"node {node_id} is not a learner")
        return Configuration(
            (*self.voters, node_id), _without(self.learners, node_id), self.addresses
        )

    def without(self, node_id: int) -> Configuration:
        """The same without one member.

        Raises:
            ConfigurationError: It is not a member.
        """
        if node_id not in self.voters and node_id not in self.learners:
            raise ConfigurationError(f"node {node_id} is not a member")
        return Configuration(
            _without(self.voters, node_id), _without(self.learners, node_id), self.addresses
        )

    def to_bytes(self) -> bytes:
        """The configuration as bytes: equal ones have equal bytes."""
        parts = [_HEAD.pack(_FORMAT, len(self.voters) + len(self.learners))]
        for member in self.members:
            host, port = self.addresses.get(member, ("", 0))
            role = _VOTER if member in self.voters else _LEARNER
            parts += (_MEMBER.pack(member, role, port, len(host)), host.encode("ascii"))
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, data: bytes) -> Configuration:
        """Read what `to_bytes` wrote.

        Raises:
            ConfigurationError: It is anything else.
        """
        try:
            configuration = cls._read(data)
        except (struct.error, UnicodeDecodeError) as error:
            raise ConfigurationError(f"not a configuration: {error}") from error
        if configuration.to_bytes() != data:
            raise ConfigurationError("not a configuration as it would be written")
        return configuration

    @classmethod
    def _read(cls, data: bytes) -> Configuration:
        version, count = _HEAD.unpack_from(data)
        if version != _FORMAT or count > MEMBERS_MAX:
            raise ConfigurationError(f"version {version} with {count} members")
        at = _HEAD.size
        voters: list[int] = []
        learners: list[int] = []
        addresses: dict[int, Address] = {}
        for _ in range(count):
            member, role, port, host_bytes = _MEMBER.unpack_from(data, at)
            at += _MEMBER.size
            (voters if role == _VOTER else learners).append(member)
            if host_bytes:
                addresses[member] = (data[at : at + host_bytes].decode("ascii"), port)
            at += host_bytes
        return cls(tuple(voters), tuple(learners), addresses)

    def to_entry(self) -> bytes:
        """The log entry that puts this configuration into force."""
        return CONFIGURATION_MARK + self.to_bytes()

    @classmethod
    def from_entry(cls, entry: bytes) -> Configuration:
        """Read a log entry that starts with the mark.

        Raises:
            ConfigurationError: It holds no configuration.
        """
        return cls.from_bytes(entry[1:])


NOBODY: Final = Configuration()


def _without(members: Iterable[int], node_id: int) -> tuple[int, ...]:
    return tuple(member for member in members if member != node_id)
