"""Where everything listens: three ports a node, a door for its clients, a link each way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from chaos.links import CLIENTS, Link
from chaos.nodes import LOOPBACK, Ports

PortFinder = Callable[[int], list[int]]


class Layout:
    """The ports of a cluster, which may grow.

    Args:
        node_ids: Those it begins with.
        find: Finds free ports.

    Attributes:
        ports: By node.
        links: The proxy's, by (dialler, target).
    """

    def __init__(self, node_ids: Iterable[int], find: PortFinder) -> None:
        self._find = find
        self.ports: dict[int, Ports] = {}
        self.links: dict[tuple[int, int], Link] = {}
        members = list(node_ids)
        numbers = iter(find(len(members) * (len(members) + 3)))
        for node_id in members:
            four = Ports(next(numbers), next(numbers), next(numbers), next(numbers))
            self._place(node_id, four)
        for dialler in members:
            self._connect(dialler, members, numbers)

    def _place(self, node_id: int, ports: Ports) -> Link:
        self.ports[node_id] = ports
        door = Link(CLIENTS, node_id, ports.door, ports.client)
        self.links[CLIENTS, node_id] = door
        return door

    def _connect(self, dialler: int, targets: Iterable[int], numbers: Iterable[int]) -> list[Link]:
        rest = iter(numbers)
        made = [
            Link(dialler, target, next(rest), self.ports[target].raft)
            for target in targets
            if target != dialler
        ]
        self.links |= {(dialler, link.target): link for link in made}
        return made

    def replace(self, leaver: int, newcomer: int) -> tuple[list[Link], list[Link]]:
        """Put a newcomer in the place of a node that has gone, behind the same door.

        Clients that know the addresses of the beginning so find it, too.

        Returns:
            The links that are no more, and the new ones.
        """
        gone = [link for pair, link in self.links.items() if leaver in pair]
        for link in gone:
            del self.links[link.dialler, link.target]
        door = self.ports.pop(leaver).door
        others = list(self.ports)
        numbers = iter(self._find(3 + 2 * len(others)))
        four = Ports(next(numbers), next(numbers), next(numbers), door)
        made = [self._place(newcomer, four), *self._connect(newcomer, others, numbers)]
        for other in others:
            made += self._connect(other, [newcomer], numbers)
        return gone, made

    def peers(self) -> str:
        """Return the raft addresses, as `--peers` takes them."""
        return listed({node_id: ports.raft for node_id, ports in self.ports.items()})

    def detours(self, node_id: int) -> str:
        """Return where a node dials the others, as `raft.peer_addresses` takes it."""
        return listed(
            {target: link.port for (one, target), link in self.links.items() if one == node_id}
        )


def listed(ports: Mapping[int, int], *, host: Callable[[int], str] = lambda _: LOOPBACK) -> str:
    """Return `1=host:port,2=...`."""
    return ",".join(f"{node_id}={host(node_id)}:{port}" for node_id, port in ports.items())
