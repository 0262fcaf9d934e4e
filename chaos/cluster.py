"""The cluster under test: real node processes, every connection through the proxy.

Use it from the main thread: the kernel ends a child with the thread that started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, TypeVar

from chaos.clocks import WallClock
from chaos.disks import Disk, sweep
from chaos.layout import PortFinder
from chaos.namespaces.network import NamespaceNetwork
from chaos.networks import Network
from chaos.nodes import ChaosNode
from chaos.power import Power
from chaos.shims import CLOCK, DISK, build
from chaos.spots import Spot
from deploy.local.ports import free_ports
from deploy.local.processes import ChildProcess
from tq import Client

ROOT: Final = Path(__file__).resolve().parents[1]
CONFIGURATION: Final = ROOT / "deploy" / "compose" / "node.yaml"
"""What every node is told, here as in the Compose file."""

LAUNCHER: Final = (sys.executable, "-m", "node")
SETTINGS: Final[Mapping[str, str]] = {
    # A worker that is gone is to be noticed, and a log to be shortened, within a short run.
    "broker.worker_lease_timeout": "4s",
    "worker.heartbeat_interval": "1s",
    "raft.snapshot_interval": "500",
    "raft.log_tail": "1MiB",
    # All nodes share this disk: ballast is of no use, and its size says nothing.
    "persistence.ballast": "0B",
    "persistence.disk_low": "0B",
}
_POLL_S: Final = 0.05
_TAIL_LINES: Final = 12
_FAREWELL_S: Final = 5.0
"""A node that was removed ends by itself within this; one that never heard of it is asked to."""

Found = TypeVar("Found")


class ClusterError(Exception):
    """The cluster did not get where it has to; the text says what was seen."""


@dataclass(frozen=True, slots=True)
class Equipment:
    """What the nodes of a cluster are given, so that faults have something to work with.

    Attributes:
        disk_mib: A file system in memory of this size each, to be filled up; 0: none.
        power: What is not synced can be taken back, and fsync can fail.
        clock: Wall clocks can be moved.
        packets: A network namespace each, and a switch between them that loses packets.
    """

    disk_mib: int = 0
    power: bool = False
    clock: bool = False
    packets: bool = False

    @property
    def settings(self) -> dict[str, str]:
        """What nodes must be told of it."""
        if not self.disk_mib:
            return {}
        return {
            "persistence.ballast": f"{self.disk_mib // 8}MiB",
            "persistence.disk_low": f"{self.disk_mib // 4}MiB",
        }


class ChaosCluster:
    """Nodes behind a proxy, in one directory.

    Args:
        directory: Of the run; receives logs and data.
        size: Number of nodes.
        settings: Key of the configuration -> its value, over those of the file and `SETTINGS`.
        equipment: What faults need.
        seed: Of the proxy's delays.
        launcher: Command that starts a node.
        ports: Finds free ports.

    Attributes:
        nodes: By id; those that are members or about to be.
        network: What lies between nodes and clients.
        proxies: The links in it.
        spots: Bits that were flipped since data were damaged last.
        workers: Processes that claim, by name, for faults that hit those; whoever starts them
            puts them here.
    """

    def __init__(
        self,
        directory: Path,
        *,
        size: int = 3,
        settings: Mapping[str, str] | None = None,
        equipment: Equipment | None = None,
        seed: int = 0,
        launcher: Sequence[str] = LAUNCHER,
        ports: PortFinder = free_ports,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.equipment = equipment or Equipment()
        self.settings = {**SETTINGS, **self.equipment.settings, **(settings or {})}
        self.workers: dict[str, ChildProcess] = {}
        self._launcher = list(launcher)
        self._shims = directory / "shims"
        self._shims.mkdir(exist_ok=True)
        self.network = (
            NamespaceNetwork(directory, size=size, seed=seed, command=LAUNCHER, home=ROOT)
            if self.equipment.packets
            else Network(directory, size=size, seed=seed, ports=ports)
        )
        self.layout = self.network.layout
        self.proxies = self.network.proxies
        self.spots: list[Spot] = []
        self._gone: list[ChaosNode] = []
        sweep()
        self.nodes: dict[int, ChaosNode] = {}
        try:
            peers = ["--peers", self.layout.peers()] if size > 1 else []
            for node_id in self.layout.ports:
                self.nodes[node_id] = self._make(node_id, peers)
        except Exception:
            self._leave_disks()
            raise

    def _make(self, node_id: int, how: Sequence[str]) -> ChaosNode:
        place = self.directory / f"node-{node_id}"
        place.mkdir(exist_ok=True)
        disk = Disk(place / "disk", mib=self.equipment.disk_mib)
        clock = None
        try:
            if self.equipment.power:
                disk.power = Power(disk.root, place / "power", library=build(DISK, self._shims))
            if self.equipment.clock:
                clock = WallClock(place / "clock", build(CLOCK, self._shims))
        except Exception:
            disk.close()
            raise
        ports = self.layout.ports[node_id]
        settings = {**self.settings, **self.network.settings(node_id)}
        return ChaosNode(
            node_id,
            [*self._launcher, "--config", str(CONFIGURATION), *how],
            ports=ports,
            disk=disk,
            clock=clock,
            log_path=self.directory / f"node-{node_id}.log",
            environment={_variable(key): value for key, value in settings.items() if value},
            directory=ROOT,
            place=self.network.place(node_id),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # ------------------------------------------------------------------------- looking

    @property
    def servers(self) -> str:
        """All client addresses, as `--servers` takes them; the same for the whole run."""
        return ",".join(node.address for node in self.nodes.values())

    def client(self, name: str, *, deadline: str | float = "10s") -> Client:
        """Return a client that is let in."""
        return self.network.access.client(self.servers, name=name, deadline=deadline)

    @property
    def running(self) -> list[ChaosNode]:
        """Nodes whose process is there and not stopped."""
        return [node for node in self.nodes.values() if node.running and not node.frozen]

    async def leader(self) -> ChaosNode | None:
        """Return the node that calls itself leader in the highest term, if any."""
        nodes = self.running
        told = await asyncio.gather(*(node.status() for node in nodes))
        claims = [
            (int(status["term"]), node.node_id)
            for node, status in zip(nodes, told, strict=True)
            if status is not None and status.get("role") == "leader"
        ]
        return self.nodes[max(claims)[1]] if claims else None

    async def wait_leader(self, *, timeout_s: float = 20) -> ChaosNode:
        """Wait until some node leads; return it."""
        return await self.wait_for(self.leader, what="a leader", timeout_s=timeout_s)

    async def wait_ready(self, *, timeout_s: float = 60) -> ChaosNode:
        """Wait until all nodes run and are ready, under one leader; return it.

        One that has ended since a fault had damaged its files is started, as whoever looks
        after it would do.

        Raises:
            ClusterError: They are not by then.
        """

        async def agreed() -> ChaosNode | None:
            for node in self.nodes.values():
                if node.ended_of_damage():
                    node.start()
            ready = await asyncio.gather(*(node.is_ready() for node in self.nodes.values()))
            return await self.leader() if all(ready) else None

        return await self.wait_for(agreed, what="cluster of ready nodes", timeout_s=timeout_s)

    async def wait_for(
        self, probe: Callable[[], Awaitable[Found | None]], *, what: str, timeout_s: float = 20
    ) -> Found:
        """Ask again and again until something is found; return it.

        Raises:
            ClusterError: Nothing by the deadline; the text ends with the logs' tails.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            found = await probe()
            if found is not None:
                return found
            if time.monotonic() > deadline:
                raise ClusterError(f"no {what} within {timeout_s:g} s\n{self.tails()}")
            await asyncio.sleep(_POLL_S)

    def tails(self) -> str:
        """Return the last lines of every node's log, for error texts."""
        parts = []
        for node in self.nodes.values():
            state = "stopped" if node.frozen else "running" if node.running else "not running"
            tail = "\n".join(node.output().splitlines()[-_TAIL_LINES:])
            parts.append(f"--- node {node.node_id} ({state}) {node.log_path}\n{tail}")
        return "\n".join(parts)

    def surprises(self) -> list[str]:
        """Say, each once, which nodes have ended although nobody ended them, or not as asked."""
        nodes = [*self._gone, *self.nodes.values()]
        return [text for node in nodes for text in node.remarks()]

    # -------------------------------------------------------------------------- acting

    async def start(self, *, timeout_s: float = 60) -> ChaosNode:
        """Start everything and wait until it is ready; return the leader.

        Raises:
            ClusterError: It is not ready by then, or has not loaded what faults need.
            ProxyError: A port is in use.
        """
        await self.network.start()
        for node in self.nodes.values():
            node.pages.token = self.network.access.token
            node.start()
        leader = await self.wait_ready(timeout_s=timeout_s)
        for node in self.nodes.values():
            if missing := node.missing_libraries():
                raise ClusterError(
                    f"node {node.node_id} runs without {', '.join(missing)}, so faults would do "
                    "nothing to it: the command that starts it has to pass LD_PRELOAD on"
                )
        return leader

    async def join(self, leaver: int) -> ChaosNode:
        """Start a node that waits to be added, in the place of one that has been removed."""
        newcomer = max(*self.nodes, *(node.node_id for node in self._gone), 0) + 1
        await self.forget(self.nodes[leaver])
        await self.network.replace(leaver, newcomer)
        node = self._make(newcomer, ["--join", self.layout.peers()])
        node.pages.token = self.network.access.token
        self.nodes[newcomer] = node
        node.start()
        return node

    async def forget(self, node: ChaosNode) -> None:
        """End a node that has been removed, for good; its log stays."""
        node.thaw()
        await node.leave("it was removed", patience_s=_FAREWELL_S)
        del self.nodes[node.node_id]
        self._gone.append(node)
        await asyncio.to_thread(node.disk.close)

    def mend_spots(self) -> None:
        """Flip every bit back that no node has stumbled over; before data are lost elsewhere."""
        for spot in self.spots:
            spot.mend()
        self.spots.clear()

    async def heal_all(self) -> None:
        """Take every fault back: links, clocks, disks, stopped and ended processes."""
        await self.proxies.heal()
        for node in self.nodes.values():
            if node.clock is not None:
                node.clock.correct()
            if node.disk.power is not None:
                node.disk.power.repair()
            node.disk.free()
            if node.frozen:
                node.thaw()
            if not node.running:
                node.start()
        for worker in self.workers.values():
            worker.signal(signal.SIGCONT)

    def clear_quarantines(self) -> None:
        """Do as an operator does once all nodes are well: what was damaged needs no room then."""
        for node in self.nodes.values():
            node.disk.clear_quarantine()

    async def close(self) -> list[str]:
        """End every process and unmount every disk; return what nodes did that they must not."""
        for worker in self.workers.values():
            worker.signal(signal.SIGCONT)
        nodes = list(self.nodes.values())
        for node in nodes:
            if node.disk.power is not None:
                node.disk.power.repair()
            node.thaw()
        await asyncio.gather(*(node.leave("the end") for node in nodes))
        with contextlib.suppress(OSError):
            await self.network.close()
        self._leave_disks()
        shutil.rmtree(self._shims, ignore_errors=True)
        return self.surprises()

    def _leave_disks(self) -> None:
        for node in self.nodes.values():
            node.disk.close()


def _variable(key: str) -> str:
    return "TQ_" + key.replace(".", "__").upper()


def has_root() -> bool:
    """Tell whether mounts can be expected to work."""
    return os.geteuid() == 0
