"""What a node tells beyond its digest: every task, and the checksum of every log entry it keeps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from tq import Client, TaskStatus

_DEADLINE: Final = "30s"


async def details(client: Client, address: str) -> AsyncIterator[Mapping[str, Any]]:
    """Give the further lines of the export of the node at an address.

    Raises:
        TqError: It did not tell all of it.
    """
    async for status in client.tasks(node=address, deadline=_DEADLINE):
        yield _task(status)
    start = 0
    while True:
        page = await client.node_log(address, start=start, deadline=_DEADLINE)
        for index, term, crc in page.entries:
            yield {"log": index, "term": term, "crc": crc}
        if not page.entries or page.entries[-1][0] >= page.last_index:
            return
        start = page.entries[-1][0] + 1


def _task(status: TaskStatus) -> dict[str, Any]:
    told = {
        "task": status.task_id.raw.hex(),
        "state": status.state,
        "attempt": status.attempt,
        "failures": status.failures,
        "lost": status.lost,
        "queue": status.queue,
        "priority": status.priority,
        "finished_at_ms": status.finished_at_ms,
        "result": None if status.result is None else status.result.hex(),
        "error": status.error,
    }
    if status.result is None and status.result_bytes is not None:
        del told["result"]  # too long for a list, not absent
        told["result_bytes"] = status.result_bytes
    return told
