"""Producers that submit one task after the other and note when each was accepted.

`SdkProducer` uses the SDK; `RawProducer` speaks the wire by itself, knows nothing but
`docs/protocol.md`, and does the simplest thing it allows: a named leader is dialled at once,
anything else means the next address.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
import time
from typing import Any, Protocol

import msgpack

from tests.process.raw_client import ACK, HELLO, REDIRECT, SUBMIT_TASK, new_task_id
from tq import Client

QUEUE = "produced"
PAYLOAD = b"x" * 64
DIAL_MAX_S = 2.0
ROUND_PAUSE_S = 0.02


class Producer(Protocol):
    """Runs until it is told to stop."""

    accepted_at_s: list[float]
    """When each submit was acknowledged, monotonic seconds."""

    async def run(self, stop: asyncio.Event) -> None:
        """Submit until `stop` is set; what is under way then is still finished."""


class SdkProducer:
    """One `tq.Client`, one submit at a time.

    Args:
        servers: As the SDK takes them.
        pause_s: Between an answer and the next submit.
    """

    def __init__(self, servers: str, *, pause_s: float = 0.0) -> None:
        self._servers = servers
        self._pause_s = pause_s
        self.accepted_at_s: list[float] = []

    async def run(self, stop: asyncio.Event) -> None:
        """See `Producer`."""
        async with Client(self._servers, deadline="60s") as client:
            while not stop.is_set():
                await client.submit("produced", PAYLOAD, queue=QUEUE)
                self.accepted_at_s.append(time.monotonic())
                await asyncio.sleep(self._pause_s)


class RawProducer:
    """One connection at a time, one submit at a time, no SDK.

    Args:
        servers: `host:port,...`.
        pause_s: Between an answer and the next submit.
    """

    def __init__(self, servers: str, *, pause_s: float = 0.0) -> None:
        self._addresses = servers.split(",")
        self._turns = itertools.cycle(self._addresses)
        self._pause_s = pause_s
        self._link: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.accepted_at_s: list[float] = []

    async def run(self, stop: asyncio.Event) -> None:
        """See `Producer`."""
        while not stop.is_set():
            await self._submit(new_task_id())
            self.accepted_at_s.append(time.monotonic())
            await asyncio.sleep(self._pause_s)
        self._hang_up()

    async def _submit(self, task_id: bytes) -> None:
        """Repeat one submit until it is acknowledged."""
        named = ""
        misses = 0
        while True:
            try:
                if self._link is None:
                    await self._dial(named or next(self._turns))
                kind, answer = await self._ask(SUBMIT_TASK, task_id, QUEUE, "produced", PAYLOAD, {})
            except (OSError, EOFError):
                kind, answer = 0, []
            if kind == ACK:
                return
            self._hang_up()
            named = answer[1] if kind == REDIRECT else ""
            misses += not named
            if misses > len(self._addresses):
                await asyncio.sleep(ROUND_PAUSE_S)

    async def _dial(self, address: str) -> None:
        host, port = address.rsplit(":", 1)
        async with asyncio.timeout(DIAL_MAX_S):
            self._link = await asyncio.open_connection(host, int(port))
            await self._ask(HELLO, 1, "raw-producer", {})

    async def _ask(self, kind: int, *fields: Any) -> tuple[int, list[Any]]:
        assert self._link is not None
        reader, writer = self._link
        body = msgpack.packb([1, *fields])
        writer.write(struct.pack(">IB", len(body) + 1, kind) + body)
        length, answer_kind = struct.unpack(">IB", await reader.readexactly(5))
        return answer_kind, msgpack.unpackb(await reader.readexactly(length - 1))

    def _hang_up(self) -> None:
        if self._link is not None:
            self._link[1].close()
            self._link = None


def longest_gap_s(producers: list[Producer], since_s: float, until_s: float) -> float:
    """Return the longest time without an accepted submit of any of the producers.

    Args:
        producers: Their accepted submits are merged.
        since_s: Only gaps that end after this moment count, monotonic seconds.
        until_s: Only gaps that begin before this moment count.
    """
    times = sorted(at_s for producer in producers for at_s in producer.accepted_at_s)
    pairs = itertools.pairwise(times)
    return max((b - a for a, b in pairs if b > since_s and a < until_s), default=0.0)
