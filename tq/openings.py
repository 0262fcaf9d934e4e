"""Connections on their way to several nodes at once.

A node that hangs takes connections all the same: its kernel does. So nobody waits for one
node alone. Whoever is slow goes on in the background, and counts if it gets there first.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from tq.errors import Rejected

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tq.connection import Connection


class Opening(NamedTuple):
    """One attempt to connect.

    Attributes:
        task: Ends with the open connection, or None; raises `Rejected`.
        named_by: The connection whose node named this one as the leader, if any did: it has
            to do if the leader is out of reach under that address.
    """

    task: asyncio.Task[Connection | None]
    named_by: Connection | None


class Openings:
    """Attempts under way, by address.

    Args:
        open_at: Connects to an address.
    """

    def __init__(self, open_at: Callable[[str], Awaitable[Connection | None]]) -> None:
        self._open_at = open_at
        self._openings: dict[str, Opening] = {}
        # Dropped ones that have not come to their end.
        self._ending: set[asyncio.Task[Connection | None]] = set()

    def __contains__(self, address: str) -> bool:
        return address in self._openings

    def __len__(self) -> int:
        return len(self._openings)

    def start(self, address: str, *, named_by: Connection | None = None) -> None:
        """Begin to connect to an address that is not being connected to."""

        async def run() -> Connection | None:
            return await self._open_at(address)

        task = asyncio.get_running_loop().create_task(run())
        self._openings[address] = Opening(task, named_by)

    async def wait(self, timeout_s: float) -> bool:
        """Wait at most so many seconds; return whether one has come to its end."""
        tasks = {opening.task for opening in self._openings.values()}
        if not tasks:
            await asyncio.sleep(timeout_s)
            return False
        ended, _ = await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        return bool(ended)

    def take(self) -> tuple[Connection | None, bool]:
        """Take out the first that has come to its end.

        Returns:
            The open connection, or that to the node that named this one, or None; and
            whether it is the former.

        Raises:
            Rejected: HELLO was refused for good.
        """
        address = next(address for address, one in self._openings.items() if one.task.done())
        task, named_by = self._openings.pop(address)
        try:
            connection = task.result()
        except Rejected:
            if named_by is not None:
                named_by.close()
            raise
        if connection is None or connection.is_closed:
            return (None if named_by is None or named_by.is_closed else named_by), False
        if named_by is not None:
            named_by.close()
        return connection, True

    def drop(self) -> None:
        """Give all of them up."""
        for task, named_by in self._openings.values():
            task.cancel()
            self._ending.add(task)
            task.add_done_callback(self._ended)
            if named_by is not None:
                named_by.close()
        self._openings.clear()

    async def wait_closed(self) -> None:
        """Wait until what was dropped has come to its end."""
        if self._ending:
            await asyncio.wait(self._ending)

    def _ended(self, task: asyncio.Task[Connection | None]) -> None:
        self._ending.discard(task)
        if task.cancelled():
            return
        try:
            connection = task.result()
        except Rejected:
            return
        if connection is not None:
            connection.close()
