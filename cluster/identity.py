"""Who this node is: the small durable file that outlives a damaged database.

Stored as one frame of `cluster.wire` (length, checksum, array), replaced whole. It is
written before anything it speaks of happens: a start counts up the incarnation before the
first message, a cluster id is recorded before it is announced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Protocol

from cluster.faults import DiskDamagedError, ForeignDirectoryError, RemovedError
from cluster.wire import HANDSHAKE_MAX_BYTES, Decoder, WireError, encode

IDENTITY_FILE = "identity"
CLUSTER_ID_BYTES = 16
_FORMAT = 3
_ADDED: dict[int, list[object]] = {1: [0, []], 2: [[]], 3: []}
"""What earlier versions lack at the end: the removal, the later voters."""
_FIELDS = 8


class BootstrapState(IntEnum):
    """How far a node has come in the first start of its cluster; it only grows."""

    EMPTY = 0
    """It knows no cluster."""
    RECORDED = 1
    """The cluster's id is durable here; whether everyone has it is not known."""
    BOOTSTRAPPED = 2
    """Every voter had recorded the id: elections are allowed."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a data directory says of its node.

    Attributes:
        node_id: The node.
        voters: The voters the cluster was founded with, ascending, this node included; none
            in the directory of a node that joined a running cluster.
        cluster_id: 16 random bytes drawn once, None while the state is EMPTY.
        state: See `BootstrapState`.
        incarnation: Which start of this directory this is: 1, 2, 3, ...
        removed_at: Index of the entry that removed the node from its cluster, 0 if none did.
        voters_now: The voters of the latest committed configuration that this node has recorded;
            none as long as those the cluster was founded with are all there were.
    """

    node_id: int
    voters: tuple[int, ...]
    cluster_id: bytes | None = None
    state: BootstrapState = BootstrapState.EMPTY
    incarnation: int = 0
    removed_at: int = 0
    voters_now: tuple[int, ...] = ()

    @property
    def latest_voters(self) -> tuple[int, ...]:
        """The voters as this directory knows them without its database."""
        return self.voters_now or self.voters

    def to_bytes(self) -> bytes:
        """Return the content of the file."""
        fields = [_FORMAT, self.node_id, list(self.voters), self.cluster_id]
        fields += [int(self.state), self.incarnation, self.removed_at, list(self.voters_now)]
        return encode(fields, HANDSHAKE_MAX_BYTES)

    @classmethod
    def from_bytes(cls, content: bytes) -> Identity:
        """Read the content of the file.

        Raises:
            ValueError: It is not what `to_bytes` wrote.
        """
        try:
            decoder = Decoder(HANDSHAKE_MAX_BYTES)
            decoder.feed(content)
            fields = decoder.next()
        except WireError as error:
            raise ValueError(str(error)) from error
        version = fields[0] if fields else None
        added = _ADDED.get(version) if isinstance(version, int) else None
        if fields is None or added is None or len(fields) + len(added) != _FIELDS:
            raise ValueError("cut short, or of another version")
        fields = [*fields, *added]
        _, node_id, voters, cluster_id, state, incarnation, removed_at, voters_now = fields
        if not (
            isinstance(node_id, int)
            and isinstance(voters, list)
            and isinstance(voters_now, list)
            and all(isinstance(voter, int) for voter in (*voters, *voters_now))
            and (cluster_id is None or isinstance(cluster_id, bytes))
            and isinstance(state, int)
            and isinstance(incarnation, int)
            and isinstance(removed_at, int)
        ):
            raise ValueError("a field has the wrong type")
        known = BootstrapState(state)
        now = tuple(voters_now)
        return cls(node_id, tuple(voters), cluster_id, known, incarnation, removed_at, now)


class SmallFiles(Protocol):
    """Where the file is kept (`cluster.directory.DataDirectory`)."""

    @property
    def path(self) -> Path:
        """The directory, for messages."""

    def read(self, name: str) -> bytes | None:
        """Return a small file's content, None when there is none."""

    def replace(self, name: str, content: bytes) -> None:
        """Put a small file in place durably; blocks."""


def load_identity(directory: SmallFiles, node_id: int, voters: Sequence[int]) -> Identity | None:
    """Read the identity of a directory and check that it is the configured node's.

    Returns:
        The identity, None when the directory has none. The configured voters count until the
        cluster is founded; from then on the cluster keeps its own list.

    Raises:
        DiskDamagedError: The file is there and cannot be trusted.
        ForeignDirectoryError: Another node's directory, or set up with other voters.
        RemovedError: The node is not a member of its cluster any more.
    """
    content = directory.read(IDENTITY_FILE)
    if content is None:
        return None
    try:
        identity = Identity.from_bytes(content)
    except ValueError as error:
        raise DiskDamagedError(
            f"the file {directory.path / IDENTITY_FILE} is damaged ({error}): restore it, or move "
            "the whole directory aside and let the node come back as an empty one"
        ) from error
    configured = tuple(sorted(voters))
    if identity.node_id != node_id:
        raise ForeignDirectoryError(
            f"the data directory {directory.path} belongs to node {identity.node_id}"
            f"{_of_cluster(identity)}, this is node {node_id}: "
            "start it with that id, or give this node a directory of its own"
        )
    if identity.removed_at:
        cluster_id = (identity.cluster_id or b"").hex()
        raise RemovedError(
            f"node {node_id} was removed from cluster {cluster_id} at entry {identity.removed_at}, "
            f"so the data in {directory.path} is of no use any more: move it aside, and start with "
            "--join if this node is to come back as a new member"
        )
    if identity.state == BootstrapState.BOOTSTRAPPED:
        return identity
    if identity.voters != configured and identity.state == BootstrapState.RECORDED:
        raise ForeignDirectoryError(
            f"the data directory {directory.path} was set up with voters "
            f"{name_voters(identity.voters)}{_of_cluster(identity)}, the configuration says "
            f"{name_voters(configured)}: correct the list of peers"
        )
    return replace(identity, voters=configured)


def store_identity(directory: SmallFiles, identity: Identity) -> None:
    """Make the identity durable; blocks for two fsyncs."""
    directory.replace(IDENTITY_FILE, identity.to_bytes())


def name_voters(voters: Sequence[int]) -> str:
    """Return voters as a person reads them: `1, 2, 3`."""
    return ", ".join(str(voter) for voter in voters)


def _of_cluster(identity: Identity) -> str:
    return f" of cluster {identity.cluster_id.hex()}" if identity.cluster_id else ""
