"""A client's connection to a node: TCP as both see it, with the node's real client port.

The node's side is `node.tcp.Connection`, with a `_Socket` in the place of an asyncio
transport. In order, at most once; a cut loses what was under way, and each side hears of
it in its own time. What one side writes at one instant travels together, as a kernel sends
it; now and then a segment ends in the middle of a frame and the rest comes later.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any, Protocol

from node.tcp import Connection
from tests.simulation.process import Process

if TYPE_CHECKING:
    from tests.simulation.nodes import SimNode
    from tests.simulation.world import World

_HEAD_BYTES = 5
_LENGTH_BYTES = 4
_SPLIT = 0.04
"""Share of segments that come in two pieces."""
_CONNECT_MAX_S = 3.0
"""How long a client waits for a host that does not answer."""


Arrivals = dict[tuple[Process, float], list[tuple["ClientLink", list[bytes]]]]
"""What comes to a node: process and time of a turn of its loop -> segments."""


class ClientUser(Protocol):
    """Who uses a connection; all calls come from the world."""

    def opened(self, link: ClientLink) -> None:
        """The connection is there."""

    def came(self, message_type: int, body: bytes) -> None:
        """A whole frame came."""

    def closed(self) -> None:
        """The connection is gone, or could not be made. Once, and the last call."""


def dial(world: World, node: SimNode, user: ClientUser) -> None:
    """Connect to a node, refused if its process is down, in vain if its host cannot be reached."""
    network = world.network
    rng = network.client_rng

    def connect() -> None:
        if node.node_id in network.client_cut or node.is_dark:
            world.after(_CONNECT_MAX_S * rng.random(), user.closed)
        elif node.process is None:
            world.after(network.delay_s, user.closed)
        else:
            user.opened(ClientLink(world, node, node.process, user))

    world.after(2 * network.delay_s * (0.5 + rng.random()), connect)


def _take_turn(arrivals: Arrivals, turn: tuple[Process, float]) -> None:
    """Read what has come since the loop last looked, as one call of epoll has it."""
    for link, segment in arrivals.pop(turn):
        link._arrived(segment)


class ClientLink:
    """The client's end."""

    __slots__ = (
        "_dead",
        "_ended",
        "_from_node",
        "_from_node_at",
        "_from_node_since",
        "_network",
        "_process",
        "_rest",
        "_rng",
        "_to_node",
        "_to_node_at",
        "_to_node_since",
        "_told",
        "_turn_s",
        "_user",
        "_world",
        "connection",
        "node",
    )

    def __init__(self, world: World, node: SimNode, process: Process, user: ClientUser) -> None:
        self.node = node
        self._world = world
        self._network = world.network
        self._rng = world.network.client_rng
        self._process = process
        self._user = user
        self._to_node_at = self._from_node_at = 0.0
        self._to_node_since = self._from_node_since = -1.0
        self._to_node: list[bytes] = []
        """The latest segment, written at `_to_node_since`; likewise the other way."""
        self._from_node: list[bytes] = []
        self._rest = b""
        """The second piece of a segment of which the node has the first."""
        self._dead = False
        """Nothing arrives any more, in either direction."""
        self._ended = False
        """The client has closed its end."""
        self._told = False
        self._turn_s = world.options.turn_s
        self.connection = Connection(node.clients)
        node.links.append(self)
        process.at(world.now, self._accept)

    @property
    def is_open(self) -> bool:
        """Neither side has been told of an end."""
        return not (self._ended or self._told)

    @property
    def is_clear(self) -> bool:
        """The process at the other end is there and runs, and the way to it is open."""
        return not (self._dead or self._process.paused) and self._process.alive

    def send(self, frame: bytes) -> None:
        """Send one whole frame to the node, or lose it."""
        if self._dead or self._ended:
            return
        now = self._world.now
        if now == self._to_node_since:
            self._to_node.append(frame)
            return
        self._to_node_since = now
        self._to_node = segment = [frame]
        at = self._reaches_node_at()
        turn_s = self._turn_s
        if not turn_s:
            self._process.at(at, self._arrived, segment)
            return
        self._to_node_at = at = ceil(at / turn_s) * turn_s
        arrivals, turn = self.node.arrivals, (self._process, at)
        waiting = arrivals.get(turn)
        if waiting is None:
            arrivals[turn] = [(self, segment)]
            self._process.at(at, _take_turn, arrivals, turn)
        else:
            waiting.append((self, segment))

    def close(self) -> None:
        """Close from the client's side; `closed` is not called."""
        if not (self._ended or self._told):
            self._ended = self._told = True
            self._process.at(self._reaches_node_at(), self._finish)

    def cut(self) -> None:
        """The network forgets the connection; what is under way is lost."""
        if self._dead:
            return
        self._dead = True
        world, rng = self._world, self._rng
        world.after(rng.random() * (0.05 if rng.random() < 0.7 else 2.0), self._tell)
        self._process.after(rng.random() * 2.0, self._lost)

    def process_gone(self, *, silent: bool) -> None:
        """The node's process is gone; nobody says so if its host went with it."""
        if not self._dead:
            self._dead = True
            seconds = 2.0 * self._rng.random() if silent else self._network.delay_s
            self._world.after(seconds, self._tell)

    # ------------------------------------------------------------------- on their way

    def _reaches_node_at(self) -> float:
        at = self._world.now + self._network.client_delay()
        self._to_node_at = at = max(at, self._to_node_at)
        return at

    def answered(self, data: bytes) -> None:
        """Carry what the node writes."""
        if self._dead:
            return
        now = self._world.now
        if now == self._from_node_since:
            self._from_node.append(data)
            return
        self._from_node_since = now
        self._from_node = segment = [data]
        at = now + self._network.client_delay()
        self._from_node_at = at = max(at, self._from_node_at)
        self._world.at(at, self._came, segment)

    def finished(self) -> None:
        """Carry the end of the connection, as the node has closed it."""
        self._world.at(max(self._world.now, self._from_node_at), self._tell)
        self._process.soon(self._lost)

    def _accept(self) -> None:
        if not self._dead:
            self.connection.connection_made(_Socket(self))  # type: ignore[arg-type]  # all of it that is used

    def _arrived(self, segment: list[bytes]) -> None:
        if self._dead:
            return
        data = segment[0] if len(segment) == 1 else b"".join(segment)
        if self._rest:
            data, self._rest = self._rest + data, b""
        elif self._rng.random() < _SPLIT:
            at = self._rng.randrange(1, len(data))
            data, self._rest = data[:at], data[at:]
            self._to_node_at = max(self._to_node_at, self._world.now + self._network.delay_s)
            self._process.at(self._to_node_at, self._rest_arrived)
        self.connection.data_received(data)

    def _rest_arrived(self) -> None:
        """Hand over the second piece, unless what came after it brought it along."""
        rest, self._rest = self._rest, b""
        if rest and not self._dead:
            self.connection.data_received(rest)

    def _finish(self) -> None:
        """The client has closed its end, after all that it has sent."""
        self._rest_arrived()
        self._lost()

    def _lost(self) -> None:
        """Tell the node's side, once."""
        self._dead = True
        if self in self.node.links and self.node.process is self._process:
            self.node.links.remove(self)
            self.connection.connection_lost(None)

    def _came(self, segment: list[bytes]) -> None:
        if self._dead or self._told:
            return
        data = segment[0] if len(segment) == 1 else b"".join(segment)
        at, came = 0, self._user.came
        while at < len(data) and not self._told:
            start = at + _HEAD_BYTES
            end = at + _LENGTH_BYTES + int.from_bytes(data[at : at + _LENGTH_BYTES], "big")
            came(data[start - 1], data[start:end])
            at = end

    def _tell(self) -> None:
        self._dead = True
        if not self._told:
            self._told = True
            self._user.closed()


class _Socket:
    """What `node.tcp.Connection` asks of an asyncio transport."""

    __slots__ = ("_closing", "_link", "write")

    def __init__(self, link: ClientLink) -> None:
        self._link = link
        self._closing = False
        self.write = link.answered

    def set_write_buffer_limits(self, **_limits: Any) -> None:
        """Clients of the simulation read at once."""

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._link.finished()

    abort = close

    def pause_reading(self) -> None:
        """Frames are few: what comes meanwhile is handed over all the same."""

    resume_reading = pause_reading
