"""`tq-admin cluster add`, `promote` and `remove`: who belongs to the cluster."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import click

from tq.admin.exits import Exit
from tq.admin.output import OutputFormat, emit
from tq.durations import Duration, seconds
from tq.errors import ChangeRefused
from tq.protocol import Code

TRY_MIN_S: Final = 1.0
"""Each attempt has so long at least, however little of the time is left."""


class MembersClient(Protocol):
    """What is asked of a client here; `tq.Client` is one."""

    async def add_node(  # noqa: D102 -- as in `tq.Client`
        self, node_id: int, address: str, *, deadline: Duration | None = None
    ) -> int: ...

    async def promote_node(  # noqa: D102 -- as in `tq.Client`
        self, node_id: int, *, deadline: Duration | None = None
    ) -> int: ...

    async def remove_node(  # noqa: D102 -- as in `tq.Client`
        self, node_id: int, *, deadline: Duration | None = None
    ) -> int: ...


Change = Callable[[float], Awaitable[int]]
"""One attempt with its deadline in seconds; returns the index of the change."""


async def add(
    client: MembersClient, node_id: int, address: str, *, patience: Duration, output: OutputFormat
) -> int:
    """Let a node in as a learner; return the exit code."""

    def change(deadline_s: float) -> Awaitable[int]:
        return client.add_node(node_id, address, deadline=deadline_s)

    text = (
        f"node {node_id} is a learner now: make it a voter with "
        f"`tq-admin cluster promote {node_id}`"
    )
    index, said = await _persist(change, patience)
    return _show(node_id, "learner", index, said or text, output=output)


async def promote(
    client: MembersClient, node_id: int, *, patience: Duration, output: OutputFormat
) -> int:
    """Make a learner a voter, once it has caught up; return the exit code."""

    def change(deadline_s: float) -> Awaitable[int]:
        return client.promote_node(node_id, deadline=deadline_s)

    index, said = await _persist(change, patience)
    return _show(node_id, "voter", index, said or f"node {node_id} is a voter now", output=output)


async def remove(
    client: MembersClient, node_id: int, *, patience: Duration, output: OutputFormat
) -> int:
    """Let a node go; return the exit code."""

    def change(deadline_s: float) -> Awaitable[int]:
        return client.remove_node(node_id, deadline=deadline_s)

    index, said = await _persist(change, patience, removes=True)
    text = f"node {node_id} is not a member any more; if it runs, it ends by itself"
    return _show(node_id, None, index, said or text, output=output)


async def _persist(
    change: Change, patience: Duration, *, removes: bool = False
) -> tuple[int | None, str]:
    """Try until it is done, or refused for good, or the time is over.

    Returns:
        The index of the change, None if nobody told it; and why there was nothing to do.

    Raises:
        ChangeRefused: The last refusal.
    """
    ends_at_s = time.monotonic() + seconds(patience)
    said = ""
    while True:
        left_s = ends_at_s - time.monotonic()
        try:
            return await change(max(TRY_MIN_S, left_s)), ""
        except ChangeRefused as refusal:
            if refusal.code == "ALREADY":  # a command that is run again has the same outcome
                return None, f"nothing to do: {refusal.text}"
            if refusal.code == Code.NO_SUCH_MEMBER and refusal.repeated and removes:
                return None, ""  # the sending that got no answer has done it
            pause_s = refusal.retry_after_s
            if pause_s is None or left_s <= pause_s:
                raise
            if refusal.text != said:
                said = refusal.text
                click.echo(f"waiting: {said}", err=True)
        await asyncio.sleep(pause_s)


def _show(
    node_id: int, role: str | None, index: int | None, text: str, *, output: OutputFormat
) -> int:
    emit({"node_id": node_id, "role": role, "index": index}, text, output=output)
    return Exit.OK
