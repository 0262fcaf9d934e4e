"""Dialling peers again and again, with growing pauses."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from cluster.link import Limits, Link

Connect = Callable[[int], Coroutine[Any, Any, Link]]


class Dialler:
    """Keeps trying to be connected with some peers.

    Args:
        limits: Pauses, and the time one attempt may take.
        rng: For the jitter of the pauses.
        connect: Opens one connection; raises OSError where that cannot be.
        failed: Told of each attempt that failed.
        patience_s: Time before the first attempt.
        wants: Says whether to try a peer now.
    """

    def __init__(
        self,
        *,
        limits: Limits,
        rng: random.Random,
        connect: Connect,
        failed: Callable[[int, Exception], None],
        patience_s: float = 0.0,
        wants: Callable[[int], bool] = lambda _peer: True,
    ) -> None:
        self._limits = limits
        self._rng = rng
        self._connect = connect
        self._failed = failed
        self._patience_s = patience_s
        self._wants = wants
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    def keep(self, peers: Iterable[int]) -> None:
        """Dial exactly these from now on; a link with one of the others stays as it is."""
        wanted = set(peers)
        for peer in self._tasks.keys() - wanted:
            task = self._tasks.pop(peer)
            task.cancel()
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
        for peer in sorted(wanted - self._tasks.keys()):
            self._tasks[peer] = asyncio.get_running_loop().create_task(self._dial(peer))

    async def stopped(self) -> None:
        """Wait until nothing runs any more, after `keep` of nobody."""
        await asyncio.gather(*self._tasks.values(), *self._leaving, return_exceptions=True)

    async def _dial(self, peer: int) -> None:
        limits = self._limits
        pause_s = limits.redial_min_s
        await asyncio.sleep(self._patience_s)
        while True:
            if self._wants(peer) and await self._try(peer):
                pause_s = limits.redial_min_s
            await asyncio.sleep(pause_s * (1 + self._rng.random() / 4))
            pause_s = min(pause_s * 2, limits.redial_max_s)

    async def _try(self, peer: int) -> bool:
        """Dial once and wait for the end; True when the peer was one that belongs here."""
        try:
            async with asyncio.timeout(self._limits.handshake_s):
                link = await self._connect(peer)
        except Exception as error:  # noqa: BLE001 - whatever it was, this peer is dialled again
            self._failed(peer, error)
            return False
        await asyncio.shield(link.closed)
        return link.hello is not None
