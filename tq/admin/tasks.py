"""`tq-admin submit` and `tq-admin status`."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Protocol

import click

from tq.admin.exits import Exit
from tq.admin.output import OutputFormat, emit, fields, moment, readable, table
from tq.caller import Consistency
from tq.durations import Duration, milliseconds
from tq.errors import ConfigError, UnknownOutcome
from tq.ids import TaskId
from tq.new_task import Submitted
from tq.serialization import JsonSerializer
from tq.status import TaskStatus


class TaskClient(Protocol):
    """What is asked of a client here; `tq.Client` is one."""

    async def submit(  # noqa: D102 -- each as in `tq.Client`
        self,
        name: str,
        payload: bytes = b"",
        *,
        queue: str = "default",
        task_id: TaskId | None = None,
        priority: int | None = None,
        delay: Duration | None = None,
    ) -> Submitted: ...
    async def status(  # noqa: D102
        self, task_id: str, *, consistency: Consistency = "linearizable"
    ) -> TaskStatus: ...
    async def wait(  # noqa: D102
        self,
        task_id: str,
        *,
        timeout: Duration | None = None,  # noqa: ASYNC109 -- part of the wire: the server waits
    ) -> TaskStatus: ...


def payload_of(arguments: str | None) -> bytes:
    """Turn the JSON text of a command line into a call.

    Args:
        arguments: A list for positional arguments, an object for named ones, any
            other value for a single argument; None for no arguments.

    Raises:
        ConfigError: It is not JSON.
    """
    if arguments is None:
        return JsonSerializer().dump_call([], {})
    try:
        value = json.loads(arguments)
    except ValueError as error:
        raise ConfigError(f"the arguments are not JSON: {error}") from error
    if isinstance(value, dict):
        return JsonSerializer().dump_call([], value)
    return JsonSerializer().dump_call(value if isinstance(value, list) else [value], {})


async def submit(
    client: TaskClient,
    name: str,
    payload: bytes,
    *,
    queue: str,
    task_id: str | None,
    priority: int | None,
    delay: Duration | None,
    wait: Duration | None,
    output: OutputFormat,
) -> int:
    """Submit a task, and wait for its end if asked to; return the exit code.

    The id is made here, so that it can be named whatever happens: who does not know whether the
    task was accepted repeats the command with it.
    """
    if wait is not None:
        milliseconds(wait)  # before anything is sent
    wanted = TaskId.new() if task_id is None else TaskId(task_id)
    try:
        submitted = await client.submit(
            name, payload, queue=queue, task_id=wanted, priority=priority, delay=delay
        )
    except UnknownOutcome:
        click.echo(f"repeat this with --id {wanted}: it will be submitted once", err=True)
        raise
    if wait is None:
        document = {"task_id": str(submitted.task_id), "log_index": submitted.log_index}
        emit(document, str(submitted.task_id), output=output)
        return Exit.OK
    click.echo(f"submitted {submitted.task_id}, waiting", err=True)
    ended = await client.wait(submitted.task_id, timeout=wait)
    emit({"task": _document(ended)}, _result_line(ended), output=output)
    if ended.state == "completed":
        return Exit.OK
    click.echo(f"error: {ended.state}: {ended.error or 'no reason given'}", err=True)
    return Exit.ERROR


async def status(client: TaskClient, task_id: str, *, stale: bool, output: OutputFormat) -> int:
    """Show one task, as some node has it if `stale`; return the exit code."""
    found = await client.status(task_id, consistency="stale" if stale else "linearizable")
    emit({"task": _document(found)}, _page(found, now_ms=time.time_ns() // 10**6), output=output)
    return Exit.OK


def _result_line(ended: TaskStatus) -> str:
    result = readable(ended.result) if ended.state == "completed" else None
    return json.dumps(result, ensure_ascii=False)


def _document(status: TaskStatus) -> Mapping[str, Any]:
    return {
        "task_id": str(status.task_id),
        "namespace": status.namespace,
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
        "progress_permille": status.progress,
        "note": status.note,
        "worker": status.worker,
        "error": status.error,
        "result": readable(status.result) if status.state == "completed" else None,
        "detail": _text(status.result) if status.state != "completed" else None,
        "history": [
            {"at_ms": event.at_ms, "event": event.event, "detail": event.detail}
            for event in status.history
        ],
        "applied_index": status.applied_index,
    }


def _page(status: TaskStatus, *, now_ms: int) -> str:
    done = None if status.progress is None else f"{status.progress / 10:g} %"
    pairs: dict[str, object] = {
        "task": status.task_id,
        "name": status.name,
        "queue": f"{status.queue} (namespace {status.namespace}, priority {status.priority})",
        "state": status.state,
        "attempt": f"{status.attempt} ({status.failures} failed, {status.lost} lost)",
        "worker": status.worker,
        "progress": done if not status.note else f"{done}  {status.note}",
        "created": moment(status.created_at_ms, now_ms=now_ms),
        "due": moment(status.due_at_ms, now_ms=now_ms),
        "finished": moment(status.finished_at_ms, now_ms=now_ms),
        "error": status.error,
        "result": _result_line(status) if status.state == "completed" else None,
    }
    if status.applied_index is not None:
        pairs["as of"] = f"entry {status.applied_index}"
    events = [(moment(e.at_ms, now_ms=now_ms), e.event, e.detail) for e in status.history]
    if not events:
        return fields(pairs)
    return f"{fields(pairs)}\n\n{table(('WHEN', 'EVENT', 'DETAIL'), events)}"


def _text(detail: bytes | None) -> str | None:
    return None if detail is None else detail.decode(errors="replace")
