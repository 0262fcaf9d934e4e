"""A producer as users write one: coroutines that await `asend`.

python -m benchmarks.sdk_load noop 5     # seconds of submits; prints how many, and when
python -m benchmarks.sdk_load began 50   # tasks one at a time; prints latencies in ms
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Final

from benchmarks.loops import run_loop
from benchmarks.sdk_app import app, began, noop
from tq.protocol import WAIT_MAX_MS

CONCURRENT: Final = 64
_PAYLOAD: Final = "x" * 240
_IDLE_S: Final = 0.02


async def produce(seconds: float) -> dict[str, object]:
    """Submit from many coroutines at once for some time."""
    began_s = time.monotonic()
    ends_s = began_s + seconds
    counts = [0] * CONCURRENT

    async def one(number: int) -> None:
        while time.monotonic() < ends_s:
            await noop.asend(_PAYLOAD)
            counts[number] += 1

    async with asyncio.TaskGroup() as group:
        for number in range(CONCURRENT):
            group.create_task(one(number))
    return {"submitted": sum(counts), "began_s": began_s, "ended_s": time.monotonic()}


async def one_by_one(tasks: int) -> dict[str, object]:
    """Submit a task to an idle worker, wait for what it tells, and rest, again and again."""
    latencies_ms = []
    for _ in range(tasks):
        sent_ns = time.monotonic_ns()
        handle = await began.asend()
        began_ns = await handle.aresult(timeout=WAIT_MAX_MS / 1000)
        latencies_ms.append((began_ns - sent_ns) / 1e6)
        await asyncio.sleep(_IDLE_S)
    return {"latencies_ms": latencies_ms}


def main() -> None:
    """Read from the command line what to do, and how much of it."""
    kind, amount = sys.argv[1], float(sys.argv[2])
    work = produce(amount) if kind == "noop" else one_by_one(int(amount))
    told = run_loop(work)
    app.close()
    print(json.dumps(told))


if __name__ == "__main__":
    main()
