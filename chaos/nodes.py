"""One node of the cluster under test: a process that was started by a command line."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from chaos.clocks import WallClock
from chaos.disks import Disk
from chaos.pages import Pages, Place
from deploy.local.processes import ChildProcess

LOOPBACK: Final = "127.0.0.1"
_PENDING: Final = b"\ntq_tasks_pending "
STOP_S: Final = 40.0
BY_ITSELF: Final = "it ended by itself"
_LAST_BYTES: Final = 8_192


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a node listens, and where clients are told to go.

    Attributes:
        raft: For peers.
        client: For clients; nobody but the proxy connects to it.
        http: For the harness, always on loopback of wherever the node is.
        door: The proxy's port before `client`; without a proxy, `client` itself.
        host: Of the rest.
    """

    raft: int
    client: int
    http: int
    door: int
    host: str = LOOPBACK

    @property
    def address(self) -> str:
        """Where clients connect."""
        return f"{self.host}:{self.door}"


class ChaosNode(ChildProcess):
    """A node process, its disk and its clock.

    Args:
        node_id: Its number.
        command: Program and arguments.
        ports: Where it listens.
        disk: Its data are there.
        clock: Its wall clock; None if it has the system's.
        log_path: Receives what it says.
        environment: More variables.
        directory: Working directory.
        place: Makes what is entered to start a process or open a socket where the node is.

    Attributes:
        down: Why it is not running: the harness has ended it, and will start it again; or
            `BY_ITSELF`.
        frozen: It was sent SIGSTOP.
        damaged: The fault that has damaged its files; "" if none did. It may find that out long
            afterwards, and end.
    """

    def __init__(
        self,
        node_id: int,
        command: Sequence[str],
        *,
        ports: Ports,
        disk: Disk,
        clock: WallClock | None,
        log_path: Path,
        environment: Mapping[str, str],
        directory: Path,
        place: Place = contextlib.nullcontext,
    ) -> None:
        variables = dict(environment)
        preloaded = []
        if disk.power is not None:
            variables |= disk.power.variables
            preloaded.append(variables["LD_PRELOAD"])
        if clock is not None:
            variables |= clock.variables
            preloaded.append(str(clock.library))
        if preloaded:
            variables["LD_PRELOAD"] = ":".join(preloaded)
        own = {
            "--id": str(node_id),
            "--listen": f"{ports.host}:{ports.client}",
            "--http": f"{LOOPBACK}:{ports.http}",
            "--data": str(disk.data),
        }
        super().__init__(
            [*command, *(word for flag in own.items() for word in flag)],
            log_path=log_path,
            environment=variables,
            directory=directory,
        )
        self.node_id = node_id
        self.ports = ports
        self.disk = disk
        self.clock = clock
        self.down = ""
        self.frozen = False
        self.damaged = ""
        self.pages = Pages(ports.http, place=place)
        self._place = place
        self._libraries = preloaded
        self._remarks: list[str] = []

    @property
    def address(self) -> str:
        """Where clients and workers connect: the proxy before it."""
        return self.ports.address

    @property
    def peer_address(self) -> str:
        """Where it listens for the other nodes."""
        return f"{self.ports.host}:{self.ports.raft}"

    async def status(self) -> dict[str, Any] | None:
        """Return its `/status`; None while it does not answer."""
        return await self.pages.json("/status") if self.running else None

    async def is_ready(self) -> bool:
        """Tell whether it says so itself: it knows a leader, its memory, and is up to date."""
        return self.running and (await self.pages.get("/readyz"))[0] == 200

    async def pending(self) -> int:
        """Return how many tasks could be claimed, as far as it knows; 0 if it does not say."""
        code, body = await self.pages.get("/metrics")
        _, found, rest = body.partition(_PENDING)
        return int(float(rest.split(b"\n", 1)[0])) if code == 200 and found else 0

    def start(self) -> None:
        """Start it; from the main thread alone, as the kernel ends it with that thread."""
        self._look()
        self.down = ""
        self.frozen = False
        with self._place():
            super().start()

    def strike(self, why: str) -> None:
        """Send SIGKILL and do not wait: others may be meant to die at the same moment."""
        self._look()
        self.down = why
        self.signal(signal.SIGKILL)

    def bury(self) -> None:
        """Wait for the end of a node that was struck."""
        self.kill()
        self.pages.close()

    async def leave(self, why: str, *, patience_s: float = 0) -> int:
        """Ask it to stop, and wait; return the exit code.

        Args:
            why: It has to.
            patience_s: It is to end by itself, and is not asked before.
        """
        self._look()
        judged = self.running or patience_s > 0
        self.down = why
        if patience_s:
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self.wait, timeout_s=patience_s)
        code = await asyncio.to_thread(self.stop, timeout_s=STOP_S)
        self.pages.close()
        if judged and code != 0:
            self._remark(f"was to end in good order ({why}) and ended with exit code {code}")
        return code

    def freeze(self) -> None:
        """Stop it where it stands."""
        self._look()
        self.frozen = True
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on as if nothing had been."""
        self.signal(signal.SIGCONT)
        self.frozen = False

    def exit_code(self) -> int | None:
        """Return how it ended, if it has; negative: the signal."""
        return None if self.running else self.wait(timeout_s=1)

    def remarks(self) -> list[str]:
        """Return what it did that it must not, each once; how it ended, above all."""
        self._look()
        told, self._remarks = self._remarks, []
        return told

    def ended_of_damage(self) -> bool:
        """Tell whether it has ended by itself since a fault had damaged its files, and said so."""
        if self.running or self.down not in {"", BY_ITSELF} or not self.damaged:
            return False
        last = self.output()[-_LAST_BYTES:].rstrip().rpartition("\n")[2]
        return "node_failed" in last and "is damaged" in last

    def missing_libraries(self) -> list[str]:
        """Return the libraries that its faults need and its process has not loaded."""
        maps = Path(f"/proc/{self.pid}/maps")
        try:
            loaded = maps.read_text()
        except OSError:
            return self._libraries  # it has ended
        return [one for one in self._libraries if str(Path(one).resolve()) not in loaded]

    def _look(self) -> None:
        """Note that it has ended, if nobody ended it: whoever hits it next would hide that."""
        if self._process is None or self.running or self.down:
            return
        if not self.ended_of_damage():
            self._remark(f"ended by itself with exit code {self.exit_code()}")
        self.down = BY_ITSELF

    def _remark(self, text: str) -> None:
        self._remarks.append(f"node {self.node_id} {text}")
