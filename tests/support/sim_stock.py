"""The unmodified SyncObj, driven by hand, to show what the engine's fixes are for.

`StockNode` has a clock that is set, a transport that writes down what is sent, and a log of
what was applied. Nothing of the stock code is replaced except how a command is executed,
which would otherwise decode it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pysyncobj import SyncObjConf, syncobj
from pysyncobj.journal import ResizableFile
from pysyncobj.node import Node
from pysyncobj.transport import Transport


class Recorder(Transport):  # type: ignore[misc]  # PySyncObj is untyped
    def __init__(self) -> None:
        super().__init__(None, None, [])
        self.sent: list[tuple[int, dict[str, Any]]] = []
        self.dropped: list[int] = []

    def addNode(self, node: Node) -> None:  # noqa: N802  # PySyncObj's name
        """A member was added; its connection is the test's business."""

    def dropNode(self, node: Node) -> None:  # noqa: N802  # PySyncObj's name
        self.dropped.append(node.id)

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        self.sent.append((node.id, message))
        return True


class StockNode(syncobj.SyncObj):  # type: ignore[misc]  # PySyncObj is untyped
    """Node 1 of a stock cluster whose other nodes are the test."""

    def __init__(self, clock: Callable[[], float], nodes: int = 3, **settings: object) -> None:
        self.recorder = Recorder()
        self.peers = {peer: Node(peer) for peer in range(2, nodes + 1)}
        self.executed: list[bytes] = []
        self.execute: Callable[[bytes], object] = self.executed.append
        self.clock = clock
        conf = SyncObjConf(autoTick=False, **settings)
        super().__init__(Node(1), list(self.peers.values()), conf=conf, transport=self.recorder)
        for peer in self.peers.values():
            self.recorder._onNodeConnected(peer)

    def _SyncObj__doApplyCommand(self, command: bytes) -> object:  # noqa: N802  # PySyncObj's name
        return self.execute(command[1:]) if command[:1] == b"\x00" else None

    def receive(self, peer: int, **message: object) -> None:
        self.recorder._onMessageReceived(self.peers[peer], message)

    def win(self) -> None:
        """Become leader by the votes of the majority."""
        self._SyncObj__raftElectionDeadline = 0
        self.doTick(0)
        for peer in list(self.peers)[: (len(self.peers) + 1) // 2]:
            self.receive(peer, type="response_vote", term=self.raftCurrentTerm)
        assert self._isLeader() or not self.peers

    def log(self) -> list[tuple[bytes, int, int]]:
        return list(self._SyncObj__raftLog[:])

    def follow(self, entries: list[tuple[bytes, int, int]], commit_index: int, prev: int) -> None:
        """An AppendEntries of term 1 from node 2."""
        term = self.log()[prev - 1][2]
        self.receive(
            2,
            type="append_entries",
            term=1,
            commit_index=commit_index,
            prevLogIdx=prev,
            prevLogTerm=term,
            entries=entries,
        )


class Clock:
    """Time of the stock code, moved by hand or by being read."""

    def __init__(self) -> None:
        self.now = 100.0
        self.per_read = 0.0

    def __call__(self) -> float:
        self.now += self.per_read
        return self.now


@pytest.fixture
def stock_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock of its own for stock nodes, for the length of one test."""
    clock = Clock()
    monkeypatch.setattr(syncobj, "monotonicTime", clock)
    return clock


@pytest.fixture
def stock_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The path of a journal; every file that was opened for one is closed at the end."""
    opened: list[ResizableFile] = []
    start = ResizableFile.__init__

    def noted(self: ResizableFile, *arguments: object, **named: object) -> None:
        opened.append(self)
        start(self, *arguments, **named)

    monkeypatch.setattr(ResizableFile, "__init__", noted)
    yield str(tmp_path / "journal")
    for each in opened:
        each._destroy()
