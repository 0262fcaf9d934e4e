"""One connection that writes joined frames and hands whole answers to a callback."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import cast

from tq.protocol import VERSION, Decoder, Type, encode, unpack

Answered = Callable[[int, list[object]], None]
_UNSENT_MAX_BYTES = 64 * 1024 * 1024


class Channel(asyncio.Protocol):
    """A client connection without futures.

    Attributes:
        answered: Called with the type and the array of each answer.
        drained: Called after the last answer of one read: the moment to send more.
    """

    def __init__(self) -> None:
        self.answered: Answered = lambda _type, _answer: None
        self.drained: Callable[[], None] = lambda: None
        self.lost = False
        self._decoder = Decoder()
        self._frames: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._request_id = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(_UNSENT_MAX_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        del exc
        self.lost = True

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        answered = self.answered
        for message_type, body in self._decoder.feed(data):
            answered(message_type, unpack(body))
        self.drained()

    def put(self, message_type: Type, fields: Sequence[object]) -> int:
        """Add a request to the next write; return its id."""
        self._request_id = request_id = self._request_id + 1
        self._frames.append(encode(message_type, [request_id, *fields]))
        return request_id

    def flush(self) -> None:
        """Write what was put."""
        if self._frames and self._transport is not None:
            self._transport.write(b"".join(self._frames))
            self._frames.clear()

    async def ask(self, message_type: Type, fields: Sequence[object]) -> list[object]:
        """Send one request while nothing else is in flight; return the answer's array."""
        answer: asyncio.Future[list[object]] = asyncio.get_running_loop().create_future()
        before = self.answered

        def take(answer_type: int, fields: list[object]) -> None:
            if answer_type == Type.ACK:
                answer.set_result(fields)
            else:
                answer.set_exception(RuntimeError(f"{message_type.name}: {fields}"))

        self.answered = take
        self.put(message_type, fields)
        self.flush()
        try:
            return await asyncio.wait_for(answer, timeout=30)
        finally:
            self.answered = before

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()


async def dial(address: str) -> Channel:
    """Connect and say HELLO."""
    host, port = address.rsplit(":", 1)
    loop = asyncio.get_running_loop()
    _, channel = await loop.create_connection(Channel, host, int(port))
    await channel.ask(Type.HELLO, [VERSION, "benchmark", {}])
    return channel
