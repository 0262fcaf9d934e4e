"""`tq-admin stats` and `tq-admin workers`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tq.admin.exits import Exit
from tq.admin.output import OutputFormat, emit, fields, span, table


class FigureClient(Protocol):
    """What is asked of a client here; `tq.Client` is one."""

    async def stats(self) -> dict[str, Any]: ...  # noqa: D102 -- each as in `tq.Client`
    async def workers(self) -> list[dict[str, Any]]: ...  # noqa: D102


async def stats(client: FigureClient, *, output: OutputFormat) -> int:
    """Show the counts of the cluster; return the exit code."""
    counted = await client.stats()
    states, totals = counted.get("states", {}), counted.get("totals", {})
    queues: Sequence[Mapping[str, Any]] = counted.get("queues", [])
    names = ("queue", "depth", "ready", "in_progress", "scheduled", "failed")
    tiers = ("high", "normal", "low")
    rows = [[queue.get(name) for name in (*names, *tiers)] for queue in queues]
    text = "\n\n".join(
        (
            table([name.upper() for name in states], [list(states.values())]),
            table([name.upper() for name in (*names, *tiers)], rows),
            fields({"workers": counted.get("workers"), **_prefixed("total ", totals)}),
        )
    )
    emit({"stats": counted}, text, output=output)
    return Exit.OK


async def workers(client: FigureClient, *, output: OutputFormat) -> int:
    """Show the workers that have a session; return the exit code."""
    found = await client.workers()
    now_ms = time.time_ns() // 10**6
    columns = ("NAME", "SESSION", "QUEUES", "LEASES", "SLOTS", "SILENT MS", "REGISTERED")
    rows = [
        (
            worker.get("name"),
            str(worker.get("session")),
            ",".join(worker.get("queues", [])),
            worker.get("leases"),
            worker.get("stats", {}).get("slots"),
            worker.get("silent_ms"),
            span(now_ms - worker.get("registered_at_ms", now_ms)),
        )
        for worker in found
    ]
    emit({"workers": found}, table(columns, rows), output=output)
    return Exit.OK


def _prefixed(prefix: str, pairs: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}{name}": value for name, value in pairs.items()}
