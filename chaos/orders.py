"""A process that does what it is told over a unix socket: a JSON object a line, and one back.

Its number `n`, if it has one, comes back with the answer. The process ends when the connection
does, so it cannot outlive who started it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any, Final, Protocol

_LINE_MAX_BYTES: Final = 1 << 20


class Obedient(Protocol):
    """What carries orders out."""

    async def obey(self, command: dict[str, Any]) -> dict[str, Any]:
        """Carry one out; return what is answered.

        Raises:
            ValueError: It makes no sense.
            OSError: The system refuses.
        """


async def _answer(subject: Obedient, line: bytes) -> dict[str, Any]:
    number = None
    try:
        command = json.loads(line)
        number = command.pop("n", None)
        return {"n": number, "ok": True, **await subject.obey(command)}
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        return {"n": number, "ok": False, "error": f"{type(error).__name__}: {error}"}


async def serve(path: str, subject: Obedient) -> None:
    """Obey whoever connects first, until it is gone."""
    gone = asyncio.Event()

    async def obey(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                answer = await _answer(subject, line)
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        gone.set()

    await asyncio.start_unix_server(obey, path, limit=_LINE_MAX_BYTES)
    await gone.wait()


def obey_until_left(make: Callable[[int], Obedient], *, program: str) -> int:
    """Run such a process; return its exit code.

    Args:
        make: Makes, of a seed, what obeys.
        program: Module that is run.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {program}")
    parser.add_argument("--socket", required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    subject = make(options.seed)
    try:
        import uvloop  # noqa: PLC0415 - an optional extra
    except ImportError:
        asyncio.run(serve(options.socket, subject))
    else:
        uvloop.run(serve(options.socket, subject))
    return 0
