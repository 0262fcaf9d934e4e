"""Disks without any room, and room again some time later; nobody touches the nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from chaos.disks import MIB
from chaos.faults.fault import Need
from chaos.faults.node_fault import NodeFault
from chaos.nodes import ChaosNode


class DiskFull(NodeFault):
    """Somebody else's file takes all the room there is, and is removed."""

    needs: ClassVar[frozenset[Need]] = frozenset({"disk"})
    verb = "disk full"
    lasts_s = (3.0, 6.0)

    async def _hit(self, nodes: Sequence[ChaosNode]) -> str:
        taken = [node.disk.fill() // MIB for node in nodes]
        return f"{taken} MiB taken, none left"

    def _mend(self, node: ChaosNode) -> None:
        node.disk.free()
