"""The switch between namespaces: `python -m chaos.namespaces.switch --socket PATH --seed N`.

It makes the namespaces, holds the other ends of their TUN devices, and hands packets from one
to the other. Who started it sends commands (`chaos.orders`):

    {"do": "settle", "who": 1}        -> {"namespace": path that setns(2) takes}
    {"do": "leave", "who": 1}
    {"do": "set", "ways": [[from, to], ...], "policy": {"mode": "packets", "loss": 0.05}}
    {"do": "stats"}

Chance comes from the seed, one stream a direction.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections import Counter
from typing import Any, Final, NamedTuple

from chaos.links import Direction, Impairment
from chaos.namespaces import kernel
from chaos.namespaces.addresses import NETWORK, address, whose
from chaos.namespaces.ways import CLEAN, Way
from chaos.orders import obey_until_left

_BURST: Final = 64
"""Packets of one port before it is the next one's turn."""
_UNDER_WAY_MAX: Final = 20_000
"""Packets that are late at one moment; a cable holds no more."""
_IPV4: Final = 4
_HEADER_BYTES: Final = 20


class Port(NamedTuple):
    """Where somebody is plugged in.

    Attributes:
        who: A node id, or `CLIENTS`.
        namespace: Handle.
        device: The other end of its TUN device.
    """

    who: int
    namespace: int
    device: int


class Switch:
    """All namespaces of a cluster, and what lies between them.

    Args:
        seed: Of chance.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._ports: dict[int, Port] = {}
        self._ways: dict[Direction, Way] = {}
        self._under_way = 0
        self.dropped: Counter[str] = Counter()

    async def obey(self, command: dict[str, Any]) -> dict[str, Any]:
        """Carry a command out; return what is answered.

        Raises:
            ValueError: It makes no sense.
            OSError: The kernel refuses.
        """
        match command:
            case {"do": "settle", "who": int() as who}:
                return {"namespace": self._settle(who)}
            case {"do": "leave", "who": int() as who}:
                self._leave(who)
                return {}
            case {"do": "set", "ways": list() as ways, "policy": dict() as form}:
                rough = Impairment.from_dict(form)
                for one, other in ways:
                    self.way(one, other).impairment = CLEAN if rough == CLEAN else rough
                return {}
            case {"do": "stats"}:
                told = {f"{one}>{other}": way.counts() for (one, other), way in self._ways.items()}
                return {"packets": told, "dropped": dict(self.dropped)}
        raise ValueError(f"no such command: {command}")

    def way(self, one: int, other: int) -> Way:
        """Return the state of a direction."""
        found = self._ways.get((one, other))
        if found is None:
            stream = self._seed * 1_000_003 + one * 1009 + other
            found = self._ways[one, other] = Way(random.Random(stream))
        return found

    def _settle(self, who: int) -> str:
        if who in self._ports:
            raise ValueError(f"{who} is plugged in already")
        namespace, device = kernel.create("tq0", address(who))
        port = self._ports[who] = Port(who, namespace, device)
        asyncio.get_running_loop().add_reader(device, self._drain, port)
        return f"/proc/{os.getpid()}/fd/{namespace}"

    def _leave(self, who: int) -> None:
        port = self._ports.pop(who, None)
        if port is not None:
            asyncio.get_running_loop().remove_reader(port.device)
            os.close(port.device)
            os.close(port.namespace)

    def _drain(self, port: Port) -> None:
        now_s = asyncio.get_running_loop().time()
        try:
            for _ in range(_BURST):
                self.carry(port.who, os.read(port.device, kernel.MTU_BYTES), now_s)
        except BlockingIOError:
            pass

    def carry(self, sender: int, packet: bytes, now_s: float) -> None:
        """Let a packet go its way."""
        # Whatever else a device says by itself, like the search for routers of IPv6, goes nowhere.
        if len(packet) < _HEADER_BYTES or packet[0] >> 4 != _IPV4 or packet[16:19] != NETWORK:
            self.dropped["not for anybody here"] += 1
            return
        target = whose(packet[19])
        for due_s in self.way(sender, target).fate(now_s, len(packet)):
            if due_s <= now_s:
                self.deliver(target, packet)
            elif self._under_way >= _UNDER_WAY_MAX:
                self.dropped["too many under way"] += 1
            else:
                self._under_way += 1
                asyncio.get_running_loop().call_at(due_s, self._arrive, target, packet)

    def _arrive(self, target: int, packet: bytes) -> None:
        self._under_way -= 1
        self.deliver(target, packet)

    def deliver(self, target: int, packet: bytes) -> None:
        """Hand a packet to whom it is for; a port that takes none loses it, as any port does."""
        port = self._ports.get(target)
        if port is None:
            self.dropped["nobody there"] += 1
            return
        try:
            os.write(port.device, packet)
        except OSError as error:
            self.dropped[f"refused: {error.strerror}"] += 1


if __name__ == "__main__":
    sys.exit(obey_until_left(Switch, program="chaos.namespaces.switch"))
