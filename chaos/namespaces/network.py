"""Nodes with a network namespace each, a switch between them, TLS and tokens."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from chaos.layout import Layout, listed
from chaos.links import CLIENTS, Link
from chaos.namespaces import kernel
from chaos.namespaces.access import AccessError, Authority
from chaos.namespaces.addresses import address
from chaos.networks import Network
from chaos.nodes import Ports
from chaos.pages import Place
from chaos.proxies import Proxies, ProxyError

_RAFT, _CLIENT, _HTTP = 7400, 7401, 7402


class Streets(Layout):
    """The addresses of a cluster whose nodes have all ports to themselves."""

    def __init__(self, node_ids: Iterable[int]) -> None:
        self.links = {}
        self.ports = {node_id: _ports(node_id) for node_id in node_ids}

    def replace(self, leaver: int, newcomer: int) -> tuple[list[Link], list[Link]]:
        """Put a newcomer in the place of a node; there are no links."""
        del self.ports[leaver]
        self.ports[newcomer] = _ports(newcomer)
        return [], []

    def detours(self, node_id: int) -> str:
        """Return "": nodes dial each other."""
        del node_id
        return ""

    def peers(self) -> str:
        """Return the raft addresses, as `--peers` takes them."""
        return listed({node_id: ports.raft for node_id, ports in self.ports.items()}, host=address)


def _ports(node_id: int) -> Ports:
    return Ports(_RAFT, _CLIENT, _HTTP, _CLIENT, host=address(node_id))


class Switch(Proxies):
    """The switch process as the rest of the harness sees it.

    Policies and impairments of directions go to it as they go to the proxy. Connections it
    knows nothing of, so it cannot reset them.
    """

    module: ClassVar[str] = "chaos.namespaces.switch"

    def __init__(self, directory: Path, *, seed: int = 0) -> None:
        super().__init__(directory, seed=seed)
        self._namespaces: dict[int, int] = {}

    async def open(self, links: Iterable[Link]) -> None:
        """Do nothing: whoever has a place reaches everybody."""

    async def shut(self, links: Iterable[Link]) -> None:
        """Do nothing."""

    async def settle(self, who: int) -> None:
        """Make a namespace for somebody.

        Raises:
            ProxyError: The kernel refuses.
        """
        told = await self._tell({"do": "settle", "who": who})
        self._namespaces[who] = os.open(told["namespace"], os.O_RDONLY | os.O_CLOEXEC)

    async def leave(self, who: int) -> None:
        """Let somebody's namespace go."""
        await self._tell({"do": "leave", "who": who})
        os.close(self._namespaces.pop(who))

    @contextlib.contextmanager
    def inside(self, who: int) -> Iterator[None]:
        """Be where somebody is."""
        with kernel.inside(self._namespaces[who]):
            yield

    def move_in(self, who: int) -> None:
        """Put this thread, and what it starts from now on, where somebody is."""
        kernel.enter(self._namespaces[who])

    async def close(self) -> None:
        """End the process; what is in the namespaces has ended."""
        await super().close()
        while self._namespaces:
            os.close(self._namespaces.popitem()[1])


class NamespaceNetwork(Network):
    """Each node in a namespace of its own, all clients and the harness in one more.

    The harness looks at a node's pages from within its namespace, so that what is done to
    packets does not blind it.

    Args:
        directory: Of the run.
        size: Number of nodes.
        seed: Of what happens to packets.
        command: Program of a node, which also makes certificates.
        home: Working directory of it.
    """

    def __init__(
        self, directory: Path, *, size: int, seed: int, command: Sequence[str], home: Path
    ) -> None:
        self.layout = Streets(range(1, size + 1))
        self._switch = Switch(directory, seed=seed)
        self.proxies = self._switch
        self._secrets = directory.resolve() / "secrets"
        self._authority = Authority(self._secrets, command, home=home)
        self._origin: int | None = None

    def settings(self, node_id: int) -> Mapping[str, str]:
        """Return what a node is told of it."""
        return {**super().settings(node_id), **self._authority.settings(node_id)}

    def place(self, node_id: int) -> Place:
        """Return where a node is."""
        return lambda: self._switch.inside(node_id)

    async def start(self) -> None:
        """Make certificates, the switch and all namespaces, and move into that of the clients."""
        try:
            await asyncio.to_thread(self._authority.found)
            issued = [asyncio.to_thread(self._authority.issue, one) for one in self.layout.ports]
            admitted = asyncio.to_thread(self._authority.admit)
            self.access, _ = await asyncio.gather(admitted, asyncio.gather(*issued))
        except AccessError as error:
            raise ProxyError(str(error)) from error
        await self._switch.start([])
        for who in (CLIENTS, *self.layout.ports):
            await self._switch.settle(who)
        self._origin = kernel.current()
        self._switch.move_in(CLIENTS)

    async def replace(self, leaver: int, newcomer: int) -> None:
        """Make room for a newcomer."""
        await super().replace(leaver, newcomer)
        await self._switch.leave(leaver)
        await asyncio.to_thread(self._authority.issue, newcomer)
        await self._switch.settle(newcomer)

    async def close(self) -> None:
        """Move out, and take everything away."""
        if self._origin is not None:
            kernel.enter(self._origin)
            os.close(self._origin)
            self._origin = None
        await super().close()
        shutil.rmtree(self._secrets, ignore_errors=True)
