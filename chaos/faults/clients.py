"""Clients that vanish in the middle of a frame."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from typing import ClassVar, Final

from chaos.cluster import ChaosCluster
from chaos.faults.fault import Harassment, Need, Record
from tq.protocol import Type, encode

_EACH_S: Final = 0.02
_OPEN_MAX: Final = 40
_RESET: Final = struct.pack("ii", 1, 0)  # linger for no time: the kernel sends RST


class VanishingClients(Harassment):
    """Connections that say half a sentence, then close, are reset, or just say no more."""

    needs: ClassVar[frozenset[Need]] = frozenset({"proxy"})

    def __init__(self) -> None:
        super().__init__("vanishing clients", gap_max_ms=2_000)
        self._left: list[socket.socket] = []

    async def begin(self, cluster: ChaosCluster, rng: random.Random) -> list[Record]:
        """Come and go until told to stop."""
        records = self.note(cluster.nodes.values(), "half a frame each, dozens a second")
        self.keep(self._haunt(cluster, rng))
        return records

    async def heal(self) -> None:
        """Close those that only fell silent."""
        await super().heal()
        for left in self._left:
            left.close()
        self._left.clear()

    async def _haunt(self, cluster: ChaosCluster, rng: random.Random) -> None:
        while True:
            door = rng.choice(sorted(cluster.nodes.items()))[1].ports.door
            with contextlib.suppress(OSError):
                await self._vanish(door, rng)
            await asyncio.sleep(_EACH_S)

    async def _vanish(self, door: int, rng: random.Random) -> None:
        loop = asyncio.get_running_loop()
        one = socket.socket()
        one.setblocking(False)
        try:
            await loop.sock_connect(one, ("127.0.0.1", door))
            await loop.sock_sendall(one, half_a_conversation(rng))
        except BaseException:
            one.close()
            raise
        match rng.randrange(3):
            case 0:
                one.close()
            case 1:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                one.close()
            case _:
                self._left.append(one)
                if len(self._left) > _OPEN_MAX:
                    self._left.pop(0).close()


def half_a_conversation(rng: random.Random) -> bytes:
    """Return a greeting and the beginning of a request, cut somewhere in the request or before."""
    hello = encode(Type.HELLO, [1, 1, "vanishing", {}])
    payload = rng.randbytes(rng.randint(0, 2_000))
    fields = [2, rng.randbytes(16), "vanished", "x", payload, {}]
    said = hello + encode(Type.SUBMIT_TASK, fields)
    # The last byte is never sent: what was half said must never count as said.
    return said[: rng.randrange(1, len(said))]
