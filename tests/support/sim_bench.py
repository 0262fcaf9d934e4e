"""A few engines on a bench: every message and every sync is moved by hand.

`settle` moves everything that may move. A cut link drops what is sent over it, a stuck
disk never finishes a sync, and `transit` can be read, reordered and edited in between.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from cluster.configuration import AddLearner, Change, Configuration, Promote
from cluster.engine import Engine
from cluster.events import (
    ChangeMembers,
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
from cluster.progress import NEVER
from cluster.state import LEADER
from tests.support.sim_disk import SimDisk
from tests.support.sim_machine import FAMILIES, ListMachine


class Bench:
    """Engines 1..n, all connected, nobody leading yet.

    Args:
        nodes: How many voters.
        engine: Class of the engines, by node or one for all.
        timing: As for the engine.
        checkpoint_entries: As for `ListMachine`.
        amnesiac: Nodes that start without their memory.
    """

    def __init__(
        self,
        nodes: int = 3,
        *,
        engine: type[Engine] = Engine,
        timing: Timing | None = None,
        checkpoint_entries: int = 1000,
        amnesiac: Sequence[int] = (),
    ) -> None:
        self.now = 100.0
        self.engine_class = engine
        self.timing = timing or Timing()
        self.checkpoint_entries = checkpoint_entries
        self.voters = list(range(1, nodes + 1))
        self.founding = dict.fromkeys(self.voters, Configuration(voters=tuple(self.voters)))
        self.disks = {node: SimDisk(FAMILIES) for node in self.voters}
        self.machines: dict[int, ListMachine] = {}
        self.engines: dict[int, Engine] = {}
        self.transit: list[tuple[int, int, Message]] = []
        self.cut: set[tuple[int, int]] = set()
        self.stuck_disks: set[int] = set()
        self.held: dict[int, list[tuple[int, int, Message]]] = {n: [] for n in self.voters}
        self.sync_wanted: dict[int, int] = {}
        self.answers: dict[object, str] = {}
        self.halted: dict[int, str] = {}
        self.last: Ready = Ready()
        for node in self.voters:
            if node in amnesiac:
                self.disks[node].put(RAFT_META, AMNESIAC_KEY, b"")
                self.disks[node].sync(self.disks[node].write() or 0)
            self.start(node)
        for node in self.voters:
            for other in self.voters:
                if other != node:
                    self.step(node, PeerConnected(other))
            self.sync(node)  # the founding configuration

    def start(self, node: int) -> Engine:
        self.machines[node] = ListMachine(self.checkpoint_entries)
        self.engines[node] = engine = self.engine_class(
            node_id=node,
            founding=self.founding[node],
            disk=self.disks[node],
            machine=self.machines[node],
            rng=random.Random(node),
            timing=self.timing,
            amnesiac=self.disks[node].get(RAFT_META, AMNESIAC_KEY) is not None,
            now=self.now,
        )
        self.held[node] = []
        return engine

    def join(self, node: int, *, amnesiac: bool = True) -> Engine:
        """Start one more node with an empty disk, that nobody has let in yet, and connect it."""
        self.voters.append(node)
        self.founding[node] = Configuration.nobody()
        self.disks[node] = SimDisk(FAMILIES)
        self.held[node] = []
        if amnesiac:
            self.disks[node].put(RAFT_META, AMNESIAC_KEY, b"")
            self.disks[node].sync(self.disks[node].write() or 0)
        engine = self.start(node)
        for other in self.voters:
            if other != node:
                self.step(node, PeerConnected(other))
                self.step(other, PeerConnected(node))
        self.sync(node)
        return engine

    def restart(self, node: int, *, power_loss: bool = False) -> Engine:
        """Kill a process and start it again; the peers see the connection close and open."""
        self.transit = [item for item in self.transit if node not in item[:2]]
        if power_loss:
            self.disks[node].lose_power(random.Random(0))
        else:
            self.disks[node].kill()
        self.sync_wanted.pop(node, None)
        engine = self.start(node)
        for other in self.voters:
            if other != node:
                self.reconnect(node, other)
        return engine

    def reconnect(self, node: int, other: int) -> None:
        self.transit = [item for item in self.transit if {node, other} != set(item[:2])]
        for one, two in ((node, other), (other, node)):
            self.step(one, PeerDisconnected(two))
            self.step(one, PeerConnected(two))

    # ------------------------------------------------------------------------ movement

    def step(self, node: int, event: Event) -> Ready:
        self.last = ready = self.engines[node].step(event, self.now)
        if ready.halted is not None:
            self.halted[node] = ready.halted
        self._send(node, [(peer, message) for peer, message in ready.messages])
        self.held[node] += ready.held
        if ready.sync_needed is not None:
            self.sync_wanted[node] = ready.sync_needed
        for _, _, context in ready.applied:
            if context is not None:
                self._answer(context, "applied")
        for context, reason in ready.dropped:
            self._answer(context, reason)
        for context, _, refusal in ready.changes:
            self._answer(context, refusal or "changed")
        for context, ok in ready.reads:
            self._answer(context, "read" if ok else "no read")
        return ready

    def _answer(self, context: object, how: str) -> None:
        assert context not in self.answers, f"{context} answered twice"
        self.answers[context] = how

    def _send(self, node: int, messages: list[tuple[int, Message]]) -> None:
        self.transit += [
            (node, to, message) for to, message in messages if (node, to) not in self.cut
        ]

    def sync(self, node: int) -> None:
        """Finish the sync a node waits for: release what it held, then tell it."""
        sequence = self.sync_wanted.pop(node, None)
        if sequence is None:
            return
        self.disks[node].sync(sequence)
        free = [(peer, message) for needed, peer, message in self.held[node] if needed <= sequence]
        self.held[node] = [item for item in self.held[node] if item[0] > sequence]
        self._send(node, free)
        self.step(node, Durable(sequence))

    def settle(self, until: Callable[[], bool] = lambda: False) -> None:
        """Deliver and sync until nothing moves, or until something is so."""
        for _ in range(10_000):
            if until():
                return
            if self.transit:
                sender, to, message = self.transit.pop(0)
                if (sender, to) not in self.cut:
                    self.step(to, Received(sender, message))
                continue
            waiting = [node for node in self.sync_wanted if node not in self.stuck_disks]
            if not waiting:
                return
            self.sync(waiting[0])
        raise AssertionError("the bench never settles")

    def advance(self, seconds: float, *, nodes: Sequence[int] | None = None) -> None:
        """Let time pass in ticks of 20 ms, settling after each."""
        end = self.now + seconds
        while self.now < end:
            self.now += 0.02
            for node in nodes or self.voters:
                self.step(node, Tick())
            self.settle()

    # ------------------------------------------------------------------------- actions

    def isolate(self, node: int) -> None:
        self.cut |= {(node, other) for other in self.voters}
        self.cut |= {(other, node) for other in self.voters}

    def heal(self) -> None:
        self.cut.clear()

    def elect(self, node: int) -> Engine:
        """Make a node stand, with nobody hearing another leader, and let it win."""
        engine = self.elect_only(node)
        self.settle()
        return engine

    def elect_only(self, node: int) -> Engine:
        """The same, stopping at the moment of the win: nothing it sent has arrived."""
        for engine in self.engines.values():
            engine.heard_at = NEVER
            engine.encouraged = (engine.node_id, NEVER)
        chosen = self.engines[node]
        chosen.election_deadline = NEVER
        self.now += 0.001
        self.step(node, Tick())
        self.settle(until=lambda: chosen.role == LEADER)
        assert chosen.role == LEADER, chosen.status
        return chosen

    def propose(self, node: int, name: str) -> None:
        self.step(node, Propose(name.encode(), None, name))

    def change(self, node: int, change: Change, name: str) -> None:
        self.step(node, ChangeMembers(change, name))

    def add_learner(self, leader: int, node: int) -> Engine:
        """Let an empty node in and let it catch up."""
        engine = self.join(node)
        self.change(leader, AddLearner(node, ("127.0.0.1", 7400 + node)), f"add {node}")
        self.advance(0.3)
        assert self.answers[f"add {node}"] == "changed", self.answers
        return engine

    def add_voter(self, leader: int, node: int) -> Engine:
        """The same, and promote it."""
        engine = self.add_learner(leader, node)
        self.change(leader, Promote(node), f"promote {node}")
        self.advance(0.1)
        assert self.answers[f"promote {node}"] == "changed", self.answers
        return engine

    def read(self, node: int, name: str) -> None:
        self.step(node, ReadBarrier(name))

    def entries(self, node: int) -> list[str]:
        """What the node's machine holds, in order."""
        machine = self.machines[node]
        return [machine.entries[index].decode() for index in sorted(machine.entries)]

    def logged(self, node: int) -> list[str]:
        """The entries in a node's log, no-ops and configurations left out."""
        entries = self.engines[node].log.entries[1:]
        return [entry.decode() for entry, _, _ in entries if entry[:1] > b"\0"]
