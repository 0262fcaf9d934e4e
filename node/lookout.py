"""Looking at a node before it is let in, without holding anything up meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from cluster.addresses import Address
from cluster.configuration import AddLearner
from cluster.inquiry import Finding, inquire
from cluster.interface import Status
from cluster.tls import PeerTls

Seen = Callable[[Finding | None], None]
"""Told what stands in the way of a node, None when nothing does."""


class Member(Protocol):
    """What is to be known of the cluster that somebody is let into."""

    def status(self) -> Status:
        """This node as it stands."""

    @property
    def tls(self) -> PeerTls | None:
        """Certificates in use with the peers, None when nodes speak in the clear."""


class Lookout:
    """Asks at the address of a node that is to be added, one at a time.

    Args:
        node_id: This node.
        detours: Where this node reaches some of its peers instead.
        replica: None while this node starts.
    """

    def __init__(
        self,
        node_id: int,
        *,
        detours: Mapping[int, Address],
        replica: Callable[[], Member | None],
    ) -> None:
        self._node_id = node_id
        self._detours = detours
        self._replica = replica
        self._looking: set[asyncio.Task[None]] = set()

    def look(self, change: AddLearner, seen: Seen) -> None:
        """Look who is at an address; `seen` is called later, unless `close` comes first."""
        task = asyncio.get_running_loop().create_task(self._look(change, seen))
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)

    def close(self) -> None:
        """Look no more; nobody is told of anything from here on."""
        for task in self._looking:
            task.cancel()

    async def _look(self, change: AddLearner, seen: Seen) -> None:
        try:
            finding = await self._find(change)
        except Exception as error:  # noqa: BLE001 - who waits for the answer waits without end
            host, port = change.address
            text = f"cannot look who is at {host}:{port}: {error!r}"
            finding = Finding(text, may_pass=True)
        seen(finding)

    async def _find(self, change: AddLearner) -> Finding | None:
        replica = self._replica()
        assert replica is not None, "nobody leads before the replica has started"
        return await inquire(
            change.node_id,
            self._detours.get(change.node_id, change.address),
            me=self._node_id,
            cluster_id=replica.status().cluster_id,
            tls=replica.tls,
        )
