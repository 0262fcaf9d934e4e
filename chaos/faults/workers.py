"""Workers that stand still for longer than their lease, and then go on as if nothing had been."""

from __future__ import annotations

import random
import signal
from typing import ClassVar

from chaos.cluster import ChaosCluster
from chaos.faults.fault import Fault, MissedError, Need, Record
from deploy.local.processes import ChildProcess


class FreezeWorker(Fault):
    """SIGSTOP of one worker process.

    Args:
        lease_s: The cluster's; it stands still for longer.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"workers"})

    def __init__(self, *, lease_s: float) -> None:
        # The rest of the workers cannot be hindered by it, nor can producers.
        super().__init__("worker frozen", hold_s=(lease_s + 1, lease_s + 4), gap_max_ms=2_000)
        self._victim: ChildProcess | None = None

    async def begin(self, cluster: ChaosCluster, rng: random.Random) -> list[Record]:
        """Stop it where it stands.

        Raises:
            MissedError: It has ended.
        """
        name = rng.choice(sorted(cluster.workers))
        if not cluster.workers[name].running:
            raise MissedError(f"worker {name} has ended, so there is nothing to stop")
        self._victim = cluster.workers[name]
        records = self.note([], f"worker {name}")
        self._victim.signal(signal.SIGSTOP)
        return records

    async def heal(self) -> None:
        """Let it go on."""
        if self._victim is not None:
            self._victim.signal(signal.SIGCONT)
        self._victim = None
