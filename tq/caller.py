"""How the methods of the client reach the leader, and count their time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from tq.addresses import join_address, split_address
from tq.direct import ask_node
from tq.durations import Duration, seconds
from tq.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tq.channel import Channel
    from tq.connection import Dial
    from tq.protocol import Type

Consistency: TypeAlias = Literal["linearizable", "stale"]


class Caller:
    """What `TaskCalls` and `WorkerCalls` stand on.

    Attributes:
        name: For the nodes' logs.
        _dial: Makes transports.
        _options: Of HELLO.
        _channel: The way to the leader.
        _readers: The way to any node, for stale reads.
        _deadline_s: How long a call may take unless it says otherwise, seconds.
        _seen_index: Highest applied index that a stale read of this client has shown.
    """

    name: str
    _dial: Dial
    _options: dict[str, str]
    _channel: Channel
    _readers: Channel
    _deadline_s: float
    _seen_index = 0

    async def _call(
        self,
        message_type: Type,
        fields: Sequence[object],
        *,
        deadline: Duration | None = None,
        extra_s: float = 0.0,
        size: int = 1,
        channel: Channel | None = None,
    ) -> list[Any]:
        """Ask the leader, or whom a channel reaches.

        Args:
            message_type: A request.
            fields: The payload without its request id.
            deadline: Instead of the client's own.
            extra_s: What the server may rest on it, beyond the deadline, seconds.
            size: Elements the answer has at least, the request id among them.
            channel: Instead of the one to the leader.
        """
        deadline_s = self._deadline_s if deadline is None else seconds(deadline)
        channel = channel or self._channel
        answer = await channel.call(message_type, fields, deadline_s=deadline_s + extra_s)
        return sized(answer, message_type, size)

    async def _ask_node(
        self,
        address: str,
        message_type: Type,
        fields: Sequence[object],
        *,
        deadline: Duration,
        size: int,
    ) -> list[Any]:
        """Ask this very node, whatever its role."""
        answer = await ask_node(
            join_address(*split_address(address)),
            message_type,
            fields,
            dial=self._dial,
            name=self.name,
            options=self._options,
            deadline_s=seconds(deadline),
        )
        return sized(answer, message_type, size)

    def _clock(self, deadline: Duration | None) -> Callable[[], float]:
        """Start a deadline; the function tells how many seconds are left, 0 or more."""
        loop = asyncio.get_running_loop()
        left_s = self._deadline_s if deadline is None else seconds(deadline)
        ends_at_s = loop.time() + left_s
        return lambda: max(0.0, ends_at_s - loop.time())


def sized(answer: list[Any], message_type: Type, size: int) -> list[Any]:
    """Check that an answer has at least `size` elements.

    Raises:
        ProtocolError: It has fewer.
    """
    if len(answer) < size:
        raise ProtocolError(f"the answer to {message_type.name} is too short")
    return answer
