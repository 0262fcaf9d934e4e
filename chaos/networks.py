"""What lies between nodes and clients: the proxy on loopback, and what another tier puts there."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from chaos.access import Access
from chaos.layout import Layout, PortFinder
from chaos.pages import Place
from chaos.proxies import Proxies


class Network:
    """All nodes on loopback, every connection through the proxy.

    Args:
        directory: Of the run.
        size: Number of nodes.
        seed: Of the proxy's delays.
        ports: Finds free ports.

    Attributes:
        layout: Where everything listens.
        proxies: What stands between.
        access: What clients need; known when it has started.
    """

    layout: Layout
    proxies: Proxies
    access: Access = Access()

    def __init__(self, directory: Path, *, size: int, seed: int, ports: PortFinder) -> None:
        self.layout = Layout(range(1, size + 1), ports)
        self.proxies = Proxies(directory, seed=seed)

    def settings(self, node_id: int) -> Mapping[str, str]:
        """Return what a node is told of it, by key of the configuration."""
        return {
            "raft.peer_addresses": self.layout.detours(node_id),
            "broker.advertised_address": self.layout.ports[node_id].address,
        }

    def place(self, node_id: int) -> Place:
        """Return where a node is."""
        del node_id
        return contextlib.nullcontext

    async def start(self) -> None:
        """Put it there, before any node; from the main thread alone.

        Raises:
            ProxyError: It cannot be; for example, a port is in use.
        """
        await self.proxies.start(self.layout.links.values())

    async def replace(self, leaver: int, newcomer: int) -> None:
        """Make room for a newcomer in the place of a node that has gone."""
        gone, made = self.layout.replace(leaver, newcomer)
        await self.proxies.shut(gone)
        await self.proxies.open(made)

    async def close(self) -> None:
        """Take it away, after all nodes."""
        await self.proxies.close()
