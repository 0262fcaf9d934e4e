"""One simulated cluster: a virtual clock, a seed, nodes, clients and a nemesis."""

from __future__ import annotations

import hashlib
import heapq
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from cluster.engine import Engine
from cluster.events import (
    Durable,
    Event,
    PeerConnected,
    PeerDisconnected,
    Propose,
    ReadBarrier,
    Ready,
    Received,
    Tick,
)
from cluster.interface import AMNESIAC_KEY, RAFT_META, Timing
from cluster.messages import Message
from cluster.state import LEADER
from tests.simulation.checks import Checks, Violation
from tests.simulation.network import Network
from tests.support.sim_disk import SimDisk
from tests.support.sim_machine import FAMILIES, ListMachine

TICK_S = 0.02


@dataclass
class Options:
    """What a world is made of; `drawn` takes it from the seed."""

    nodes: int = 3
    chaos_s: float = 12.0
    quiet_s: float = 60.0
    writes_per_s: float = 30.0
    reads_per_s: float = 4.0
    faults_per_s: float = 1.2
    crash_share: float = 0.3
    power_loss: bool = True
    wipes: bool = False
    delay_s: float = 0.002
    slow_s: float = 0.2
    sync_s: float = 0.003
    sync_slow_s: float = 0.1
    checkpoint_entries: int = 5
    duplicate_votes: bool = False
    timing: Timing = field(default_factory=Timing)

    @classmethod
    def drawn(cls, seed: int) -> Options:
        rng = random.Random(f"options {seed}")
        return cls(
            nodes=rng.choice((1, 3, 3, 3, 3, 5)),
            writes_per_s=rng.choice((10.0, 30.0, 80.0)),
            faults_per_s=rng.choice((0.7, 1.5, 2.5)),
            crash_share=rng.choice((0.15, 0.3, 0.5)),
            power_loss=rng.random() < 0.7,
            wipes=rng.random() < 0.3,
            delay_s=rng.choice((0.0005, 0.002, 0.01)),
            slow_s=rng.choice((0.0, 0.1, 0.3)),
            sync_s=rng.choice((0.0005, 0.003, 0.02, 0.05)),
            checkpoint_entries=rng.choice((3, 10, 40)),
            timing=Timing(
                append_max_bytes=rng.choice((60, 400, 1 << 20)),
                flight_max=rng.choice((1, 4, 256)),
                chunk_max_bytes=rng.choice((40, 300, 1 << 20)),
                log_tail_bytes=rng.choice((0, 200, 2000)),
                log_pin_bytes=rng.choice((500, 1 << 20)),
            ),
        )


