"""The client processes of a run: one of producers, readers and workers, and more of workers.

The latter are there to be stopped where they stand; the first is never touched, so that the work
of a run comes to its end. None is ever ended but by the harness.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from chaos.access import Access
from chaos.workload.plan import Plan
from chaos.workload.recorder import merge
from deploy.local.processes import ChildProcess

ROOT: Final = Path(__file__).resolve().parents[1]
MAIN: Final = "main"
LEAVE_S: Final = 30.0
DRAIN_S: Final = 90.0
VISITS_PER_S: Final = 4.0
_FINAL_READS_PER_S: Final = 100
_AT_WORK_BYTES: Final = 5_000


class Clients:
    """Processes of clients.

    Args:
        directory: Of the run.
        servers: Client addresses of the cluster.
        seed: Of what they do.
        tasks_per_s: Tasks submitted in a second.
        processes: Of workers, beside the main one.
        access: What they need to get in.

    Attributes:
        workers: The processes that may be hurt, by name.
    """

    def __init__(
        self,
        directory: Path,
        *,
        servers: str,
        seed: int,
        tasks_per_s: float,
        processes: int = 2,
        access: Access | None = None,
    ) -> None:
        self._directory = directory
        access = access or Access()
        self._plans = {
            MAIN: Plan(
                name=MAIN,
                number=0,
                servers=servers,
                ca=access.ca,
                token=access.token,
                seed=seed,
                directory=str(directory),
                tasks_per_s=tasks_per_s,
                producers=3,
                workers=4,
                readers=2,
                visits_per_s=VISITS_PER_S,
                drain_s=DRAIN_S,
            )
        }
        for number in range(1, processes + 1):
            name = f"workers-{number}"
            self._plans[name] = Plan(
                name=name,
                number=number,
                servers=servers,
                ca=access.ca,
                token=access.token,
                seed=seed,
                directory=str(directory),
                workers=2,
            )
        self._children = {name: self._child(plan) for name, plan in self._plans.items()}

    def _child(self, plan: Plan) -> ChildProcess:
        return ChildProcess(
            [sys.executable, "-m", "chaos.workload", str(plan.path)],
            log_path=self._directory / f"clients-{plan.name}.log",
            directory=ROOT,
        )

    @property
    def workers(self) -> dict[str, ChildProcess]:
        """The processes that may be hurt."""
        return {name: child for name, child in self._children.items() if name != MAIN}

    def start(self) -> None:
        """Start them; from the main thread alone, as the kernel ends a child with its thread."""
        for plan in self._plans.values():
            plan.save()
        for child in self._children.values():
            child.start()

    def idle(self) -> list[str]:
        """Return those that have not recorded a handful of calls yet."""
        return [
            name
            for name, plan in self._plans.items()
            if sum(path.stat().st_size for path in plan.journals) < _AT_WORK_BYTES
        ]

    def trouble(self) -> str:
        """Say which process has ended although nobody told it to, and how; "" if none has."""
        for name, child in self._children.items():
            if not child.running:
                tail = "\n".join(child.output().splitlines()[-20:])
                code = child.wait(timeout_s=1)
                how = f"by itself with exit code {code} ({child.log_path}):\n{tail}"
                return f"the client process {name} ended {how}"
        return ""

    async def finish(self) -> tuple[Mapping[str, Any], list[str]]:
        """Have all work done and every task read.

        Returns:
            What the main process says of it, and what went wrong, for people.
        """
        troubles: list[str] = []
        for name, child in self.workers.items():
            child.signal(signal.SIGCONT)
            child.signal(signal.SIGTERM)
            await self._wait(name, child, LEAVE_S, troubles)
        main = self._children[MAIN]
        main.signal(signal.SIGTERM)
        tasks = sum(path.stat().st_size for path in self._plans[MAIN].journals) // 1_000
        await self._wait(MAIN, main, DRAIN_S + 60 + tasks / _FINAL_READS_PER_S, troubles)
        told = self._plans[MAIN].told
        return (json.loads(told.read_bytes()) if told.exists() else {}), troubles

    async def _wait(
        self, name: str, child: ChildProcess, timeout_s: float, troubles: list[str]
    ) -> None:
        try:
            code = await asyncio.to_thread(child.wait, timeout_s=timeout_s)
        except subprocess.TimeoutExpired:
            child.kill()
            troubles.append(f"the client process {name} did not end within {timeout_s:.0f} s")
            return
        if code != 0:
            tail = "\n".join(child.output().splitlines()[-20:])
            troubles.append(f"the client process {name} ended with exit code {code}:\n{tail}")

    def close(self) -> None:
        """End what still runs, at once."""
        for child in self._children.values():
            child.signal(signal.SIGCONT)
            if child.running:
                child.kill()

    def gather(self) -> int:
        """Make one history of all journals; return the number of operations."""
        journals = [path for plan in self._plans.values() for path in plan.journals]
        count = merge(journals, self._directory / "history.jsonl")
        for path in journals:
            path.unlink()
        return count
