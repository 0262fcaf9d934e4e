"""Finds the node that leads: whom to ask next, and how long to pause before.

First the node that a REDIRECT named, then all endpoints in turn; without a pause for a
round, so that a failover costs no more than the election, then with backoff and jitter,
so that a thousand clients do not knock at once. A node that does not answer within
`HEAD_START_S` is not waited for: the next one is asked meanwhile. What each node said or
why it did not is kept: it makes the text of the error when a deadline passes.

While the node in use is silent, the others are asked beside it, one every `BESIDE_S` and
never faster. It is left for a leader of a later term alone: a node that still believes in
it, or one that was left behind itself, is no reason to go.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from tq.connection import Connection
from tq.errors import ConfigError, ProtocolError, Rejected, Unavailable
from tq.openings import Openings

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping, Sequence

    from tq.connection import Dial

HEAD_START_S: Final = 0.25
"""How long a node is asked before the next one is asked as well, seconds."""
BESIDE_S: Final = 0.1
"""How long to pause at least before somebody is asked beside a silent node, seconds."""
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
        make: Makes a connection to an address, not open yet.
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
        make: Callable[[str], Connection],
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
        self._make = make
        self._rng = rng
        self._turn = 0
        self._hint = ""
        # Attempts that led to no answer, since the last one that did.
        self._misses = 0
        self._pause_min_s = 0.0
        self._unreachable_until_s: dict[str, float] = {}
        self._trouble: dict[str, str] = {}
        self.start_over()

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

    async def find(self, *, beside: Connection | None = None) -> Connection | None:
        """Pause as long as is decent, then ask one more node; end those that were asked before.

        Args:
            beside: The connection there is, to a node that is silent.

        Returns:
            An open connection to the node that leads, as far as nodes tell, or to any node
            if that will do; None if there is none so far.

        Raises:
            Rejected: HELLO was refused for good.
        """
        await self._ask_one_more(beside)
        connection = await self._hear(beside)
        if connection is None:
            self._misses += 1
        return connection

    def start_over(self) -> None:
        """Forget whoever was asked in an event loop that is gone: none of them will answer."""
        self._openings = Openings(self._open)

    def rest(self) -> None:
        """End the search: give up whoever was asked and has not answered."""
        self._openings.drop()

    async def wait_closed(self) -> None:
        """Wait until those that were given up are gone."""
        await self._openings.wait_closed()

    async def _ask_one_more(self, beside: Connection | None) -> None:
        pause_s = self._pause_s()
        if beside is not None:
            pause_s = max(pause_s, BESIDE_S * self._rng.uniform(0.5, 1.5))
        if not await self._openings.wait(pause_s):
            if beside is not None and not beside.is_silent:
                return
            address = self._take_address(beside)
            if address is not None:
                self._openings.start(address)

    async def _hear(self, beside: Connection | None) -> Connection | None:
        """Wait for whoever answers first, and go on to the node that it names."""
        for hops in range(_HOPS_MAX + 1):
            if not self._openings or not await self._openings.wait(HEAD_START_S):
                return None
            found, is_asked = self._take_ended(beside)
            if found is None or not self._will_do(found, beside):
                return None
            leader = found.leader
            # A leader may be out of reach under the address it has of itself (a proxy, a
            # mapped port) and at hand under an endpoint: then this connection has to do.
            may_hop = is_asked and not self._any_node and hops < _HOPS_MAX
            if not may_hop or leader == found.address or self._is_unreachable(leader):
                return found
            if leader in self._openings:
                found.close()  # that one is slow; whoever is asked next may know another
                return None
            self._openings.start(leader, named_by=found)
        return None

    def _take_ended(self, beside: Connection | None) -> tuple[Connection | None, bool]:
        try:
            return self._openings.take()
        except Rejected as error:
            if beside is None:
                raise
            self.note(beside.address, f"silent, and another node said: {error}")
            return None, False  # the silent one may yet answer what it was asked

    def _will_do(self, found: Connection, beside: Connection | None) -> bool:
        """Look whether a connection leads to a leader; close it if not."""
        if self._any_node:
            return True
        if not found.leader:
            self.note(found.address, "knows no leader")
        elif beside is None:
            return True
        elif found.leader == beside.address or 0 < found.term <= beside.term:
            self.note(found.address, f"says that {found.leader} leads")
        else:
            return True
        found.close()
        return False

    def _pause_s(self) -> float:
        pause_s = self._pause_min_s * self._rng.uniform(1, 1.5)
        self._pause_min_s = 0.0
        late = self._misses - max(_EAGER_ATTEMPTS_MIN, len(self._endpoints))
        if late >= 0:
            backoff_s = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2 ** min(late, 10))
            pause_s = max(pause_s, backoff_s * self._rng.uniform(0.5, 1.5))
        return pause_s

    def _take_address(self, beside: Connection | None) -> str | None:
        def is_free(address: str) -> bool:
            return address not in self._openings and (beside is None or address != beside.address)

        hint, self._hint = self._hint, ""
        if hint and not self._is_unreachable(hint) and is_free(hint):
            return hint
        for _ in self._endpoints:
            self._turn += 1
            address = self._endpoints[(self._turn - 1) % len(self._endpoints)]
            if is_free(address):
                return address
        return None

    async def _open(self, address: str) -> Connection | None:
        connection = self._make(address)
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
