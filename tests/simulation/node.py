"""A node of the simulation, and what a world is made of."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

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
from tests.support.sim_disk import SimDisk
from tests.support.sim_machine import FAMILIES, ListMachine

if TYPE_CHECKING:
    from tests.simulation.world import World

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
                apply_max_bytes=rng.choice((300, 1 << 18)),
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
        apply = machine.apply

        def seen(index: int, entry: bytes, decoded: object | None = None) -> object:
            self.world.checks.entry_applied(self, index, entry)
            return apply(index, entry, decoded)

        machine.apply = seen  # type: ignore[method-assign]  # the observer sits in between
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
