"""The Compose file as the tests read it, and its services as processes of this machine.

There is no container engine here. What a service would run is run as it stands in the file,
with three things put in another place: addresses become loopback ports, paths inside a
container the files and folders that are mounted there, programs those of this environment.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from deploy.local.processes import ChildProcess
from tests.deploy import dockerfile

ROOT: Final = Path(__file__).resolve().parents[2]
COMPOSE_FILE: Final = ROOT / "docker-compose.3node.yml"
NODES: Final = ("tq-1", "tq-2", "tq-3")

_ADDRESS: Final = re.compile(r"\b(?:tq-[1-3]|0\.0\.0\.0|127\.0\.0\.1)(?::(\d+))?\b")


class Mount(NamedTuple):
    """What is mounted where.

    Attributes:
        kind: `volume` or `bind`.
        source: Name of the volume, or path of the tree.
        subpath: Folder of the volume, "" for all of it.
        target: Path in the container.
        read_only: Whether it cannot be written there.
    """

    kind: str
    source: str
    subpath: str
    target: str
    read_only: bool


@dataclass(frozen=True)
class Service:
    """One service.

    Attributes:
        name: In the file.
        body: As it stands there.
    """

    name: str
    body: Mapping[str, Any]

    @property
    def target(self) -> str:
        """The stage of the Dockerfile it is built from, "" if from elsewhere."""
        return str(self.body.get("build", {}).get("target", ""))

    @property
    def arguments(self) -> list[str]:
        """What it runs: entrypoint and command, of the file or else of the image."""
        entrypoint = self.body.get("entrypoint") or dockerfile.entrypoint(self.target)
        return [*entrypoint, *self.body.get("command", [])]

    @property
    def environment(self) -> dict[str, str]:
        """Its variables."""
        return {name: str(value) for name, value in self.body.get("environment", {}).items()}

    @property
    def mounts(self) -> list[Mount]:
        """Everything that is mounted."""
        return [_mount(one) for one in self.body.get("volumes", [])]

    @property
    def published(self) -> list[tuple[str, int, int]]:
        """(host address, host port, container port) of each published port."""
        found = []
        for one in self.body.get("ports", []):
            host, outside, inside = str(one).rsplit(":", 2)
            found.append((host, int(outside), int(inside)))
        return found


def _mount(one: str | Mapping[str, Any]) -> Mount:
    if not isinstance(one, str):
        subpath = one.get("volume", {}).get("subpath", "")
        return Mount(
            one["type"], one["source"], subpath, one["target"], one.get("read_only", False)
        )
    source, target, *mode = one.split(":")
    kind = "bind" if source.startswith(".") else "volume"
    return Mount(kind, source, "", target, mode == ["ro"])


def read(path: Path = COMPOSE_FILE) -> dict[str, Any]:
    """Return the whole file."""
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def services() -> dict[str, Service]:
    """Return all services by name."""
    return {name: Service(name, body) for name, body in read()["services"].items()}


@dataclass
class Here:
    """The place of one deployment on this machine.

    Attributes:
        directory: Receives volumes and logs.
        ports: For each port of the file, the one of this machine.
    """

    directory: Path
    ports: Mapping[int, int]
    _paths: dict[str, str] = field(default_factory=dict)

    def volume(self, name: str, subpath: str = "") -> Path:
        """Return the folder of a volume, or of a folder in it."""
        return self.directory / "volumes" / name / subpath

    def own(self, text: str, service: Service) -> str:
        """Return a text of the file with this machine's addresses and paths in it."""
        text = _ADDRESS.sub(self._address, text)
        places = dict(self._places(service))
        if not places:
            return text
        targets = "|".join(re.escape(target) for target in sorted(places, reverse=True))
        return re.sub(rf"({targets})(?![\w.-])", lambda found: str(places[found[1]]), text)

    def _address(self, found: re.Match[str]) -> str:
        return "127.0.0.1" if found[1] is None else f"127.0.0.1:{self.ports[int(found[1])]}"

    def _places(self, service: Service) -> Iterator[tuple[str, Path]]:
        for one in service.mounts:
            if one.kind == "bind":
                yield one.target, ROOT / one.source
            else:
                yield one.target, self.volume(one.source, one.subpath)

    def arguments(self, service: Service, *instead: str) -> list[str]:
        """Return the command of a service, or another one for its entrypoint."""
        words = service.arguments
        if instead:
            words = [*service.body["entrypoint"], *instead]
        return [self.own(word, service) for word in words]

    def environment(self, service: Service) -> dict[str, str]:
        """Return the variables of a service."""
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        told = {name: self.own(value, service) for name, value in service.environment.items()}
        return {"PATH": programs, **told}

    def prepare(self, service: Service) -> None:
        """Make the volumes that an engine would make; what is in them is for others to fill."""
        for one in service.mounts:
            if one.kind == "volume" and not one.subpath:
                self.volume(one.source).mkdir(parents=True, exist_ok=True)

    def process(self, service: Service, **more: str) -> ChildProcess:
        """Return a service as a process that is not started yet.

        Args:
            service: Which.
            more: Variables on top.
        """
        self.prepare(service)
        return ChildProcess(
            _without_env(self.arguments(service)),
            log_path=self.directory / f"{service.name}.log",
            environment={**self.environment(service), **more},
            directory=self.directory,
        )

    def run(self, service: Service, *instead: str) -> subprocess.CompletedProcess[str]:
        """Run a service, or another command for its entrypoint, to its end."""
        self.prepare(service)
        return self._run(self.arguments(service, *instead), service)

    def check_health(self, service: Service) -> subprocess.CompletedProcess[str]:
        """Run the health check of a service once."""
        kind, *words = service.body["healthcheck"]["test"]
        assert kind == "CMD"
        return self._run([self.own(word, service) for word in words], service)

    def _run(self, words: list[str], service: Service) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            _without_env(words),
            cwd=self.directory,
            env={**_bare_environment(), **self.environment(service)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


def _bare_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("TQ_")}


def _without_env(words: list[str]) -> list[str]:
    """Name the program by its path: a variable PATH for the child does not help to find it."""
    beside = Path(sys.executable).parent / words[0]
    return [str(beside) if beside.exists() else words[0], *words[1:]]
