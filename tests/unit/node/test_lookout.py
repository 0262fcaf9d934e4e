"""Looking at a node before it is let in: where this node reaches it, and never after the end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cluster.configuration import AddLearner
from cluster.inquiry import Finding
from node import lookout
from node.lookout import Lookout

FOUR = AddLearner(4, ("10.0.0.4", 7400))


class Replica:
    tls = None

    def status(self) -> Any:
        return self

    cluster_id = b"c" * 16


@pytest.mark.parametrize("detours", [{}, {4: ("127.0.0.1", 9)}])
async def test_it_looks_where_this_node_would_dial(
    monkeypatch: pytest.MonkeyPatch, detours: dict[int, tuple[str, int]]
) -> None:
    asked: list[tuple[Any, ...]] = []

    async def inquire(node_id: int, address: tuple[str, int], **given: Any) -> Finding:
        asked.append((node_id, address, given))
        return Finding("nobody", may_pass=True)

    monkeypatch.setattr(lookout, "inquire", inquire)
    seen: asyncio.Future[Finding | None] = asyncio.get_running_loop().create_future()
    Lookout(1, detours=detours, replica=Replica).look(FOUR, seen.set_result)
    async with asyncio.timeout(10):
        assert await seen == Finding("nobody", may_pass=True)
    told = {"me": 1, "cluster_id": b"c" * 16, "tls": None}
    assert asked == [(4, detours.get(4, FOUR.address), told)]


async def test_after_the_end_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def inquire(*_: Any, **__: Any) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr(lookout, "inquire", inquire)
    seen: list[Finding | None] = []
    looks = Lookout(1, detours={}, replica=Replica)
    looks.look(FOUR, seen.append)
    async with asyncio.timeout(10):
        await began.wait()
        looks.close()
        await ended.wait()
    assert seen == []


async def test_a_look_that_breaks_off_is_told_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    async def inquire(*_: Any, **__: Any) -> None:
        raise RuntimeError("no thread")

    monkeypatch.setattr(lookout, "inquire", inquire)
    seen: asyncio.Future[Finding | None] = asyncio.get_running_loop().create_future()
    Lookout(1, detours={}, replica=Replica).look(FOUR, seen.set_result)
    async with asyncio.timeout(1):
        finding = await seen
    assert finding is not None
    assert finding.may_pass
    assert "no thread" in finding.text
