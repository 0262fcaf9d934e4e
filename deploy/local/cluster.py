"""Three (or one, or five) real `tq-node` processes on loopback.

Run it: `python -m deploy.local` leaves the nodes in the foreground.
"""

from __future__ import annotations

import json
import signal
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from cluster.certificates import NODE_DAYS, issue, make_authority
from deploy.local.ports import free_ports
from deploy.local.processes import ChildProcess
from node.tokens import Role, add_token

ROOT: Final = Path(__file__).resolve().parents[2]
_HOST: Final = "127.0.0.1"
_POLL_S: Final = 0.02
_ONE_DISK: Final[Mapping[str, str]] = {"TQ_PERSISTENCE__BALLAST": "0B"}

Found = TypeVar("Found")


class ClusterError(Exception):
    """The cluster did not get where it was asked to be; the text says what was seen."""


@dataclass(frozen=True)
class Ports:
    """The three listening ports of one node on loopback."""

    raft: int
    client: int
    http: int


@dataclass(frozen=True)
class Secrets:
    """What clients of a secured cluster are given.

    Attributes:
        ca: The authority's certificate.
        tokens: By role.
    """

    ca: Path
    tokens: Mapping[Role, str]


class LocalNode(ChildProcess):
    """One node process of a local cluster, with its addresses and its data directory.

    Args:
        node_id: Its number.
        arguments: The command.
        ports: Where it listens.
        directory: Of the cluster.
        environment: More variables.
        host: Where its client and HTTP ports are.
        secrets: What its HTTP port wants, None if nothing.
    """

    def __init__(
        self,
        node_id: int,
        arguments: list[str],
        *,
        ports: Ports,
        directory: Path,
        environment: dict[str, str],
        host: str = _HOST,
        secrets: Secrets | None = None,
    ) -> None:
        super().__init__(
            arguments,
            log_path=directory / f"node{node_id}.log",
            environment=environment,
            directory=ROOT,
        )
        self.node_id = node_id
        self.ports = ports
        self.data_dir = directory / f"node{node_id}"
        self._host = host
        self._secrets = secrets

    @property
    def peer_address(self) -> str:
        """Where the other nodes connect."""
        return f"{_HOST}:{self.ports.raft}"

    @property
    def client_address(self) -> str:
        """Where clients and workers connect."""
        return f"{self._host}:{self.ports.client}"

    @property
    def http_url(self) -> str:
        """Where its pages are."""
        scheme = "http" if self._secrets is None else "https"
        return f"{scheme}://{self._host}:{self.ports.http}"

    def http(self, path: str, *, timeout_s: float = 1.0) -> tuple[int, str]:
        """GET a page of the node's HTTP server: (status, body), or (0, reason) if unreachable."""
        request = urllib.request.Request(f"{self.http_url}{path}")  # noqa: S310 - http or https
        trusted = None
        if self._secrets is not None:
            request.add_header("Authorization", f"Bearer {self._secrets.tokens[Role.METRICS]}")
            trusted = ssl.create_default_context(cafile=self._secrets.ca)
        try:
            with urllib.request.urlopen(request, timeout=timeout_s, context=trusted) as answer:  # noqa: S310 - as above
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode(errors="replace")
        except OSError as unreachable:
            return 0, str(unreachable)

    def status(self) -> dict[str, Any] | None:
        """Return the node's own `/status`, or None while it cannot be reached."""
        code, body = self.http("/status")
        return json.loads(body) if code == 200 else None


