"""Members that change while everything else goes on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import ClassVar, Final

from chaos.cluster import ChaosCluster, ClusterError
from chaos.faults.fault import Fault, Record
from chaos.faults.victims import Who, choose
from tq import ChangeRefused, UnknownOutcome

_DEADLINE_S: Final = 60.0
_RETRY_S: Final = 0.2
_PASSING: Final = frozenset(
    {"NOT_CAUGHT_UP", "QUORUM_AT_RISK", "CHANGE_UNDER_WAY", "NOT_SETTLED", "HANDING_OVER"}
    | {"NOT_WAITING"}
)
"""What stands in the way now, and may not later."""


class ReplaceMember(Fault):
    """A voter is removed, and a new, empty node comes in its place.

    Args:
        who: Is removed.
    """

    most: ClassVar[int] = 3

    def __init__(self, who: Who = "node") -> None:
        super().__init__("replace member", hold_s=(0, 0), gap_max_ms=5_000)
        self._who = who

    async def begin(self, cluster: ChaosCluster, rng: random.Random) -> list[Record]:
        """Remove it, and bring the newcomer all the way to a vote."""
        cluster.mend_spots()
        await cluster.wait_ready()
        [leaver] = await choose(cluster, self._who, rng)
        records = self.note([leaver])
        leaver.down = self.kind  # it ends when it hears that it was removed
        async with cluster.client("chaos-admin", deadline=_DEADLINE_S) as client:
            await _persist(lambda: client.remove_node(leaver.node_id), done="NO_SUCH_MEMBER")
            newcomer = await cluster.join(leaver.node_id)
            number, address = newcomer.node_id, newcomer.peer_address
            records[0].nodes.append(number)
            records[0].detail = f"node {number} in the place of node {leaver.node_id}"
            await _persist(lambda: client.add_node(number, address), done="ALREADY")
            await _persist(lambda: client.promote_node(number), done="ALREADY")
        await cluster.wait_ready()
        return records

    async def heal(self) -> None:
        """There is nothing to take back."""


async def _persist(change: Callable[[], Awaitable[int]], *, done: str) -> None:
    """Ask until it is so.

    Args:
        change: What is asked.
        done: Refusal by which a repeated change is told that it was made.

    Raises:
        ClusterError: It is not by the deadline.
        ChangeRefused: It never will be.
    """
    why = ""
    repeated = False
    try:
        async with asyncio.timeout(_DEADLINE_S):
            while True:
                try:
                    await change()
                except UnknownOutcome as lost:
                    why, repeated = str(lost), True
                except ChangeRefused as refusal:
                    if repeated and refusal.code == done:
                        return
                    if refusal.code not in _PASSING:
                        raise
                    why = str(refusal)
                else:
                    return
                await asyncio.sleep(_RETRY_S)
    except TimeoutError:
        raise ClusterError(f"no change of the members within {_DEADLINE_S:g} s: {why}") from None
