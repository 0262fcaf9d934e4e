"""A ten-line machine, a recording listener, and clusters of real replicas in one process."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from cluster.configuration import ChangeRefusal, Configuration
from cluster.interface import DropReason, Families, Record, Status, Timing
from cluster.link import Limits
from cluster.replica import Replica, ReplicaConfig
from tests.support.ports import free_ports

FAMILY = "counter"
DEADLINE_S = 20.0


class CounterMachine:
    """Remembers which entry was applied where; a checkpoint every `every` entries.

    With a `flaw` its state differs from that of the others.
    """

    def __init__(self, every: int = 10, flaw: bytes = b"") -> None:
        self.every = every
        self.flaw = flaw
        self.places: dict[bytes, int] = {}
        self.changed: dict[bytes, int] = {}
        self.digest_chain = (0, b"")

    def apply(self, index: int, entry: bytes, decoded: object | None = None) -> object:
        self.places[entry] = self.changed[entry] = index
        return len(self.places)

    def take_changes(self) -> list[Record] | None:
        if len(self.changed) < self.every:
            return None
        records: list[Record] = [(FAMILY, k, b"%d" % v) for k, v in self.changed.items()]
        self.changed = {}
        self._note_digest()
        return records

    def restore(self, families: Families) -> None:
        self.places = {key: int(value) for key, value in families(FAMILY)}
        self.changed = {}
        self._note_digest()

    def _note_digest(self) -> None:
        state = repr(sorted(self.places.items())).encode() + self.flaw
        self.digest_chain = max(self.places.values(), default=0), sha256(state).digest()

    def digest(self) -> bytes:
        return sha256(repr(sorted(self.places.items())).encode()).digest()


class Recorder:
    """What a listener heard; every call wakes whoever waits in `until`."""

    def __init__(self, changed: asyncio.Event) -> None:
        self._changed = changed
        self.applied_contexts: dict[object, int] = {}
        self.dropped_contexts: dict[object, DropReason] = {}
        self.reads: dict[object, bool] = {}
        self.indexes: list[int] = []
        self.roles: list[tuple[int, str]] = []
        self.fatal_text: str | None = None
        self.changes: dict[object, tuple[int, ChangeRefusal | None]] = {}
        self.configurations: list[tuple[int, Configuration]] = []
        self.removed_at: int | None = None

    def applied(self, index: int, outcome: object, context: object | None) -> None:
        self.indexes.append(index)
        if context is not None:
            self.applied_contexts[context] = index
        self._changed.set()

    def dropped(self, context: object, reason: DropReason) -> None:
        self.dropped_contexts[context] = reason
        self._changed.set()

    def read_done(self, context: object, ok: bool) -> None:
        self.reads[context] = ok
        self._changed.set()

    def change_done(self, context: object, index: int, refusal: ChangeRefusal | None) -> None:
        self.changes[context] = (index, refusal)
        self._changed.set()

    def members_changed(self, configuration: Configuration, index: int) -> None:
        self.configurations.append((index, configuration))
        self._changed.set()

    def removed(self, index: int) -> None:
        self.removed_at = index
        self._changed.set()

    def role_changed(self, status: Status) -> None:
        self.roles.append((status.term, status.role))
        self._changed.set()

    def fatal(self, text: str) -> None:
        self.fatal_text = text
        self._changed.set()


class Member:
    """One replica with its machine and listener; may be killed and started again."""

    def __init__(self, cluster: Cluster, node_id: int) -> None:
        self.cluster = cluster
        self.node_id = node_id
        self.directory = cluster.directory / str(node_id)
        self.options: dict[str, Any] = {}
        self.flaw = b""
        self.replica: Replica | None = None
        self.joins: dict[int, tuple[str, int]] = {}
        self.listed: tuple[int, ...] = ()

    async def start(self, **options: Any) -> None:
        cluster = self.cluster
        self.options = options or self.options
        self.machine = CounterMachine(cluster.checkpoint_every, self.flaw)
        self.heard = Recorder(cluster.changed)
        known = cluster.addresses
        listed = {node: known[node] for node in self.listed}
        config = ReplicaConfig(
            node_id=self.node_id,
            addresses=self.joins or listed or known,
            joins=bool(self.joins),
            data_dir=self.directory,
            families=[FAMILY],
            client_address=f"127.0.0.1:{self.node_id}",
            http_address=f"127.0.0.1:{self.node_id + 100}",
            timing=cluster.timing,
            limits=Limits(redial_max_s=0.1, ask_s=0.3, ping_s=cluster.report_s),
        )
        rng = random.Random(cluster.rng.getrandbits(64))
        replica = Replica(config, self.machine, self.heard, rng=rng, **self.options)
        await replica.start()
        self.replica = replica

    @property
    def live(self) -> Replica:
        assert self.replica is not None, f"node {self.node_id} is down"
        return self.replica

    @property
    def is_up(self) -> bool:
        return self.replica is not None

    @property
    def status(self) -> Status:
        return self.live.status()

    @property
    def amnesiac(self) -> bool:
        return self.status.amnesiac

    def kill(self) -> None:
        replica, self.replica = self.live, None
        replica.abort()

    async def stop(self) -> None:
        replica, self.replica = self.live, None
        await replica.stop()


class Cluster:
    """Members on loopback ports of their own, and ways to wait for them."""

    def __init__(
        self, directory: Path, rng: random.Random, size: int = 3, checkpoint_every: int = 10
    ) -> None:
        self.directory = directory
        self.rng = rng
        self.checkpoint_every = checkpoint_every
        self.timing = Timing(election_min_s=0.3, election_max_s=0.6, heartbeat_s=0.05)
        ports = free_ports(size)
        self.addresses = {n + 1: ("127.0.0.1", port) for n, port in enumerate(ports)}
        self.report_s = 1.0
        self.changed = asyncio.Event()
        self.members = [Member(self, node_id) for node_id in self.addresses]
        self.acked: set[bytes] = set()
        self._numbers: Iterator[int] = iter(range(1_000_000))

    @property
    def up(self) -> list[Member]:
        return [member for member in self.members if member.is_up]

    async def start(self) -> None:
        for member in self.members:
            await member.start()

    async def close(self) -> None:
        for member in self.up:
            await member.stop()

    async def until(self, condition: Callable[[], object], what: str = "") -> None:
        """Wait until something holds; asks again whenever a listener hears something.

        Not everything is heard (a connection, a flag), so it asks every 20 ms as well.
        """
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not condition():
                    self.changed.clear()
                    try:
                        async with asyncio.timeout(0.02):
                            await self.changed.wait()
                    except TimeoutError:
                        continue
        except TimeoutError:
            states = [f"{m.node_id}: {m.status}" for m in self.up]
            raise AssertionError("\n".join([f"never came: {what}", *states])) from None

    def leaders(self) -> list[Member]:
        return [member for member in self.up if member.status.role == "leader"]

    async def leader(self) -> Member:
        """The leader all members that are up agree on, once it has applied its no-op."""

        def agreed() -> bool:
            leaders = self.leaders()
            if len(leaders) != 1:
                return False
            status = leaders[0].status
            others = [m for m in self.up if m.node_id in m.status.voters and m is not leaders[0]]
            names = {m.status.leader_id for m in others}
            return names <= {status.node_id} and status.applied_index > 0

        await self.until(agreed, "a leader")
        return self.leaders()[0]

    async def submit(self, count: int) -> None:
        """Have `count` more entries applied, at whichever leader there is."""
        wanted = {b"entry-%d" % next(self._numbers) for _ in range(count)}
        self.acked |= await self._propose_until_applied(wanted)

    async def _propose_until_applied(self, wanted: set[bytes]) -> set[bytes]:
        missing = set(wanted)
        while missing:
            member = await self.leader()
            proposed = sorted(missing)
            contexts = {(entry, object()): entry for entry in proposed}
            for context, entry in contexts.items():
                member.live.propose(entry, None, context)

            def settled(member: Member = member, contexts: Sequence[Any] = list(contexts)) -> bool:
                heard = member.heard
                answered = heard.applied_contexts.keys() | heard.dropped_contexts.keys()
                return not member.is_up or all(context in answered for context in contexts)

            await self.until(settled, "an answer to every proposal")
            for context, entry in contexts.items():
                if context in member.heard.applied_contexts:
                    missing.discard(entry)
        return wanted

    async def agree(self) -> None:
        """Wait until every member that is up holds everything acknowledged, equally."""

        def equal() -> bool:
            held = [member.machine for member in self.up]
            return all(self.acked <= machine.places.keys() for machine in held) and (
                len({machine.digest() for machine in held}) == 1
            )

        await self.until(equal, "equal machines with everything acknowledged")
