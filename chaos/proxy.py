"""All links of a cluster as one process: `python -m chaos.proxy --socket PATH --seed N`.

Every connection between two nodes, and between a client and a node, runs through here. Who
started it sends commands over a unix socket, a JSON object a line, and gets a line for each,
with its number `n` if it has one:

    {"do": "open", "links": [[dialler, target, port, upstream], ...]}
    {"do": "shut", "links": [[dialler, target], ...]}
    {"do": "set", "ways": [[from, to], ...], "policy": {"mode": "drop"}}
    {"do": "reset", "ways": [[one, other], ...], "half": false}
    {"do": "stats"}

Delays come from the seed, one stream a direction.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from chaos.flows import Connection, End, Way
from chaos.links import Direction, Link, Policy
from chaos.orders import obey_until_left


class Proxy:
    """All links, and the commands about them.

    Args:
        seed: Draws the delays.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._ways: dict[Direction, Way] = {}
        self._servers: dict[Direction, asyncio.Server] = {}
        self._connections: dict[Connection, None] = {}
        self._opened: defaultdict[str, int] = defaultdict(int)

    async def obey(self, command: dict[str, Any]) -> dict[str, Any]:
        """Carry a command out; return what is answered.

        Raises:
            ValueError: It makes no sense.
            OSError: A port cannot be had.
        """
        match command:
            case {"do": "open", "links": list() as links}:
                for link in links:
                    await self._open(Link(*link))
                return {}
            case {"do": "shut", "links": list() as links}:
                return {"shut": sum(self._shut((one, other)) for one, other in links)}
            case {"do": "set", "ways": list() as ways, "policy": dict() as form}:
                self._set([(one, other) for one, other in ways], Policy.from_dict(form))
                return {}
            case {"do": "reset", "ways": list() as ways}:
                hit = self._reset({(one, other) for one, other in ways}, bool(command.get("half")))
                return {"connections": hit}
            case {"do": "stats"}:
                moved = {f"{one}>{other}": way.bytes for (one, other), way in self._ways.items()}
                return {"bytes": moved, "opened": self._opened, "open": len(self._connections)}
        raise ValueError(f"no such command: {command}")

    def way(self, direction: Direction) -> Way:
        """Return the state of a direction."""
        if direction not in self._ways:
            stream = self._seed * 1_000_003 + direction[0] * 1009 + direction[1]
            self._ways[direction] = Way(random.Random(stream))
        return self._ways[direction]

    async def _open(self, link: Link) -> None:
        out, back = self.way((link.dialler, link.target)), self.way((link.target, link.dialler))

        def accept() -> End:
            connection = Connection(link, out, back, lambda it: self._connections.pop(it, None))
            self._connections[connection] = None
            self._opened[f"{link.dialler}>{link.target}"] += 1
            return connection.near

        loop = asyncio.get_running_loop()
        server = await loop.create_server(accept, "127.0.0.1", link.port)
        self._servers[link.dialler, link.target] = server

    def _shut(self, direction: Direction) -> int:
        server = self._servers.pop(direction, None)
        if server is None:
            return 0
        server.close()
        for connection in list(self._connections):
            if (connection.link.dialler, connection.link.target) == direction:
                connection.abort()
        return 1

    def _set(self, directions: Sequence[Direction], policy: Policy) -> None:
        for direction in directions:
            way = self.way(direction)
            way.policy = policy
            for flow in list(way.flows):
                flow.turn()
        for connection in list(self._connections):
            connection.turn()

    def _reset(self, directions: set[Direction], half: bool) -> int:
        hit = [
            one
            for one in self._connections
            if (one.link.dialler, one.link.target) in directions
            or (one.link.target, one.link.dialler) in directions
        ]
        for connection in hit:
            if half:
                connection.halve()
            else:
                connection.abort()
        return len(hit)


if __name__ == "__main__":
    sys.exit(obey_until_left(Proxy, program="chaos.proxy"))
