"""The state of every node when all work is done: `export-<id>.jsonl`.

Nodes are compared where they have applied the same entries, so they are asked once they
have. What a node tells beyond its digest - every task, the hash of every log entry - is asked
by `details`, if it is given.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from tq import Client, RateLimited, TqError

Details = Callable[[Client, str], AsyncIterator[Mapping[str, Any]]]
"""Gives, for a client and a node's address, the further lines of its export."""

LEVEL_S: Final = 60.0
_PAUSE_S: Final = 0.2


async def export(
    nodes: Mapping[int, str],
    directory: Path,
    *,
    details: Details | None = None,
    client: Client | None = None,
) -> list[str]:
    """Write the state of each node; return what went wrong, for people.

    Args:
        nodes: Client address by id.
        directory: Of the run.
        details: See above.
        client: That asks; closed at the end. Made if None.
    """
    asking = client or Client(list(nodes.values()), name="export")
    try:
        heads, troubles = await _Asker(nodes, asking).level_heads()
        for node, head in heads.items():
            path = directory / f"export-{node}.jsonl"
            with path.open("w", encoding="utf-8") as lines:
                lines.write(json.dumps({**head, "whole": details is not None}) + "\n")
                if details is not None:
                    try:
                        async for record in details(asking, nodes[node]):
                            lines.write(json.dumps(record) + "\n")
                    except TqError as error:
                        troubles.append(f"node {node} did not tell its tasks and log: {error}")
        return troubles
    finally:
        await asking.close()


class _Asker:
    """Asks nodes about themselves."""

    def __init__(self, nodes: Mapping[int, str], client: Client) -> None:
        self._nodes = nodes
        self._client = client

    async def level_heads(self) -> tuple[dict[int, dict[str, Any]], list[str]]:
        """Return the first line of each export, once all nodes have applied the same entries.

        When they do not within a minute, those of the nodes that answer, as they are.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + LEVEL_S
        troubles: list[str] = []
        while True:
            answers = await asyncio.gather(*map(self._head, self._nodes), return_exceptions=True)
            heads: dict[int, dict[str, Any]] = {}
            troubles.clear()
            for node, answer in zip(self._nodes, answers, strict=True):
                if isinstance(answer, dict):
                    heads[node] = answer
                elif isinstance(answer, TqError):
                    troubles.append(f"node {node} did not tell its state: {answer}")
                else:
                    raise answer
            indexes = {head["digest_index"] for head in heads.values()}
            if len(heads) == len(self._nodes) and len(indexes) == 1:
                return heads, troubles
            if loop.time() > deadline_s:
                if len(indexes) > 1:
                    told = {node: head["digest_index"] for node, head in heads.items()}
                    troubles.append(f"the nodes did not come to the same entry: {told}")
                return heads, troubles
            await asyncio.sleep(_PAUSE_S)

    async def _head(self, node: int) -> dict[str, Any]:
        address = self._nodes[node]
        status = await self._client.node_status(address, deadline="5s")
        while True:
            try:
                index, digest = await self._client.node_digest(address, deadline="60s")
                break
            except RateLimited as error:
                await asyncio.sleep(error.retry_after_s or _PAUSE_S)
        return {
            "node": node,
            "applied": index,
            "digest": digest.hex(),
            "digest_index": index,
            "first_index": status.get("first_index"),
            "last_index": status.get("last_index", status.get("commit_index")),
        }
