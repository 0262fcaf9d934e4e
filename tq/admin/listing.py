"""`tq-admin tasks list`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import click

from tq.admin.exits import Exit
from tq.admin.output import OutputFormat, emit, readable, table
from tq.caller import Consistency
from tq.listing import TaskPage
from tq.protocol import LIST_MAX
from tq.status import TaskStatus


class ListClient(Protocol):
    """What is asked of a client here; `tq.Client` is one."""

    async def list_tasks(  # noqa: D102 -- as in `tq.Client`
        self,
        *,
        queue: str | None = None,
        states: Sequence[str] | None = None,
        after: str | None = None,
        limit: int = 100,
        consistency: Consistency = "linearizable",
    ) -> TaskPage: ...


async def show(
    client: ListClient,
    *,
    queue: str | None,
    states: Sequence[str],
    after: str | None,
    limit: int,
    stale: bool,
    output: OutputFormat,
) -> int:
    """Show up to `limit` tasks in order of id, as some node has them if `stale`."""
    found: list[TaskStatus] = []
    while True:
        page = await client.list_tasks(
            queue=queue,
            states=states or None,
            after=after,
            limit=min(limit - len(found), LIST_MAX),
            consistency="stale" if stale else "linearizable",
        )
        found += page.tasks
        after = page.after
        if after is None or len(found) >= limit:
            break
    columns = ("TASK", "STATE", "QUEUE", "NAME", "PRIORITY", "ATTEMPT", "WORKER", "ERROR")
    text = table(columns, [_row(one) for one in found])
    emit({"tasks": [_document(one) for one in found], "after": after}, text, output=output)
    if after is not None and output == "table":
        click.echo(f"there may be more: --after {after}", err=True)
    return Exit.OK


def _row(status: TaskStatus) -> tuple[object, ...]:
    error = status.error.splitlines()[0] if status.error else None
    return (
        status.task_id,
        status.state,
        status.queue,
        status.name,
        status.priority,
        status.attempt,
        status.worker,
        error,
    )


def _document(status: TaskStatus) -> dict[str, Any]:
    return {
        "task_id": str(status.task_id),
        "queue": status.queue,
        "name": status.name,
        "state": status.state,
        "priority": status.priority,
        "attempt": status.attempt,
        "failures": status.failures,
        "lost": status.lost,
        "created_at_ms": status.created_at_ms,
        "due_at_ms": status.due_at_ms,
        "finished_at_ms": status.finished_at_ms,
        "worker": status.worker,
        "error": status.error,
        "result": readable(status.result) if status.state == "completed" else None,
        "result_bytes": status.result_bytes,
        "applied_index": status.applied_index,
    }