class LocalCluster:
    """A cluster of child processes in one directory.

    Args:
        directory: Receives data directories, configuration and log files.
        size: Number of nodes.
        configuration: YAML text for all nodes, or a text per node id.
        launcher: Command that starts a node; the module of this tree by default.
        ports: Three per node; free ones are looked for if None.
        tls: Issue certificates, so that the nodes speak TLS with each other.
        secured: Clients and readers of HTTP need TLS and tokens as well (`secrets`).
        host: Where the client and HTTP ports are; beyond loopback only if secured.
        environment: Variables of the nodes. They share one disk, where ballast is of no use,
            unless given.
    """

    def __init__(
        self,
        directory: Path,
        *,
        size: int = 3,
        configuration: str | dict[int, str] = "",
        launcher: Sequence[str] = (sys.executable, "-m", "node"),
        ports: Sequence[int] | None = None,
        tls: bool = False,
        secured: bool = False,
        host: str = _HOST,
        environment: Mapping[str, str] = _ONE_DISK,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        numbers = list(ports) if ports is not None else free_ports(3 * size)
        self.directory = directory
        self._launcher = list(launcher)
        self._certificates = self._make_authority() if tls or secured else None
        self._host = host
        self.secrets = self._make_secrets() if secured else None
        self._environment = dict(environment)
        layout = {i + 1: Ports(*numbers[3 * i : 3 * i + 3]) for i in range(size)}
        peers = ["--peers", _listed(layout)] if size > 1 else []
        self.nodes = {
            node_id: self._make(node_id, ports, peers, configuration)
            for node_id, ports in layout.items()
        }

    def join(self, node_id: int, *, configuration: str = "") -> LocalNode:
        """Start one more node, which waits to be added to the running cluster; return it.

        Args:
            node_id: A number that no node of this cluster has had.
            configuration: YAML text for it.
        """
        layout = {known: node.ports for known, node in self.nodes.items()}
        layout[node_id] = Ports(*free_ports(3))
        joins = ["--join", _listed(layout)]
        node = self._make(node_id, layout[node_id], joins, configuration)
        self.nodes[node_id] = node
        node.start()
        return node

    def _make(
        self,
        node_id: int,
        ports: Ports,
        listed: Sequence[str],
        configuration: str | dict[int, str],
    ) -> LocalNode:
        arguments = [*self._launcher, "--id", str(node_id), *listed]
        arguments += ["--listen", f"{self._host}:{ports.client}"]
        arguments += ["--http", f"{self._host}:{ports.http}"]
        arguments += ["--data", str(self.directory / f"node{node_id}")]
        arguments += self.tls_arguments(node_id)
        text = configuration if isinstance(configuration, str) else configuration.get(node_id, "")
        if text:
            path = self.directory / f"node{node_id}.yaml"
            path.write_text(text)
            arguments += ["--config", str(path)]
        return LocalNode(
            node_id,
            arguments,
            ports=ports,
            directory=self.directory,
            environment=self._environment,
            host=self._host,
            secrets=self.secrets,
        )

    def _make_secrets(self) -> Secrets:
        assert self._certificates is not None
        path = self._certificates / "tokens"
        tokens = {role: add_token(path, f"the-{role}", role=role) for role in Role}
        return Secrets(self._certificates / "ca.pem", tokens)

    def _make_authority(self) -> Path:
        directory = self.directory / "certificates"
        if not directory.exists():
            make_authority(directory, now=datetime.now(UTC))
        return directory

    def tls_arguments(self, node_id: int) -> list[str]:
        """Return the flags of a node that name its certificate; none without TLS."""
        directory = self._certificates
        if directory is None:
            return []
        certificate, key = directory / f"node-{node_id}.pem", directory / f"node-{node_id}.key"
        if not certificate.exists():
            issue(directory, node_id, addresses=[self._host], days=NODE_DAYS, now=datetime.now(UTC))
        own = f"certificate={certificate},key={key}"
        flags = ["--tls", f"ca={directory / 'ca.pem'},{own}"]
        if self.secrets is not None:
            flags += ["--client-tls", own, "--tokens", str(directory / "tokens")]
        return flags

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def servers(self) -> str:
        """All client addresses, as `--servers` takes them."""
        return ",".join(node.client_address for node in self.nodes.values())

    def start(self, *, timeout_s: float = 60) -> LocalNode:
        """Start every node and wait for a leader that accepts work; return it."""
        for node in self.nodes.values():
            node.start()
        return self.wait_ready(timeout_s=timeout_s)

    def wait_ready(self, *, timeout_s: float = 60) -> LocalNode:
        """Wait until all running nodes are ready and agree on one leader; return it."""

        def agreed() -> LocalNode | None:
            running = [node for node in self.nodes.values() if node.running]
            if any(node.http("/readyz")[0] != 200 for node in running):
                return None
            return self.leader()

        return self.wait_for(agreed, what="a ready cluster with one leader", timeout_s=timeout_s)

    def leader(self) -> LocalNode | None:
        """Return the running node that calls itself leader in the highest term, if any."""
        claims = []
        for node in self.nodes.values():
            status = node.status() if node.running else None
            if status is not None and status.get("role") == "leader":
                claims.append((int(status["term"]), node))
        return max(claims, key=lambda claim: claim[0])[1] if claims else None

    def wait_leader(self, *, timeout_s: float = 15) -> LocalNode:
        """Wait until some running node leads; return it."""
        return self.wait_for(self.leader, what="a leader", timeout_s=timeout_s)

    def wait_for(
        self, probe: Callable[[], Found | None], *, what: str, timeout_s: float = 20
    ) -> Found:
        """Ask `probe` again and again until it finds something; return that.

        Raises:
            ClusterError: Nothing by the deadline; the text ends with the logs' tails.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            found = probe()
            if found is not None:
                return found
            if time.monotonic() > deadline:
                raise ClusterError(f"no {what} within {timeout_s:g} s\n{self.tails()}")
            time.sleep(_POLL_S)

    def tails(self, *, lines: int = 15) -> str:
        """Return the last lines of every node's log, for error texts."""
        parts = []
        for node in self.nodes.values():
            state = "running" if node.running else "not running"
            tail = "\n".join(node.output().splitlines()[-lines:])
            parts.append(f"--- node {node.node_id} ({state}) {node.log_path}\n{tail}")
        return "\n".join(parts)

    def close(self) -> None:
        """End every node: politely first, then by SIGKILL."""
        for node in self.nodes.values():
            node.signal(signal.SIGCONT)
            node.signal(signal.SIGTERM)
        for node in self.nodes.values():
            node.stop(timeout_s=10)


def _listed(layout: Mapping[int, Ports]) -> str:
    return ",".join(f"{node_id}={_HOST}:{ports.raft}" for node_id, ports in layout.items())
