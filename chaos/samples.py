"""What each node says of itself, several times a second: `samples.jsonl`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from chaos.nodes import ChaosNode

EVERY_S: Final = 0.2


class Sampler:
    """Asks all nodes until it is cancelled.

    Args:
        nodes: Gives those there are at a moment.
        path: Receives a line for each answer, and for each that did not come.
        every_s: How often.
    """

    def __init__(
        self, nodes: Callable[[], Iterable[ChaosNode]], path: Path, *, every_s: float = EVERY_S
    ) -> None:
        self._nodes = nodes
        self._path = path
        self._every_s = every_s
        self._asked: dict[int, asyncio.Task[None]] = {}
        self.samples = 0

    async def run(self) -> None:
        """Sample; cancel it to end it."""
        with self._path.open("a", encoding="utf-8", buffering=1) as lines:
            try:
                while True:
                    self._ask(lines.write)
                    await asyncio.sleep(self._every_s)
            finally:
                for task in self._asked.values():
                    task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.gather(*self._asked.values(), return_exceptions=True)

    def _ask(self, write: Callable[[str], object]) -> None:
        """Ask each node that is not still busy with the last question."""
        for node in self._nodes():
            before = self._asked.get(node.node_id)
            if before is None or before.done():
                self._asked[node.node_id] = asyncio.create_task(self._sample(node, write))

    async def _sample(self, node: ChaosNode, write: Callable[[str], object]) -> None:
        status = await node.status()
        ready = await node.pending() if status and status.get("role") == "leader" else 0
        write(json.dumps(sample(node.node_id, status, ready=ready)) + "\n")
        self.samples += 1


def sample(node_id: int, status: dict[str, Any] | None, *, ready: int) -> dict[str, Any]:
    """Return a line: what a node's status says, at this moment."""
    told = status or {}
    return {
        "at": time.monotonic_ns(),
        "node": node_id,
        "up": status is not None,
        "role": told.get("role", ""),
        "term": told.get("term", 0),
        "leader": told.get("leader_id"),
        "commit": told.get("commit_index", 0),
        "applied": told.get("applied_index", 0),
        "digest": told.get("digest", ""),
        "digest_index": told.get("digest_index", 0),
        "ready": ready,
        "disk_low": told.get("disk_low", False),
    }
