"""Finds the node that leads: whom to ask next, and how long to pause before.

First the node that a REDIRECT named, then all endpoints in turn; without a pause for a
round, so that a failover costs no more than the election, then with backoff and jitter,
so that a thousand clients do not knock at once. What each node said or why it did not
is kept: it makes the text of the error when a deadline passes.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from tq.connection import Connection
from tq.errors import ConfigError, ProtocolError, Unavailable

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping, Sequence

    from tq.connection import Dial, Lost, Receive

BACKOFF_MIN_S: Final = 0.02
BACKOFF_MAX_S: Final = 0.5
UNREACHABLE_S: Final = 1.0
"""How long the address of a leader that could not be reached is not tried again, seconds."""

_HOPS_MAX = 3
_EAGER_ATTEMPTS_MIN = 3


class Seeker:
    """Opens connections to the leader of one cluster.

    Args:
        endpoints: `host:port` each, at least one.
        name: The client's name, for the nodes' logs.
        options: HELLO's options: `namespace`, and `token` if there is one.
        dial: Makes transports.
        rng: Draws the jitter.
        any_node: Whether a node that does not lead will do; then each client begins with
            an endpoint of its own, so that the reads of many are spread.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        name: str,
        options: Mapping[str, str],
        dial: Dial,
        rng: random.Random,
        any_node: bool = False,
    ) -> None:
        assert endpoints
        self._endpoints = list(endpoints)
        self._any_node = any_node
        if any_node:
            rng.shuffle(self._endpoints)
        self._name = name
        self._options = options
        self._dial = dial
        self._rng = rng
        self._turn = 0
        self._hint = ""
        # Attempts that led to no answer, since the last one that did.
        self._misses = 0
        self._pause_min_s = 0.0
        self._unreachable_until_s: dict[str, float] = {}
        self._trouble: dict[str, str] = {}

    def succeeded(self) -> None:
        """Note that a leader answered: the next search starts eagerly again."""
        self._misses = 0

    def missed(self, *, hint: str = "", pause_min_s: float = 0.0) -> None:
        """Note that an attempt led nowhere.

        Args:
            hint: Address of the leader, if the attempt brought one.
            pause_min_s: What a node asked for before the next attempt, seconds.
        """
        self._misses += 1
        self._hint = hint
        self._pause_min_s = pause_min_s

    def note(self, address: str, trouble: str) -> None:
        """Keep what went wrong with a node last."""
        self._trouble[address] = trouble

    def troubles(self) -> str:
        """Say what went wrong, node by node; "" if nothing did."""
        return "; ".join(f"{address}: {trouble}" for address, trouble in self._trouble.items())

    async def find(
        self, *, receive: Receive, lost: Lost, resumed: Callable[[], None]
    ) -> Connection | None:
        """Pause as long as is decent, then make one attempt.

        Args:
            receive: For `Connection`, as the two others.
            lost: The same.
            resumed: The same.

        Returns:
            An open connection to the node that leads, as far as nodes tell, or to any node
            if that will do; or None.

        Raises:
            Rejected: HELLO was refused for good.
        """
        await asyncio.sleep(self._pause_s())

        async def open_at(address: str) -> Connection | None:
            return await self._open(
                Connection(address, receive=receive, lost=lost, resumed=resumed)
            )

        connection = await open_at(self._take_address())
        for _ in range(0 if self._any_node else _HOPS_MAX):
            if connection is None:
                return None
            leader = connection.leader
            if not leader:
                self.note(connection.address, "knows no leader")
                connection.close()
                return None
            if leader == connection.address or self._is_unreachable(leader):
                break
            # A leader may be out of reach under the address it has of itself (a proxy, a
            # mapped port) and at hand under an endpoint: then this connection has to do.
            nearer = await open_at(leader)
            if nearer is None:
                break
            connection.close()
            connection = nearer
        return None if connection is None or connection.is_closed else connection

    def _pause_s(self) -> float:
        pause_s = self._pause_min_s * self._rng.uniform(1, 1.5)
        self._pause_min_s = 0.0
        late = self._misses - max(_EAGER_ATTEMPTS_MIN, len(self._endpoints))
        if late >= 0:
            backoff_s = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2 ** min(late, 10))
            pause_s = max(pause_s, backoff_s * self._rng.uniform(0.5, 1.5))
        return pause_s

    def _take_address(self) -> str:
        hint, self._hint = self._hint, ""
        if hint and not self._is_unreachable(hint):
            return hint
        self._turn += 1
        return self._endpoints[(self._turn - 1) % len(self._endpoints)]

    async def _open(self, connection: Connection) -> Connection | None:
        address = connection.address
        try:
            await connection.open(self._dial, name=self._name, options=self._options)
        except (OSError, ProtocolError, ConfigError, Unavailable) as error:
            self.note(address, str(error) or "no answer to HELLO")
            until_s = asyncio.get_running_loop().time() + UNREACHABLE_S
            self._unreachable_until_s[address] = until_s
            return None
        self._unreachable_until_s.pop(address, None)
        self._trouble.pop(address, None)
        return connection

    def _is_unreachable(self, address: str) -> bool:
        until_s = self._unreachable_until_s.get(address)
        return until_s is not None and until_s > asyncio.get_running_loop().time()