class SimNode:
    """A node whose disk survives its processes."""

    def __init__(self, world: World, node_id: int) -> None:
        self.world = world
        self.node_id = node_id
        self.disk = SimDisk(FAMILIES)
        self.machine = ListMachine(world.options.checkpoint_entries)
        self.engine: Engine | None = None
        self.life = 0
        self.paused_until = 0.0
        self.applied_index = 0
        self.outstanding: set[int] = set()
        self._reads: dict[int, int] = {}
        self._held: deque[tuple[int, int, Message]] = deque()
        self._syncing = False
        self._sync_wanted = 0

    def describe(self) -> str:
        engine = self.engine
        if engine is None:
            return "down"
        return f"role {engine.role} term {engine.term} last {engine.log.last_index}"

    def start(self) -> None:
        world = self.world
        self.life += 1
        self.machine = self._observed_machine()
        self.engine = world.make_engine(
            node_id=self.node_id,
            voters=list(world.nodes),
            disk=self.disk,
            machine=self.machine,
            rng=random.Random(world.rng.random()),
            timing=world.options.timing,
            amnesiac=self.disk.get(RAFT_META, AMNESIAC_KEY) is not None,
            now=world.now,
        )
        self.applied_index = self.engine.applied_index
        world.checks.forget_node(self.node_id)
        world.trace("start", self.node_id)
        world.after(world.rng.random() * TICK_S, self._tick, self.life)
        for other in world.nodes:
            if other != self.node_id:
                world.after(
                    0.001 + world.rng.random() * 0.05, world.network.connect, self.node_id, other
                )

    def _observed_machine(self) -> ListMachine:
        machine = ListMachine(self.world.options.checkpoint_entries)
        apply, restore = machine.apply, machine.restore

        def seen(index: int, entry: bytes, decoded: object | None = None) -> object:
            self.world.checks.entry_applied(self, index, entry)
            return apply(index, entry, decoded)

        machine.apply = seen  # type: ignore[method-assign]  # the observer sits in between
        assert restore is not None
        return machine

    def stop(self) -> None:
        """The process is gone, with everything it had not written."""
        engine = self.engine
        if engine is None:
            return
        self.world.collect(engine)
        self.engine = None
        self.life += 1
        self.outstanding.clear()
        self._reads.clear()
        self._held.clear()
        self._syncing = False
        self.world.network.process_gone(self.node_id)

    # ------------------------------------------------------------------------- events

    def _tick(self, life: int, *, extra: bool = False) -> None:
        if life != self.life:
            return
        world = self.world
        if self.paused_until > world.now:
            world.at(self.paused_until, lambda: self._tick(life, extra=extra))
            return
        self.step(Tick())
        if not extra and life == self.life:
            world.after(TICK_S * (0.9 + 0.2 * world.rng.random()), self._tick, life)

    def receive(self, sender: int, message: Message) -> None:
        self.world.trace(sender, ">", self.node_id, type(message).__name__, message[:5])
        self.step(Received(sender, message))

    def connected(self, peer: int) -> None:
        self.step(PeerConnected(peer))

    def disconnected(self, peer: int) -> None:
        if self.engine is not None:
            self.step(PeerDisconnected(peer))

    def propose(self, uid: int, entry: bytes) -> None:
        self.outstanding.add(uid)
        self.step(Propose(entry, None, uid))

    def read(self, number: int) -> None:
        self.outstanding.add(number)
        self._reads[number] = self.world.checks.acked_index
        self.step(ReadBarrier(number))

    def step(self, event: Event) -> None:
        engine = self.engine
        assert engine is not None
        ready = engine.step(event, self.world.now)
        if ready.halted is not None:
            self.world.checks.fail(f"node {self.node_id} halted: {ready.halted}")
        # A snapshot or a no-op moves it too.
        self.applied_index = max(self.applied_index, engine.applied_index)
        self._deliver(ready)
        self.world.checks.after_step(self)

    def _deliver(self, ready: Ready) -> None:
        world = self.world
        for peer, message in ready.messages:
            world.network.send(self.node_id, peer, message)
        self._held.extend(ready.held)
        if ready.sync_needed is not None:
            self._sync_wanted = ready.sync_needed
            self._sync()
        for index, _, context in ready.applied:
            if context is not None:
                self._answered(context, "applied")
                world.checks.acknowledged(int(str(context)), index)
        for context, reason in ready.dropped:
            self._answered(context, reason)
        for context, ok in ready.reads:
            self._answered(context, "read done")
            world.checks.read_done(self, self._reads.pop(int(str(context))), ok=ok)
        if ready.tick_at is not None:
            at = max(ready.tick_at, world.now) + 1e-6
            world.at(at, lambda life=self.life: self._tick(life, extra=True))

    def _answered(self, context: object, how: str) -> None:
        self.world.checks.answers[how] += 1
        if context not in self.outstanding:
            self.world.checks.fail(f"node {self.node_id} answers {context} twice ({how})")
        self.outstanding.discard(int(str(context)))

    # --------------------------------------------------------------------------- disk

    def _sync(self) -> None:
        if self._syncing:
            return
        self._syncing = True
        world, options = self.world, self.world.options
        seconds = world.rng.expovariate(1 / options.sync_s)
        if world.rng.random() < 0.03:
            seconds += world.rng.random() * options.sync_slow_s
        world.after(seconds, self._synced, self.life, self._sync_wanted)

    def _synced(self, life: int, sequence: int) -> None:
        if life != self.life:
            return
        if self.paused_until > self.world.now:
            self.world.at(self.paused_until, self._synced, life, sequence)
            return
        self._syncing = False
        if self.world.syncs_work:
            self.disk.sync(sequence)
        while self._held and self._held[0][0] <= sequence:
            _, peer, message = self._held.popleft()
            self.world.network.send(self.node_id, peer, message)
        self.step(Durable(sequence))
        if life == self.life and self._sync_wanted > sequence:
            self._sync()


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
