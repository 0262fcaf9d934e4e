"""One simulated cluster: virtual time, chance in streams from one seed, and all that lives in it.

A world is played by `tests.simulation.play`. It has one thread and one queue of events;
what happens at one true time happens in the order it was planned.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn
from zlib import crc32

from cluster.engine import Engine
from cluster.faults import DiskDamagedError, DiskFailedError
from cluster.replica import Replica
from cluster.state import LEADER
from node.broker import Broker
from statemachine import Machine
from tests.simulation.composition import client_address
from tests.simulation.decoded import Decoded
from tests.simulation.faults import BEGAN_AT
from tests.simulation.history import History
from tests.simulation.invariants.rule import ANYTHING, Invariant
from tests.simulation.links import ClientLink, ClientUser, dial
from tests.simulation.network import Network
from tests.simulation.nodes import SimNode
from tests.simulation.options import Options
from tests.simulation.process import Action, Crashed, Process
from tests.simulation.violation import Violation

__all__ = ["ClientLink", "ClientUser", "Options", "Parts", "SimNode", "Violation", "World"]

_RECENT_MAX = 4000


@dataclass(frozen=True)
class Parts:
    """The classes a node is made of; a planted bug is another class here.

    Attributes:
        engine: Consensus.
        machine: The queue.
        broker: What serves clients.
        replica: The rim round the engine.
        syncs: A sync makes what was written durable.
        setup: Called with each node after it was made, before it starts.
    """

    engine: type[Engine] = Engine
    machine: type[Machine] = Machine
    broker: type[Broker] = Broker
    replica: type[Replica] = Replica
    syncs: bool = True
    setup: Callable[[SimNode], None] | None = None


class World:
    """A cluster, its clients and its time.

    Args:
        seed: Decides everything.
        options: Drawn from the seed unless given.
        parts: What nodes are made of.
        detail: Keep the trace as text.

    Attributes:
        now: True time, seconds.
        soon: Callbacks that follow the present one.
        sometimes: Interesting states reached, by name.
        nodes: Every node by id, up or not.
        history: What clients asked and were answered.
    """

    def __init__(
        self,
        seed: int,
        options: Options | None = None,
        *,
        parts: Parts | None = None,
        detail: bool = False,
    ) -> None:
        self.seed = seed
        self.options = options or Options.drawn(seed)
        self.parts = parts or Parts()
        self.now = BEGAN_AT
        self.soon: deque[tuple[Process, Action, tuple[object, ...]]] = deque()
        self.sometimes: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.recent: deque[str] | None = deque(maxlen=_RECENT_MAX) if detail else None
        self.healed = False
        self.invariants: list[Invariant] = []
        self._hooks = _Hooks(())
        self._newest_applied = 0
        self.violation: Violation | None = None
        self._digest = 0
        self._names: dict[str, int] = {}
        self._streams: dict[str, random.Random] = {}
        self._heap: list[tuple[float, int, Process | None, Action, tuple[object, ...]]] = []
        self._number = 0
        self.history = History()
        # Worlds whose messages travel as bytes do all that bytes ask for, at every node.
        self.decoded = None if self.options.codec else Decoded()
        self.history.ledger.decoded = self.decoded
        self.network = Network(self)
        self.nodes: dict[int, SimNode] = {}
        founders = tuple(range(1, self.options.nodes + 1))
        for node_id in founders:
            self.add_node(node_id, founders)

    def add_node(self, node_id: int, founders: Iterable[int], *, joins: bool = False) -> SimNode:
        """Put another machine in the rack; it is not started."""
        node = self.nodes[node_id] = SimNode(self, node_id, tuple(founders), joins=joins)
        if self.parts.setup is not None:
            self.parts.setup(node)
        return node

    # ------------------------------------------------------------------ chance and trace

    def rng(self, name: str) -> random.Random:
        """The stream of chance of one name; the same object each time."""
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = random.Random(f"{self.seed} {name}")
        return stream

    def reached(self, name: str) -> None:
        """Count an interesting state."""
        self.sometimes[name] += 1
        if self.recent is not None:
            self.recent.append(f"{self.now - BEGAN_AT:.6f} reached: {name}")

    def trace(self, *what: object) -> None:
        """Take part of the history into its digest: numbers as they are, texts by checksum."""
        names = self._names
        digest = self._digest
        for item in what:
            if isinstance(item, int | float):
                digest = hash((digest, item))
                continue
            name = item if isinstance(item, str) else repr(item)
            number = names.get(name)
            if number is None:
                number = names[name] = crc32(name.encode())
            digest = hash((digest, number))
        self._digest = digest
        if self.recent is not None:
            self.recent.append(f"{self.now - BEGAN_AT:.6f} {' '.join(map(str, what))}")

    def fold(self, number: int) -> None:
        """Take a number into the digest, without a line of text."""
        self._digest = hash((self._digest, number))

    @property
    def digest(self) -> str:
        """Hash of everything that happened: equal for equal seeds, in any process."""
        return f"{self._digest & 0xFFFF_FFFF_FFFF_FFFF:016x}"

    def fail(self, text: str) -> NoReturn:
        """End the world: something that must hold did not."""
        if self.violation is None:
            self.violation = Violation(text)
        raise self.violation

    def tell_stepped(self, node: SimNode, what: int) -> None:
        """Show a node whose engine has moved to the invariants that look at what moved."""
        try:
            for stepped in self._hooks.stepped[what]:
                stepped(node)
        except Violation as violation:
            self.violation = violation  # what runs on the node must not swallow it
            raise

    def tell_applied(self, node: SimNode, index: int, entry: bytes, outcome: Any) -> None:
        """Show the invariants an entry that a node has applied."""
        hooks = self._hooks
        try:
            for applied in hooks.applied:
                applied(node, index, entry, outcome)
            if index > self._newest_applied:
                self._newest_applied = index
                for applied_first in hooks.applied_first:
                    applied_first(index, outcome)
        except Violation as violation:
            self.violation = violation
            raise

    def tell_checkpointed(self, node: SimNode) -> None:
        """Show the invariants a machine that has made or loaded a checkpoint."""
        try:
            for checkpointed in self._hooks.checkpointed:
                checkpointed(node)
        except Violation as violation:
            self.violation = violation
            raise

    def watch(self, kinds: Iterable[type[Invariant]]) -> None:
        """Check these from now on."""
        self.invariants = [kind(self) for kind in kinds]
        self._hooks = _Hooks(self.invariants)

    def collect(self, engine: Engine) -> None:
        """Count the interesting states a process has been in before it goes."""
        for name, count in (
            ("snapshot installed", engine.snapshots_installed),
            ("snapshot sent", engine.snapshots_sent),
            ("leader deposed with uncommitted entries", engine.deposed_with_entries),
            ("divergent tail cut", engine.tails_cut),
            ("memory recovered", engine.memories_recovered),
        ):
            if count:
                self.sometimes[name] += count

    def newest_leader(self) -> SimNode | None:
        """The node that leads the highest term, as far as it knows itself."""
        newest, found = -1, None
        for node in self.nodes.values():
            engine = node.engine
            if engine is not None and engine.role == LEADER and engine.term > newest:
                newest, found = engine.term, node
        return found

    # ------------------------------------------------------------------------------- time

    def plan(
        self, when: float, process: Process | None, action: Action, arguments: tuple[object, ...]
    ) -> None:
        """Run an action at a true time, in a process or outside of all."""
        self._number += 1
        heapq.heappush(self._heap, (when, self._number, process, action, arguments))

    def at(self, when: float, action: Action, *arguments: object) -> None:
        """Run at a true time."""
        self.plan(when, None, action, arguments)

    def after(self, seconds: float, action: Action, *arguments: object) -> None:
        """Run after so many seconds."""
        self.plan(self.now + seconds, None, action, arguments)

    def run_until(self, when: float) -> None:
        """Let time pass."""
        heap, soon, pop, digest_of = self._heap, self.soon, heapq.heappop, hash
        while heap and heap[0][0] <= when:
            at, _, process, action, arguments = pop(heap)
            if process is not None:
                if not process.runs:
                    process.misses(action, arguments)
                    continue
                self._digest = digest_of((self._digest, at))
            if at > self.now:  # noqa: PLR1730 - once per event: `max` costs twice as much
                self.now = at
            try:
                action(*arguments)
                while soon:
                    process, action, arguments = soon.popleft()
                    if process.runs:
                        action(*arguments)
                    else:
                        process.misses(action, arguments)
            except Crashed as crash:
                self.nodes[crash.node_id].crashed()
            except (DiskDamagedError, DiskFailedError) as error:
                self._logged(process, error)
            if self.violation is not None:
                raise self.violation  # whoever caught it must not go on
        self.now = max(self.now, when)

    def _logged(self, process: Process | None, error: Exception) -> None:
        """What a callback raises is logged by a node's event loop; its disk has a reason to."""
        if process is None or not self.nodes[process.node_id].hurts:
            raise error
        self.trace("logged", process.node_id)

    # ---------------------------------------------------------------------------- clients

    def dial(self, node_id: int, user: ClientUser) -> None:
        """Connect a client; `user.opened(link)` or `user.closed()` follows."""
        dial(self, self.nodes[node_id], user)

    def node_at(self, address: str) -> int | None:
        """Which node a client address belongs to."""
        return next((n for n in self.nodes if client_address(n) == address), None)


class _Hooks:
    """What the invariants of a world want to be told, without those who want nothing.

    Attributes:
        stepped: By what has moved, see `tests.simulation.invariants.rule`.
    """

    def __init__(self, invariants: Sequence[Invariant]) -> None:
        self.stepped = [
            [one.stepped for one in invariants if one.looks_at & what and _has(one, "stepped")]
            for what in range(ANYTHING + 1)
        ]
        self.applied = [one.applied for one in invariants if _has(one, "applied")]
        self.applied_first = [one.applied_first for one in invariants if _has(one, "applied_first")]
        self.checkpointed = [one.checkpointed for one in invariants if _has(one, "checkpointed")]


def _has(invariant: Invariant, hook: str) -> bool:
    """Whether it does anything there."""
    return getattr(type(invariant), hook) is not getattr(Invariant, hook)
