"""Four small tasks to try a cluster with: `tq-worker tq.examples:app`.

The app takes its servers from TQ_SERVERS when it is first used.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypedDict

from tq.app import App
from tq.context import Ctx

_CHUNK_BYTES: Final = 256 * 1024

app = App()


class FileDigest(TypedDict):
    """What `file_digest` finds out about a file.

    Attributes:
        sha256: Lower-case hexadecimal.
        lines: Number of line feeds.
        bytes: Size.
    """

    sha256: str
    lines: int
    bytes: int


@app.task
def echo(text: str) -> str:
    """Give the text back."""
    return text


@app.task
async def sleep(ctx: Ctx, duration_s: float) -> float:
    """Do nothing for so many seconds, saying how far it is; give the seconds back."""
    loop = asyncio.get_running_loop()
    started_at = loop.time()
    while (passed_s := loop.time() - started_at) < duration_s:
        ctx.progress(passed_s / duration_s)
        await asyncio.sleep(min(1.0, duration_s - passed_s))
    return duration_s


@app.task
def json_processor(
    records: Sequence[Mapping[str, Any]], group_by: str
) -> dict[str, dict[str, float]]:
    """Group records by one field and add up their numbers.

    Args:
        records: Flat JSON objects; one without the field counts under "".
        group_by: The field.

    Returns:
        For each value of the field: `count`, and the sum of every numeric field.
    """
    groups: dict[str, dict[str, float]] = {}
    for record in records:
        group = groups.setdefault(str(record.get(group_by, "")), {"count": 0})
        group["count"] += 1
        for key, value in record.items():
            if key != group_by and isinstance(value, int | float) and not isinstance(value, bool):
                group[key] = group.get(key, 0) + value
    return groups


@app.task
def file_digest(path: str) -> FileDigest:
    """Read a file of the worker's machine in chunks; give its SHA-256, lines and bytes."""
    digest, lines, size = hashlib.sha256(), 0, 0
    with Path(path).open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            lines += chunk.count(b"\n")
            size += len(chunk)
    return {"sha256": digest.hexdigest(), "lines": lines, "bytes": size}
