"""How a leader that is told to stop gives its office away.

First what is under way is answered, then another voter that lacks nothing is asked to stand,
and only then does this node drain. What clients send meanwhile is kept for the few
milliseconds it takes, and answered with the new leader's address: nobody waits for an
election timeout, and nobody has to look for the leader.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from structlog.typing import FilteringBoundLogger

from node.broker import Broker

PATIENCE_S: Final = (0.3, 1.2)
"""How long each request to hand over may take; the second is for one that got lost."""
_SETTLE_MAX_S: Final = 0.3
"""How long entries under way hold up the transfer; with a working majority a few ms."""
_SEE_OFF_MAX_S: Final = 0.25
_POLL_S: Final = 0.001


async def hand_over(
    broker: Broker,
    transfer: Callable[[], object],
    *,
    log: FilteringBoundLogger,
    is_alone: Callable[[], bool] = lambda: False,
) -> None:
    """Give leadership to another node, if one can take it.

    Args:
        broker: Of this node, which leads.
        transfer: Asks consensus to hand leadership over.
        log: Told how it went, and how long no command was taken here or there.
        is_alone: Says whether nobody is connected who could take it: a cluster that is stopped
            as a whole does not wait for itself.
    """
    began_s = time.monotonic()
    broker.begin_hand_over()
    await until(lambda: broker.proposer.idle, timeout_s=_SETTLE_MAX_S)
    for patience_s in PATIENCE_S:
        if broker.leadership.leads:
            transfer()
        await until(lambda: broker.has_handed_over or is_alone(), timeout_s=patience_s)
    broker.end_hand_over()
    took_ms = round((time.monotonic() - began_s) * 1000, 1)
    if broker.has_handed_over:
        log.info("handed_over", to=broker.leadership.leader_id, took_ms=took_ms)
    else:
        log.warning("handover_failed", took_ms=took_ms)


async def see_off(connections: Callable[[], int]) -> None:
    """Let clients read where to go, and go, before their connections are closed.

    Closing a socket with unread requests in it would throw away the answers on their way.
    """
    await until(lambda: connections() == 0, timeout_s=_SEE_OFF_MAX_S)


async def until(condition: Callable[[], bool], *, timeout_s: float) -> None:
    """Look again and again until something is so, or the time is over."""
    deadline_s = time.monotonic() + timeout_s
    # Nobody signals these: they are looked at a few hundred times in the life of a process.
    while not condition() and time.monotonic() < deadline_s:  # noqa: ASYNC110
        await asyncio.sleep(_POLL_S)
