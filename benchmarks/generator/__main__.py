"""Run one load and print what was seen."""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import Final

from benchmarks.generator.channel import dial
from benchmarks.generator.ledger import Ledger
from benchmarks.generator.lifecycle import Claimer
from benchmarks.generator.open_loop import OpenLoop, pinging, submitting
from benchmarks.generator.order import Order, Seen
from benchmarks.generator.pulse import Pulse
from benchmarks.generator.submits import Submitter, task_ids
from benchmarks.loops import run_loop

_BEAT_S: Final = 0.001
_HEARTBEAT_S: Final = 5.0
_LAST_ANSWERS_S: Final = 0.01
_STALLED_S: Final = 30.0


async def _measure(order: Order, ledger: Ledger) -> None:
    await asyncio.sleep(order.warm_s)
    ledger.begin()
    if order.tasks:
        await _until(ledger, order.tasks)
    else:
        await asyncio.sleep(order.seconds)
    ledger.end()


async def _until(ledger: Ledger, tasks: int) -> None:
    """Wait until so many tasks are done.

    Raises:
        RuntimeError: Nothing was done for a long time, or something was refused.
    """
    loop = asyncio.get_running_loop()
    seen, moved_s = -1, loop.time()
    while ledger.done < tasks:
        if ledger.done != seen:
            seen, moved_s = ledger.done, loop.time()
        if ledger.refused or loop.time() - moved_s > _STALLED_S:
            raise RuntimeError(f"{ledger.done} of {tasks} done; refused: {dict(ledger.refused)}")
        await asyncio.sleep(_LAST_ANSWERS_S)


async def _submits(order: Order, ledger: Ledger) -> None:
    ids = task_ids()
    submitters = [
        Submitter(await dial(order.addresses[0]), order, ledger=ledger, ids=ids)
        for _ in range(order.connections)
    ]
    for submitter in submitters:
        submitter.fill()
    await _measure(order, ledger)
    for submitter in submitters:
        submitter.room = 0
    while not all(one.idle for one in submitters):  # noqa: ASYNC110 - as rare as it gets
        await asyncio.sleep(_LAST_ANSWERS_S)


async def _lifecycle(order: Order, ledger: Ledger) -> None:
    submits = Ledger(())
    producer = Submitter(await dial(order.addresses[0]), order, ledger=submits, ids=task_ids())
    producer.room = 0
    claimer = Claimer(await dial(order.addresses[0]), order, ledger=ledger, producer=producer)
    await claimer.start()
    heart = Pulse(_HEARTBEAT_S, claimer.heartbeat)
    await _measure(order, ledger)
    heart.stop()
    ledger.refused.update(submits.refused)


async def _open_loop(order: Order, ledger: Ledger) -> None:
    channels = [await dial(address) for address in order.addresses]
    request = pinging if order.kind == "pings" else submitting(order, task_ids())
    loops = [
        OpenLoop(channel, rate=order.rate, ledger=ledger, request=request) for channel in channels
    ]

    def beat() -> None:
        for one in loops:
            one.beat()

    pulse = Pulse(_BEAT_S, beat)
    await asyncio.sleep(order.warm_s)
    ledger.begin()
    await asyncio.sleep(order.seconds)
    for one in loops:
        one.give_up()
    ledger.end()
    pulse.stop()


async def run(order: Order) -> Seen:
    """Do what is asked."""
    ledger = Ledger(order.pids)
    gc.freeze()
    gc.disable()  # a pause of the generator would be measured as one of the cluster
    match order.kind:
        case "submits":
            await _submits(order, ledger)
        case "lifecycle":
            await _lifecycle(order, ledger)
        case "open-loop" | "pings":
            await _open_loop(order, ledger)
    return ledger.seen()


def main() -> None:
    """Read the order from the command line."""
    print(run_loop(run(Order.from_json(sys.argv[1]))).to_json())


if __name__ == "__main__":
    main()
