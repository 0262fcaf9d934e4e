"""Questions to one node about itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tq.connection import Connection, refusal
from tq.errors import ProtocolError, Unavailable
from tq.protocol import Type, encode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tq.connection import Dial


async def ask_node(
    address: str,
    message_type: Type,
    fields: Sequence[object],
    *,
    dial: Dial,
    name: str,
    options: Mapping[str, str],
    deadline_s: float,
) -> list[Any]:
    """Ask this very node, over a connection of its own; no redirect, no retry.

    Args:
        address: `host:port`.
        message_type: A request that any node answers.
        fields: The payload without its request id.
        dial: Makes the transport.
        name: The client's name.
        options: HELLO's options.
        deadline_s: Seconds for everything together.

    Returns:
        The payload of the ACK; element 0 is the request id.

    Raises:
        Unavailable: It did not answer within the deadline; the text says why.
        Rejected: It refused.
        ProtocolError: It answered with nonsense.
    """
    answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

    def receive(_: Connection, answer_type: int, payload: list[Any]) -> None:
        if answer.done():
            return
        if answer_type == Type.ACK:
            answer.set_result(payload)
        elif answer_type == Type.NACK:
            answer.set_exception(refusal(payload))
        else:
            answer.set_exception(ProtocolError(f"an answer of type {answer_type:#04x}"))

    def lost(_: Connection, reason: str) -> None:
        if not answer.done():
            answer.set_exception(ConnectionResetError(reason))

    connection = Connection(address, receive=receive, lost=lost)
    try:
        async with asyncio.timeout(deadline_s):
            await connection.open(dial, name=name, options=options)
            connection.send(encode(message_type, [1, *fields]))
            return await answer
    except TimeoutError:
        raise Unavailable(f"{address}: no answer within {deadline_s:g} s") from None
    except OSError as error:
        raise Unavailable(f"{address}: {error}") from None
    finally:
        answer.cancel()
        connection.close()
        await connection.wait_closed()
