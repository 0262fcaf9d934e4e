"""GET a node's pages on one connection, with the standard library alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final

Place = Callable[[], AbstractContextManager[object]]
"""Makes what is entered in order to start a process, or open a socket, where a node is."""

_HEAD_MAX_BYTES: Final = 1 << 16
TIMEOUT_S: Final = 0.5


class Pages:
    """The HTTP port of one node, not through a proxy: the harness looks from within.

    Args:
        port: On loopback.
        place: Makes what is entered to open a socket where the node is.

    Attributes:
        token: What the pages ask for; "" if for none.
    """

    def __init__(
        self,
        port: int,
        *,
        place: Place = contextlib.nullcontext,
    ) -> None:
        self._port = port
        self._place = place
        self.token = ""
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._turn = asyncio.Lock()

    async def get(self, path: str, *, timeout_s: float = TIMEOUT_S) -> tuple[int, bytes]:
        """Return status and body; (0, why) when the node does not answer."""
        try:
            async with asyncio.timeout(timeout_s), self._turn:
                kept = self._streams is not None
                try:
                    return await self._get(path)
                except (OSError, EOFError, ValueError):
                    self.close()
                    if not kept:
                        raise
                    return await self._get(path)  # the node was another process meanwhile
        except (OSError, EOFError, ValueError) as error:
            self.close()
            return 0, str(error).encode() or type(error).__name__.encode()
        except asyncio.CancelledError:
            self.close()  # an answer may be half read
            raise

    async def json(self, path: str, *, timeout_s: float = TIMEOUT_S) -> dict[str, Any] | None:
        """Return a page of JSON, None when the node does not answer with it."""
        code, body = await self.get(path, timeout_s=timeout_s)
        return json.loads(body) if code == 200 else None

    def close(self) -> None:
        """Close the connection; the next `get` opens another."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _get(self, path: str) -> tuple[int, bytes]:
        if self._streams is None:
            self._streams = await self._connect()
        reader, writer = self._streams
        proof = f"Authorization: Bearer {self.token}\r\n" if self.token else ""
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{proof}\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        first, *lines = head.split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines if line)
        body = await reader.readexactly(int(fields.get("content-length", "0")))
        if fields.get("connection") == "close":
            self.close()
        return int(first.split(" ")[1]), body

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        with self._place():
            one = socket.socket()
        try:
            one.setblocking(False)
            await asyncio.get_running_loop().sock_connect(one, ("127.0.0.1", self._port))
            return await asyncio.open_connection(sock=one, limit=_HEAD_MAX_BYTES)
        except BaseException:
            one.close()
            raise
