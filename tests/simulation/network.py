"""Connections that behave like TCP: in order, and a break loses a suffix.

A break is noticed by each side at its own time. Until then the sender's messages vanish
and what was already on its way still arrives. A one-way cut delays and loses nothing,
unless it lasts so long that the connection is given up.
"""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING

from cluster.messages import Message, decode

if TYPE_CHECKING:
    from tests.simulation.world import World

Link = tuple[int, int]


class Connection:
    """One connection between two nodes, both directions."""

    def __init__(self, one: int, other: int) -> None:
        self.alive = True
        self.queues: dict[Link, deque[tuple[float, list[object]]]] = {
            (one, other): deque(),
            (other, one): deque(),
        }
        self.busy: set[Link] = set()
        self.latest: dict[Link, float] = {(one, other): 0.0, (other, one): 0.0}


class Network:
    """All connections of one world."""

    def __init__(self, world: World, *, delay_s: float, slow_s: float) -> None:
        self.world = world
        self.delay_s = delay_s
        self.slow_s = slow_s
        self.open: dict[Link, Connection] = {}
        self.cut: set[Link] = set()
        self.duplicate_votes = False

    @property
    def rng(self) -> random.Random:
        return self.world.rng

    def send(self, sender: int, receiver: int, message: Message) -> None:
        connection = self.open.get((sender, receiver))
        if connection is None or not connection.alive:
            return
        link = (sender, receiver)
        delay = self.rng.expovariate(1 / self.delay_s)
        if self.rng.random() < 0.05:
            delay += self.rng.random() * self.slow_s
        at = max(connection.latest[link] + 1e-6, self.world.now + delay)
        connection.latest[link] = at
        form = message.to_list()
        copies = 2 if self.duplicate_votes and form[0] in {4, 6} else 1
        for _ in range(copies):
            connection.queues[link].append((at, form))
        self._pump(connection, link)

    def _pump(self, connection: Connection, link: Link) -> None:
        queue = connection.queues[link]
        if queue and link not in connection.busy:
            connection.busy.add(link)
            self.world.at(max(queue[0][0], self.world.now), self._deliver, connection, link)

    def _deliver(self, connection: Connection, link: Link) -> None:
        connection.busy.discard(link)
        queue = connection.queues[link]
        receiver = self.world.nodes[link[1]]
        if not queue or link in self.cut:
            return
        if self.open.get((link[1], link[0])) is not connection or receiver.engine is None:
            queue.clear()
            return
        if receiver.paused_until > self.world.now:
            connection.busy.add(link)
            self.world.at(receiver.paused_until, self._deliver, connection, link)
            return
        message = decode(queue.popleft()[1])
        self._pump(connection, link)
        receiver.receive(link[0], message)

    # ------------------------------------------------------------------------- faults

    def connect(self, one: int, other: int) -> None:
        """Open a connection if both are up and can reach each other; try again if not."""
        nodes = self.world.nodes
        if (one, other) in self.open or (other, one) in self.open:
            return
        if nodes[one].engine is None or nodes[other].engine is None:
            return  # whoever starts next asks again
        if {(one, other), (other, one)} & self.cut:
            self._again(one, other)
            return
        connection = Connection(one, other)
        self.open[(one, other)] = self.open[(other, one)] = connection
        self.world.trace("connect", one, other)
        nodes[one].connected(other)
        nodes[other].connected(one)

    def _again(self, one: int, other: int) -> None:
        self.world.after(0.02 + self.rng.random() * 0.3, self.connect, one, other)

    def lose(self, one: int, other: int) -> None:
        """Break the connection: a suffix is lost, each side notices in its own time."""
        connection = self.open.get((one, other)) or self.open.get((other, one))
        if connection is None or not connection.alive:
            return
        connection.alive = False
        self.world.trace("break", one, other)
        for queue in connection.queues.values():
            for _ in range(self.rng.randint(0, len(queue))):
                queue.pop()
        for link in ((one, other), (other, one)):
            slow = self.rng.random() < 0.3
            delay = self.rng.random() * (2.0 if slow else 0.03)
            self.world.after(delay, self._notice, connection, link)

    def _notice(self, connection: Connection, link: Link) -> None:
        if self.open.get(link) is not connection:
            return
        del self.open[link]
        connection.queues[(link[1], link[0])].clear()
        self.world.nodes[link[0]].disconnected(link[1])
        self._again(*link)

    def process_gone(self, node_id: int) -> None:
        """The kernel closes a dead process's connections; peers notice soon."""
        for other in self.world.nodes:
            if self.open.pop((node_id, other), None) is not None:
                connection = self.open.get((other, node_id))
                if connection is not None:
                    connection.alive = False
                    delay = self.rng.random() * 0.03
                    self.world.after(delay, self._notice, connection, (other, node_id))

    def block(self, link: Link, seconds: float) -> None:
        """Cut one direction for a while."""
        self.cut.add(link)
        self.world.trace("cut", link)
        self.world.after(seconds, self.unblock, link)
        if seconds > 2.0:
            self.world.after(2.0, self.lose, *link)

    def unblock(self, link: Link) -> None:
        if link in self.cut:
            self.cut.discard(link)
            self.world.trace("uncut", link)
            connection = self.open.get(link) or self.open.get((link[1], link[0]))
            if connection is not None:
                self._pump(connection, link)

    def heal(self) -> None:
        for link in sorted(self.cut):
            self.unblock(link)
