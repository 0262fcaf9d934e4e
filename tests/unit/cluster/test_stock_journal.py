"""What the unmodified SyncObj does with its files: H1, H4, H9h, H9j, P6, P9.

Each test asserts the defect; `docs/hazards.md` names the test of the fix beside it.
"""

from __future__ import annotations

import gzip
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
from pysyncobj.journal import FIRST_RECORD_OFFSET, FileJournal

from tests.support.sim_stock import Clock, StockNode, stock_clock, stock_journal

__all__ = ["stock_clock", "stock_journal"]

# The stock code leaves closing the file of its term and vote to the collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def _entry(name: str, index: int, term: int = 1) -> tuple[bytes, int, int]:
    return (b"\x00" + name.encode(), index, term)


def _names(node: StockNode) -> list[bytes]:
    return [entry[1:] for entry, _, _ in node.log() if entry[:1] == b"\x00"]


def _applied(node: StockNode, clock: Clock, ticks: int = 5) -> list[bytes]:
    for _ in range(ticks):
        clock.now += 0.01
        node.doTick(0)
    return node.executed


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every file that something asked the disk to keep."""
    seen: list[int] = []
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, seen.append)
    return seen


def test_stock_confirms_what_no_sync_has_made_durable(
    stock_clock: Clock, stock_journal: str, syncs: list[int]
) -> None:
    node = StockNode(stock_clock, journalFile=stock_journal)
    node.follow([_entry("a", 2), _entry("b", 3)], commit_index=3, prev=1)
    _applied(node, stock_clock)
    assert node.recorder.sent[-1][1]["success"] is True
    assert syncs == []


def test_stock_votes_without_a_sync_of_the_vote(
    stock_clock: Clock, stock_journal: str, syncs: list[int]
) -> None:
    node = StockNode(stock_clock, journalFile=stock_journal)
    node.receive(2, type="request_vote", term=5, last_log_index=9, last_log_term=4)
    assert node.recorder.sent[-1][1] == {"type": "response_vote", "term": 5}
    assert (
        StockNode(stock_clock, journalFile=stock_journal).raftCurrentTerm == 5
    )  # but only written
    assert syncs == []


def test_stock_replaces_its_snapshot_without_a_sync(
    stock_clock: Clock, stock_journal: str, syncs: list[int]
) -> None:
    node = StockNode(
        stock_clock,
        nodes=1,
        journalFile=stock_journal,
        fullDumpFile=stock_journal + ".dump",
        useFork=False,
    )
    node.win()
    node._applyCommand(b"a", None, 0)
    _applied(node, stock_clock)
    node.forceLogCompaction()
    _applied(node, stock_clock)
    assert Path(stock_journal + ".dump").exists()
    assert syncs == []


def test_stock_reads_a_flipped_byte_as_data(stock_clock: Clock, stock_journal: str) -> None:
    node = StockNode(stock_clock, journalFile=stock_journal)
    node.follow([_entry("a", 2), _entry("b", 3)], commit_index=1, prev=1)
    path = Path(stock_journal)
    content = path.read_bytes()
    at = content.index(b"\x00b") + 1
    path.write_bytes(content[:at] + b"x" + content[at + 1 :])
    assert _names(StockNode(stock_clock, journalFile=stock_journal)) == [b"a", b"x"]


def test_stock_dies_of_a_zeroed_record_without_saying_why(stock_journal: str) -> None:
    written = FileJournal(stock_journal)
    for index in range(1, 40):
        written.add(b"x" * 100, index, 1)
    path = Path(stock_journal)
    content = bytearray(path.read_bytes())
    content[FIRST_RECORD_OFFSET : FIRST_RECORD_OFFSET + 2000] = bytes(2000)
    path.write_bytes(content)
    with pytest.raises(struct.error):
        FileJournal(stock_journal)


def test_stock_journal_ends_at_four_gibibytes(stock_journal: str) -> None:
    with pytest.raises(struct.error):
        FileJournal(stock_journal)._FileJournal__setLastRecordOffset(1 << 32)


def test_stock_forgets_what_it_confirmed_between_snapshot_and_cut(
    stock_clock: Clock, stock_journal: str
) -> None:
    files: dict[str, Any] = {
        "journalFile": stock_journal,
        "fullDumpFile": stock_journal + ".dump",
        "useFork": False,
    }
    node = StockNode(stock_clock, **files)
    node.follow([_entry("a", 2), _entry("b", 3), _entry("c", 4)], commit_index=4, prev=1)
    _applied(node, stock_clock, ticks=1)
    node.forceLogCompaction()
    _applied(node, stock_clock, ticks=1)  # the new snapshot is in place, the journal uncut
    node.follow([_entry("d", 5), _entry("e", 6)], commit_index=4, prev=4)
    assert node.recorder.sent[-1][1]["success"] is True
    again = StockNode(stock_clock, **files)
    _applied(again, stock_clock, ticks=1)
    assert b"d" not in _names(again)
    assert b"e" not in _names(again)


class Killed(BaseException):
    """The process ended in the middle of a call."""


def test_stock_loses_the_log_when_killed_while_it_cuts_the_front(
    stock_journal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = FileJournal(stock_journal)
    for index in range(1, 101):
        written.add(b"x", index, 1)
    add, left = FileJournal.add, [7]

    def killed(self: FileJournal, *entry: object) -> None:
        if not left[0]:
            raise Killed
        left[0] -= 1
        add(self, *entry)

    monkeypatch.setattr(FileJournal, "add", killed)
    with pytest.raises(Killed):
        written.deleteEntriesTo(10)
    assert len(FileJournal(stock_journal)) == 7  # of the 90 that were to stay


def test_stock_without_a_dump_file_restarts_with_nothing(
    stock_clock: Clock, stock_journal: str
) -> None:
    node = StockNode(stock_clock, nodes=1, journalFile=stock_journal)
    node.win()
    for name in (b"a", b"b", b"c"):
        node._applyCommand(name, None, 0)
    assert _applied(node, stock_clock) == [b"a", b"b", b"c"]
    node.forceLogCompaction()
    _applied(node, stock_clock)
    again = StockNode(stock_clock, nodes=1, journalFile=stock_journal)
    again.win()
    again._applyCommand(b"d", None, 0)
    assert _applied(again, stock_clock, ticks=50) == []


def test_stock_believes_a_commit_index_beyond_its_journal(
    stock_clock: Clock, stock_journal: str
) -> None:
    node = StockNode(stock_clock, journalFile=stock_journal)
    node.follow([_entry(f"{i}", i) for i in range(2, 23)], commit_index=22, prev=1)
    stock_clock.now += 1.5
    _applied(node, stock_clock)  # the commit index is stored once a second
    FileJournal(stock_journal).deleteEntriesFrom(12)  # what a power loss leaves of it
    again, answers = StockNode(stock_clock, journalFile=stock_journal), []
    again.win()
    again._applyCommand(b"new", lambda _result, error: answers.append(error), 0)
    _applied(again, stock_clock)
    assert answers == [0]  # success, and nobody but this node has heard of it


def _snapshot(index: int, term: int = 1) -> bytes:
    before, last = _entry("x", index - 1, term), _entry("y", index, term)
    return gzip.compress(pickle.dumps(({}, last, before, set()), protocol=2))


def test_stock_drops_confirmed_entries_for_an_older_snapshot(stock_clock: Clock) -> None:
    node = StockNode(stock_clock)
    node.follow([_entry(f"{i}", i) for i in range(2, 9)], commit_index=8, prev=1)
    _applied(node, stock_clock)
    assert node.raftLastApplied == 8
    node.receive(
        2, type="append_entries", term=1, commit_index=8, serialized=(_snapshot(4), True, True)
    )
    assert node.raftLastApplied == 4
    assert node.log()[-1][1] == 4  # five to eight were confirmed, and matched


def test_stock_forks_to_write_a_snapshot(
    stock_clock: Clock, stock_journal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fork() -> int:
        raise Killed

    node = StockNode(
        stock_clock, nodes=1, journalFile=stock_journal, fullDumpFile=stock_journal + ".dump"
    )
    node.win()
    node._applyCommand(b"a", None, 0)
    _applied(node, stock_clock)
    monkeypatch.setattr(os, "fork", fork)
    node.forceLogCompaction()
    with pytest.raises(Killed):
        _applied(node, stock_clock)
