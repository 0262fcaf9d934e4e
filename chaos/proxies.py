"""The proxy process as the rest of the harness sees it: links by name, policies by direction."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Final

from chaos.links import PASS, Direction, Impairment, Link, Policy
from deploy.local.processes import ChildProcess

ROOT: Final = Path(__file__).resolve().parents[1]
_START_S: Final = 60.0
"""A busy machine takes its time to start a Python."""
_ANSWER_S: Final = 20.0
_LINE_MAX_BYTES: Final = 1 << 20
_PLACE: Final = "tq-chaos-"


class ProxyError(Exception):
    """The proxy did not do what it was told; the text says what it said."""


class Proxies:
    """All links of a cluster, in a process of their own.

    Args:
        directory: Receives its log.
        seed: Draws the delays.
    """

    module: ClassVar[str] = "chaos.proxy"
    """What the process runs."""

    def __init__(self, directory: Path, *, seed: int = 0) -> None:
        # The path of a unix socket has little room; a run's directory may be deep.
        name = f"{_PLACE}{os.getpid()}-{secrets.token_hex(6)}"
        self._place = Path(tempfile.gettempdir(), name)
        self._socket = self._place / "proxy"
        self.process = ChildProcess(
            [sys.executable, "-m", self.module, f"--socket={self._socket}", f"--seed={seed}"],
            log_path=directory / f"{self.module.rpartition('.')[2]}.log",
            directory=ROOT,
        )
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._turn = asyncio.Lock()
        self._told = 0
        self._touched: dict[Direction, None] = {}

    async def start(self, links: Iterable[Link]) -> None:
        """Start the process and open links; from the main thread alone.

        Raises:
            ProxyError: A port is in use, or the process did not come up.
        """
        sweep_places()
        self._place.mkdir(mode=0o700)
        self.process.start()
        try:
            async with asyncio.timeout(_START_S):
                while not await self._connects():
                    if not self.process.running:
                        raise ProxyError(f"the proxy did not start: {self.process.output()}")
                    await asyncio.sleep(0.02)
        except (OSError, TimeoutError) as error:
            raise ProxyError(f"the proxy did not start: {self.process.output()}") from error
        await self.open(links)

    async def _connects(self) -> bool:
        """Connect; False as long as the process has not bound its socket, or does not listen."""
        try:
            self._reader, self._writer = await asyncio.open_unix_connection(
                str(self._socket), limit=_LINE_MAX_BYTES
            )
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True

    async def open(self, links: Iterable[Link]) -> None:
        """Listen for more."""
        await self._tell({"do": "open", "links": [list(link) for link in links]})

    async def shut(self, links: Iterable[Link]) -> None:
        """Listen no more, and reset what runs through."""
        pairs = [[link.dialler, link.target] for link in links]
        await self._tell({"do": "shut", "links": pairs})

    async def set(self, ways: Iterable[Direction], policy: Policy | Impairment) -> None:
        """Do something to directions from now on."""
        hit = list(ways)
        self._touched.update(dict.fromkeys(hit))
        await self._tell({"do": "set", "ways": hit, "policy": policy.to_dict()})

    async def reset(self, ways: Iterable[Direction], *, half: bool = False) -> int:
        """Reset the connections between pairs; `half`: the side that was dialled never hears.

        Returns:
            How many there were.
        """
        answer = await self._tell({"do": "reset", "ways": list(ways), "half": half})
        return int(answer["connections"])

    async def heal(self) -> None:
        """Let everything pass again."""
        if self._touched:
            await self.set(list(self._touched), PASS)
        self._touched.clear()

    async def stats(self) -> dict[str, Any]:
        """Return bytes and connections by direction."""
        return await self._tell({"do": "stats"})

    async def close(self) -> None:
        """End the process, and with it every connection."""
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
        await asyncio.to_thread(self.process.stop)
        shutil.rmtree(self._place, ignore_errors=True)

    async def _tell(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._reader is not None, "not started"
        assert self._writer is not None
        async with self._turn, asyncio.timeout(_ANSWER_S):
            self._told += 1
            self._writer.write(json.dumps({**command, "n": self._told}).encode() + b"\n")
            answer: dict[str, Any] = {}
            # An answer that nobody waited for, since its caller was cancelled, comes first.
            while answer.get("n") != self._told:
                line = await self._reader.readline()
                if not line:
                    raise ProxyError(f"the proxy is gone: {self.process.output()}")
                answer = json.loads(line)
        if not answer.get("ok"):
            raise ProxyError(f"the proxy refused {command['do']!r}: {answer.get('error')}")
        return answer


def sweep_places() -> list[Path]:
    """Remove the folders of sockets that harnesses which were killed have left; return them."""
    swept = []
    for place in Path(tempfile.gettempdir()).glob(f"{_PLACE}*-*"):
        owner = place.name.removeprefix(_PLACE).partition("-")[0]
        if owner.isdigit() and not Path("/proc", owner).exists():
            shutil.rmtree(place, ignore_errors=True)
            swept.append(place)
    return swept
