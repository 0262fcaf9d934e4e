"""One request on its way to the leader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tq.errors import ConfigError, ProtocolError
from tq.protocol import HEADER_BYTES, Type, encode, unpack

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from tq.connection import Connection

PARKED = frozenset({Type.CLAIM_TASK, Type.WAIT_RESULT})
"""Requests that may rest at the server for up to a minute."""
READS = frozenset(
    {
        Type.HEARTBEAT,
        Type.QUERY_STATUS,
        Type.WAIT_RESULT,
        Type.GET_STATS,
        Type.LIST_WORKERS,
        Type.NODE_STATUS,
        Type.DIGEST,
        Type.LIST_TASKS,
        Type.LOG_HASHES,
    }
)
"""Requests that change nothing: whether one was executed does not matter."""

_WITH_FACTS = frozenset({Type.REGISTER_WORKER, Type.HEARTBEAT})
"""Requests with a map of the caller's own making, and seldom sent."""


class Request:
    """One request on its way.

    Attributes:
        message_type: What it asks.
        frame: The whole frame; never changed.
        future: Gets the answer's payload, or the error.
        connection: Where it was sent and may still be answered; None while unsent.
        at_risk: Whether an earlier sending may have been accepted, unanswered.
    """

    __slots__ = ("at_risk", "connection", "frame", "future", "message_type")

    def __init__(self, message_type: Type, frame: bytes, future: asyncio.Future[list[Any]]) -> None:
        self.message_type = message_type
        self.frame = frame
        self.future = future
        self.connection: Connection | None = None
        self.at_risk = False


def frame_of(message_type: Type, payload: Sequence[object]) -> bytes:
    """Return the whole frame of a request.

    Raises:
        ConfigError: It holds something that cannot be sent.
    """
    try:
        frame = encode(message_type, payload)
        if message_type in _WITH_FACTS:
            # The node would refuse to read it, and close the connection with all there is on it.
            unpack(frame[HEADER_BYTES:])
    except ProtocolError as error:
        raise ConfigError(str(error)) from None
    return frame
