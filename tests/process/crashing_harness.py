"""Starts a cluster of the chaos harness, says which processes it has, and waits to be killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from chaos.cluster import ChaosCluster


async def _main() -> None:
    cluster = ChaosCluster(Path(sys.argv[1]))
    await cluster.start()
    processes = [cluster.proxies.process, *cluster.nodes.values()]
    print(*(process.pid for process in processes), flush=True)  # noqa: T201 - to the test
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
