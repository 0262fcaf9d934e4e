"""A process of clients: `python -m chaos.workload PLAN`; SIGTERM says that it shall end."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from chaos.workload.plan import Plan
from chaos.workload.session import Session


async def _work(plan: Plan) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    # The harness is told by its terminal, and tells its children itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    await Session(plan).run(stop)


if __name__ == "__main__":
    asyncio.run(_work(Plan.load(Path(sys.argv[1]))))
