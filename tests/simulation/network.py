"""The network between nodes: what is cut, what is slow, and which connections there are.

A connection delivers in order. When it breaks, what its sides have under way is lost from
some moment on, and each side hears of it in its own time; until then its messages vanish.
A one-way cut loses nothing and delivers nothing: what is sent waits, as TCP repeats it,
until the cut ends or a side gives up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.simulation.peer_links import SimLink
    from tests.simulation.process import Process
    from tests.simulation.transport import SimTransport
    from tests.simulation.world import World

Direction = tuple[int, int]
"""(sender, receiver)."""

_RETRANSMIT_S = 0.2


class Cable:
    """One connection between two nodes; `ends` are the dialler's and the other one."""

    __slots__ = ("ends", "intact")

    def __init__(self) -> None:
        self.ends: tuple[SimLink, SimLink]
        self.intact = True


class Network:
    """All connections of one world, and what is wrong with the way between any two nodes."""

    def __init__(self, world: World) -> None:
        options = world.options
        self.world = world
        self.delay_s = options.delay_s
        self.late, self.late_s = options.late, options.late_s
        self.duplicated, self.reordered = options.duplicated, options.reordered
        self.rng = world.rng("network")
        self.client_rng = world.rng("client network")
        self.cut: set[Direction] = set()
        self.client_cut: set[int] = set()
        self.cables: list[Cable] = []
        self._causes: dict[Direction, int] = {}

    def delay(self) -> float:
        """One way of one message."""
        draw = self.rng.random
        seconds = self.delay_s * (0.5 + draw())
        if self.late and draw() < self.late:
            seconds += self.late_s * draw()
        return seconds

    def client_delay(self) -> float:
        """One way between a client and a node."""
        return self.delay_s * (0.5 + self.client_rng.random())

    # --------------------------------------------------------------------------- faults

    def block(self, directions: Iterable[Direction], seconds: float) -> None:
        """Cut some directions for a while; cuts of the same direction add up."""
        for direction in directions:
            self._causes[direction] = self._causes.get(direction, 0) + 1
            self.cut.add(direction)
            self.world.after(seconds, self._unblock, direction)

    def _unblock(self, direction: Direction) -> None:
        causes = self._causes.get(direction, 0) - 1
        self._causes[direction] = max(0, causes)
        if causes == 0:
            self._open(direction)

    def _open(self, direction: Direction) -> None:
        self.cut.discard(direction)
        for cable in list(self.cables):
            for end in cable.ends:
                if end.direction == direction:
                    self.world.after(_RETRANSMIT_S * self.rng.random(), end.flow)

    def lose(self, one: int, other: int) -> bool:
        """Break the connection of a pair; True when there was one."""
        found = [cable for cable in self.cables if cable.ends[0].direction in _both(one, other)]
        for cable in found:
            self._break(cable)
        return bool(found)

    def _break(self, cable: Cable) -> None:
        """Lose what is under way from some moment on; each side hears of it when it does."""
        self.forget(cable)
        now, draw = self.world.now, self.rng.random
        for end in cable.ends:
            end.lose_after(now + draw() * max(0.0, end.out_at - now))
            slow = draw() < 0.3
            end.process.after(draw() * (4.0 if slow else 0.05), end.end, "the network broke it")

    def heal(self) -> None:
        """Nothing is cut any more, and nothing is late."""
        self.duplicated = self.reordered = self.late = 0.0
        self.client_cut.clear()
        self._causes.clear()
        for direction in sorted(self.cut):
            self._open(direction)

    # -------------------------------------------------------------------------- the ends

    def forget(self, cable: Cable) -> None:
        """A connection carries nothing new."""
        if cable.intact:
            cable.intact = False
            self.cables.remove(cable)

    def process_gone(self, process: Process, *, silent: bool) -> None:
        """A process is gone: its kernel closes its connections, unless that went as well."""
        for cable in list(self.cables):
            for end, other in (cable.ends, cable.ends[::-1]):
                if end.process is process:
                    self.forget(cable)
                    if not silent:
                        self._say_end(end, other)
                    else:
                        # Found out when this host is up again, or by silence.
                        end.lose_after(self.world.now)

    def _say_end(self, end: SimLink, other: SimLink) -> None:
        if end.direction in self.cut:
            return  # it hears silence
        at = max(end.out_at, self.world.now + self.delay())
        other.process.at(at, other.end, "the other process has ended")

    def host_up(self, node_id: int) -> None:
        """A host that had lost power answers to what belongs to no connection of it."""
        for node in self.world.nodes.values():
            if node.transport is not None and node.process is not None:
                for link in node.transport.links_to(node_id):
                    if not link.cable.intact:
                        seconds = 0.3 * self.rng.random()
                        node.process.after(seconds, link.end, "reset by the other host")

    def reaches(self, one: int, other: int) -> bool:
        """Whether a handshake can pass: both directions are open."""
        return (one, other) not in self.cut and (other, one) not in self.cut

    def listener(self, node_id: int) -> SimTransport | None:
        """Who answers at a node's peer address now."""
        node = self.world.nodes.get(node_id)
        if node is None or node.process is None or node.transport is None:
            return None
        return node.transport if node.transport.is_listening else None


def _both(one: int, other: int) -> tuple[Direction, Direction]:
    return (one, other), (other, one)
