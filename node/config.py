"""The configuration of one node: sections, defaults, and what its values mean together.

`node.config_load` builds a `Config` from a file, the environment and flags; tests may build
one directly. Names, units and defaults are described for operators in
``docs/configuration.md``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from node.addresses import Address
from node.config_values import (
    Host,
    NodeId,
    OptionalAddress,
    OptionalDirectory,
    OptionalFile,
    OptionalHost,
    OptionalPort,
    OptionalPortTlsFiles,
    OptionalTlsFiles,
    Peers,
    Port,
    Truth,
    TruthOrAuto,
    choice,
    duration,
    duration_range,
    size,
    size_or_auto,
    whole,
)
from node.quantities import Duration, Size

LOG_LEVELS = ("debug", "info", "warning", "error")
LogLevel = Literal["debug", "info", "warning", "error"]

_DAY_MS = 86_400_000


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Broker(_Section):
    """What clients and workers meet.

    Attributes:
        host: Where the client listener binds.
        port: Port of the client listener; 0 lets the system choose one.
        advertised_address: What other nodes tell clients to connect to; None means the
            address the listener is bound to.
        tls: Certificate for clients; needed as soon as they can be on another host.
        max_connections: Client connections held at once.
        queue_depth_threshold: Waiting tasks of one queue from which submits are refused.
        worker_lease_timeout: Length of a lease, and how long a silent worker stays alive.
        batch_claim_size: Tasks one claim may take at most.
        frame_max: Largest frame after the handshake.
        payload_max: Largest task payload or result.
    """

    host: Host = "127.0.0.1"
    port: Port = 7401
    advertised_address: OptionalAddress = None
    tls: OptionalPortTlsFiles = None
    max_connections: Annotated[int, whole(1, 100_000)] = 1000
    queue_depth_threshold: Annotated[int, whole(1, 100_000_000)] = 100_000
    worker_lease_timeout: Annotated[Duration, duration("1s", "1d")] = Duration(30_000)
    batch_claim_size: Annotated[int, whole(1, 1000)] = 10
    frame_max: Annotated[Size, size("64KiB", "16MiB")] = Size(16 * 2**20)
    payload_max: Annotated[Size, size("1KiB", "10MiB")] = Size(10 * 2**20)


class Persistence(_Section):
    """What is kept on disk.

    Attributes:
        data_dir: Directory of this node alone; None means ``tq-data/node-<id>``.
        completed_task_retention: How long a finished task stays readable.
        compaction_interval: How often tasks past their retention are swept away.
        sync: Whether an answer waits for the disk. False is for throw-away single nodes.
        ballast: Size of a file that is given up when the disk is full; 0B for none.
        disk_low: Free space below which no new tasks are taken; None means a twentieth of the
            disk, at least 1 GiB.
    """

    data_dir: OptionalDirectory = None
    completed_task_retention: Annotated[Duration, duration("1m", "365d")] = Duration(7 * _DAY_MS)
    compaction_interval: Annotated[Duration, duration("1s", "7d")] = Duration(3_600_000)
    sync: Truth = True
    ballast: Annotated[Size, size("0B", "1TiB")] = Size(256 * 2**20)
    disk_low: Annotated[Size | None, size_or_auto("0B", "1024TiB")] = None


class Raft(_Section):
    """Who replicates with whom, and how patiently.

    Attributes:
        node_id: This node's number among the peers.
        peers: Raft address of every voter, this node included; empty means a single node.
            Counts until the cluster is founded; from then on the cluster keeps the list.
        join: Raft addresses of members of a running cluster, and of this node, which waits
            there until it is added; in place of `peers`.
        host: Where the Raft listener binds; None means the host of the own peer entry.
        port: Port of the Raft listener; None means the port of the own peer entry.
        peer_addresses: Where to dial some peers instead of their listed address (proxies,
            address translation).
        tls: Certificates for the connections between nodes; needed as soon as one of their
            addresses is beyond this host.
        election_timeout: A follower that hears nothing stands for election after a random
            time in this range.
        heartbeat_interval: How often a leader speaks when it has nothing to say.
        snapshot_interval: Entries between two snapshots.
        log_tail: Applied entries kept for followers that lag a little; one that lags more
            is sent a snapshot.
    """

    node_id: NodeId = 1
    peers: Peers = Field(default_factory=dict)
    join: Peers = Field(default_factory=dict)
    host: OptionalHost = None
    port: OptionalPort = None
    peer_addresses: Peers = Field(default_factory=dict)
    tls: OptionalTlsFiles = None
    election_timeout: Annotated[tuple[Duration, Duration], duration_range("50ms", "60s")] = (
        Duration(500),
        Duration(1000),
    )
    heartbeat_interval: Annotated[Duration, duration("10ms", "10s")] = Duration(100)
    snapshot_interval: Annotated[int, whole(100, 1_000_000)] = 1000
    log_tail: Annotated[Size, size("64KiB", "1GiB")] = Size(64 * 2**20)


class Api(_Section):
    """The HTTP listener: health, status and metrics.

    Attributes:
        host: Where it binds.
        port: Its port; 0 lets the system choose one.
        tls: Its certificate; needed as soon as it can be reached from another host.
    """

    host: Host = "127.0.0.1"
    port: Port = 7402
    tls: OptionalPortTlsFiles = None


class Auth(_Section):
    """Who may do what.

    Attributes:
        tokens_file: Who is let in (`node.tokens`); None lets everybody in who reaches the
            ports, which must be on loopback then.
    """

    tokens_file: OptionalFile = None


class Monitoring(_Section):
    """What the node says about itself.

    Attributes:
        log_level: The least important level that is written.
        json_logs: One JSON object a line; None means JSON unless standard error is a
            terminal.
    """

    log_level: Annotated[LogLevel, choice(LOG_LEVELS)] = "info"
    json_logs: TruthOrAuto = None


class Worker(_Section):
    """Defaults for workers; a worker's own flags win.

    Attributes:
        concurrency: Tasks one worker runs at once.
        heartbeat_interval: How often a worker renews its leases.
        shutdown_timeout: How long a stopping worker lets running tasks finish.
    """

    concurrency: Annotated[int, whole(1, 10_000)] = 4
    heartbeat_interval: Annotated[Duration, duration("100ms", "1h")] = Duration(15_000)
    shutdown_timeout: Annotated[Duration, duration("0s", "1d")] = Duration(60_000)


class Config(_Section):
    """Everything one node is told at start. Immutable."""

    broker: Broker = Field(default_factory=Broker)
    persistence: Persistence = Field(default_factory=Persistence)
    raft: Raft = Field(default_factory=Raft)
    api: Api = Field(default_factory=Api)
    auth: Auth = Field(default_factory=Auth)
    monitoring: Monitoring = Field(default_factory=Monitoring)
    worker: Worker = Field(default_factory=Worker)

    @property
    def node_id(self) -> int:
        """This node's number."""
        return self.raft.node_id

    @property
    def joins(self) -> bool:
        """Whether this node waits to be let into a running cluster."""
        return bool(self.raft.join)

    @property
    def listed(self) -> dict[int, Address]:
        """Raft address of every node that this one is told of, itself included."""
        return self.raft.join or self.raft.peers

    @property
    def voters(self) -> tuple[int, ...]:
        """Ids of those who found the cluster in ascending order; none when this node joins."""
        return () if self.joins else tuple(sorted(self.raft.peers)) or (self.node_id,)

    @property
    def is_single_node(self) -> bool:
        """Whether this node begins as its own quorum."""
        return len(self.voters) == 1

    @property
    def data_dir(self) -> Path:
        """Directory of this node, as given or derived from its id."""
        return self.persistence.data_dir or Path("tq-data") / f"node-{self.node_id}"

    @property
    def client_listen(self) -> Address:
        """Where the client listener binds; port 0 means any free port."""
        return Address(self.broker.host, self.broker.port)

    @property
    def http_listen(self) -> Address:
        """Where the HTTP listener binds; port 0 means any free port."""
        return Address(self.api.host, self.api.port)

    @property
    def raft_listen(self) -> Address | None:
        """Where the Raft listener binds; None for a single node that lists no peers."""
        if not self.listed:
            return None
        own = self.listed[self.node_id]
        return Address(self.raft.host or own.host, self.raft.port or own.port)

    @property
    def dial_addresses(self) -> dict[int, Address]:
        """Where to reach each other voter, overrides applied."""
        return {
            peer: self.raft.peer_addresses.get(peer, address)
            for peer, address in self.listed.items()
            if peer != self.node_id
        }


SECTIONS: dict[str, type[BaseModel]] = {
    "broker": Broker,
    "persistence": Persistence,
    "raft": Raft,
    "api": Api,
    "auth": Auth,
    "monitoring": Monitoring,
    "worker": Worker,
}
"""Every section of the file, in the order it is documented and shown."""

KEYS: tuple[tuple[str, str], ...] = tuple(
    (section, key) for section, model in SECTIONS.items() for key in model.model_fields
)
"""Every (section, key) of the file, in the order it is documented and shown."""
