"""One simulated cluster: a virtual clock, a seed, nodes, clients and a nemesis."""

from __future__ import annotations

import hashlib
import heapq
import random
from collections import Counter, deque
from collections.abc import Callable

from cluster.engine import Engine
from cluster.interface import AMNESIAC_KEY, RAFT_META
from cluster.state import LEADER
from tests.simulation.checks import Checks, Violation
from tests.simulation.network import Network
from tests.simulation.node import Options, SimNode

__all__ = ["Options", "Violation", "World", "play"]


class World:
    """A cluster under faults. Everything random comes from the seed.

    Args:
        seed: Decides the whole history.
        options: Drawn from the seed when not given.
        engine: Class of the nodes, for planted faults.
        syncs_work: Whether a sync makes anything safe, for a planted fault.
    """

    def __init__(
        self,
        seed: int,
        options: Options | None = None,
        *,
        engine: type[Engine] = Engine,
        syncs_work: bool = True,
    ) -> None:
        self.seed = seed
        self.options = options or Options.drawn(seed)
        self.make_engine = engine
        self.syncs_work = syncs_work
        self.rng = random.Random(seed)
        self.now = 1000.0
        self.chaos_until = self.now + self.options.chaos_s
        self.reached: Counter[str] = Counter()
        self.recent: deque[str] = deque(maxlen=400)
        self._hash = hashlib.sha256()
        self._heap: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._number = 0
        self._uid = 0
        self.checks = Checks(self)
        self.network = Network(self, delay_s=self.options.delay_s, slow_s=self.options.slow_s)
        self.network.duplicate_votes = self.options.duplicate_votes
        self.nodes: dict[int, SimNode] = {}
        for node_id in range(1, self.options.nodes + 1):
            self.nodes[node_id] = SimNode(self, node_id)

    @property
    def trace_hash(self) -> str:
        """Hash of everything that happened: equal for equal seeds."""
        return self._hash.hexdigest()[:16]

    def trace(self, *what: object) -> None:
        line = f"{self.now:.6f} {' '.join(map(str, what))}"
        self._hash.update(line.encode())
        self.recent.append(line)

    def at(self, when: float, action: Callable[..., None], *arguments: object) -> None:
        self._number += 1
        heapq.heappush(self._heap, (when, self._number, action, arguments))

    def after(self, seconds: float, action: Callable[..., None], *arguments: object) -> None:
        self.at(self.now + seconds, action, *arguments)

    def run_until(self, when: float) -> None:
        heap = self._heap
        while heap and heap[0][0] <= when:
            at, _, action, arguments = heapq.heappop(heap)
            self.now = max(self.now, at)
            action(*arguments)
        self.now = max(self.now, when)

    def run(self) -> None:
        """Faults, then healing, then the final checks.

        Raises:
            Violation: Something that must hold did not.
        """
        for node in self.nodes.values():
            node.start()
        self.after(0.5, self._write)
        self.after(0.6, self._read)
        self.after(1.0, self._fault)
        while self.now < self.chaos_until:
            self.run_until(self.now + 0.5)
            self.checks.log_matching()
        self._heal()
        self._settle()
        self._last_write()
        self._settle()
        self.checks.log_matching()
        self.checks.converged()
        for node in self.nodes.values():
            assert node.engine is not None
            self.collect(node.engine)

    def _settle(self) -> None:
        """Give the healed cluster its time: a second, and more while nodes still differ.

        Tiny batches and chunks make catching up slow, so the bound is generous; a cluster
        that is stuck does not get there in any time.
        """
        patience = self.now + self.options.quiet_s
        self.run_until(self.now + 2.0)
        while self.now < patience and not self.checks.level():
            self.run_until(self.now + 0.5)

    def collect(self, engine: Engine) -> None:
        """Count the interesting states a process has been in before it goes."""
        self.reached["snapshot installed"] += engine.snapshots_installed
        self.reached["snapshot sent"] += engine.snapshots_sent
        self.reached["leader deposed with uncommitted entries"] += engine.deposed_with_entries
        self.reached["divergent tail cut"] += engine.tails_cut
        self.reached["memory recovered"] += engine.memories_recovered

    # ------------------------------------------------------------------------ clients

    @staticmethod
    def uid_of(entry: bytes) -> int:
        return int(entry.split(b".")[0] or b"0")

    def _target(self) -> SimNode | None:
        leaders = [n for n in self.nodes.values() if n.engine and n.engine.role == LEADER]
        nodes = leaders if leaders and self.rng.random() < 0.8 else list(self.nodes.values())
        node = self.rng.choice(nodes)
        return node if node.engine is not None and node.paused_until <= self.now else None

    def _write(self) -> None:
        if self.now > self.chaos_until:
            return
        self.after(self.rng.expovariate(self.options.writes_per_s), self._write)
        node = self._target()
        if node is not None:
            self._uid += 1
            padding = b"x" * self.rng.randint(0, 60)
            node.propose(self._uid, b"%d.%s" % (self._uid, padding))

    def _read(self) -> None:
        if self.now > self.chaos_until:
            return
        self.after(self.rng.expovariate(self.options.reads_per_s), self._read)
        node = self._target()
        if node is not None:
            self._uid += 1
            node.read(self._uid)

    def _last_write(self) -> None:
        leaders = [n for n in self.nodes.values() if n.engine and n.engine.role == LEADER]
        if not leaders:
            self.checks.fail("no leader after healing")
        newest = max(leaders, key=lambda node: node.engine.term if node.engine else 0)
        self._uid += 1
        newest.propose(self._uid, b"%d." % self._uid)

    # ------------------------------------------------------------------------- faults

    def _fault(self) -> None:
        if self.now > self.chaos_until:
            return
        self.after(self.rng.expovariate(self.options.faults_per_s), self._fault)
        node = self.nodes[self.rng.choice(list(self.nodes))]
        kind = self.rng.random()
        if self.rng.random() < 0.06:
            self.reached["all nodes down at once"] += 1
            for each in self.nodes.values():
                self._crash(each)
        elif kind < self.options.crash_share:
            self._crash(self._prey(node))
        elif len(self.nodes) == 1 or kind > 0.88:
            node.paused_until = self.now + self.rng.expovariate(1.5)
        else:
            self._cut(node, kind)

    def _cut(self, node: SimNode, kind: float) -> None:
        others = [other for other in self.nodes if other != node.node_id]
        other = self.rng.choice(others)
        seconds = self.rng.expovariate(0.6)
        if kind < self.options.crash_share + 0.2:
            self.network.lose(node.node_id, other)
        elif kind < self.options.crash_share + 0.4:
            self.network.block((node.node_id, other), seconds)
        else:
            for other in others:
                self.network.block((node.node_id, other), seconds)
                self.network.block((other, node.node_id), seconds)

    def _prey(self, node: SimNode) -> SimNode:
        """Half of the crashes look for a leader."""
        leaders = [n for n in self.nodes.values() if n.engine and n.engine.role == LEADER]
        return leaders[0] if leaders and self.rng.random() < 0.5 else node

    def _crash(self, node: SimNode) -> None:
        if node.engine is None:
            return
        node.stop()
        if self.options.wipes and self.rng.random() < 0.2 and self._may_wipe():
            self.trace("wipe", node.node_id)
            node.disk.wipe()
            node.disk.put(RAFT_META, AMNESIAC_KEY, b"")
            node.disk.sync(node.disk.write() or 0)
            self.reached["disk wiped"] += 1
        elif self.options.power_loss:
            lost = node.disk.lose_power(self.rng)
            self.reached["batches lost"] += lost
            self.trace("power loss", node.node_id, lost)
        else:
            node.disk.kill()
            self.trace("kill", node.node_id)
        self.after(0.05 + self.rng.expovariate(1.0), self._restart, node)

    def _may_wipe(self) -> bool:
        """A minority may lose its memory: one node at a time, of three or more."""
        clean = all(n.disk.get(RAFT_META, AMNESIAC_KEY) is None for n in self.nodes.values())
        return clean and len(self.nodes) >= 3

    def _restart(self, node: SimNode) -> None:
        if node.engine is None:
            node.start()

    def _heal(self) -> None:
        self.trace("heal")
        self.network.heal()
        for node in self.nodes.values():
            node.paused_until = 0.0
            self._restart(node)


def play(seed: int, options: Options | None = None, **planted: object) -> World:
    """Run one seed to its end.

    Raises:
        Violation: With the seed and the command that plays it again.
    """
    world = World(seed, options, **planted)  # type: ignore[arg-type]  # the planted faults
    try:
        world.run()
    except Violation as violation:
        raise Violation(
            f"seed {seed} at {world.now - 1000:.3f} s: {violation}\n"
            f"replay: python -m tests.simulation --seed {seed}"
        ) from violation
    return world
