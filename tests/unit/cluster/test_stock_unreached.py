"""Stock code that is wrong and not mended: nothing the engine does can reach it.

Versions of methods, a stored commit index, forked snapshots, commands forwarded to the
leader, split commands and stock membership are not repaired. They are not used.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from pysyncobj import syncobj
from pysyncobj.journal import FileJournal, MemoryJournal
from pysyncobj.serializer import Serializer

from cluster.engine import Engine
from cluster.events import Propose, TransferLeadership
from cluster.interface import Timing
from tests.support.sim_bench import Bench

_NEVER = {
    "H2 stock truncation": (syncobj.SyncObj, "_SyncObj__deleteEntriesFrom"),
    "H3 replies without a term": (syncobj.SyncObj, "_SyncObj__sendNextNodeIdx"),
    "H4a stock truncation after a snapshot": (syncobj.SyncObj, "_SyncObj__deleteEntriesTo"),
    "H4b stock journal": (FileJournal, "__init__"),
    "H4c journal in memory": (MemoryJournal, "add"),
    "H6 commands that are decoded": (syncobj.SyncObj, "_SyncObj__doApplyCommand"),
    "H7 stock apply loop": (syncobj.SyncObj, "_SyncObj__applyLogEntries"),
    "H8 change of members": (syncobj.SyncObj, "_SyncObj__changeCluster"),
    "H8 members by an entry": (syncobj.SyncObj, "_SyncObj__doChangeCluster"),
    "H8 members by a snapshot": (syncobj.SyncObj, "_SyncObj__updateClusterConfiguration"),
    "H9a stock message handler": (syncobj.SyncObj, "_SyncObj__onMessageReceived"),
    "H9b snapshots from a peer": (Serializer, "setTransmissionData"),
    "H9e split commands": (syncobj.SyncObj, "_SyncObj__sendAppendEntries"),
    "H9f snapshots for a peer": (Serializer, "getTransmissionData"),
    "H9g queue of commands": (syncobj.SyncObj, "_applyCommand"),
    "H9g forwarding": (syncobj.SyncObj, "_checkCommandsToApply"),
    "H9h stored commit index": (FileJournal, "getRaftCommitIndex"),
    "H9j stock install": (syncobj.SyncObj, "_SyncObj__loadDumpFile"),
    "H9k versions of methods": (syncobj.SyncObj, "setCodeVersion"),
    "P9 stock compaction": (syncobj.SyncObj, "_SyncObj__tryLogCompaction"),
    "P9 stock snapshot": (Serializer, "serialize"),
    "P9 fork": (os, "fork"),
}


class Reached(BaseException):
    """Stock code ran that must not; the engine would take an Exception for its own."""


def _reached(*_arguments: object, **_named: object) -> object:
    raise Reached


def _busy_life(engine: type[Engine] = Engine) -> Bench:
    """Elections, entries, a conflict, a snapshot, a transfer, a power loss."""
    timing = Timing(log_tail_bytes=0, chunk_max_bytes=40)
    bench = Bench(engine=engine, timing=timing, checkpoint_entries=4)
    bench.elect(1)
    bench.isolate(1)
    bench.propose(1, "ghost")
    bench.settle()
    bench.elect(2)
    for number in range(16):
        bench.propose(2, f"real{number}")
        bench.settle()
    bench.heal()
    bench.reconnect(1, 2)
    bench.advance(1.0)
    bench.step(2, TransferLeadership())
    bench.advance(1.0)
    bench.restart(3, power_loss=True)
    bench.advance(1.0)
    return bench


def test_the_life_is_busy() -> None:
    bench = _busy_life()
    assert bench.engines[1].snapshots_installed == 1
    assert [len(bench.entries(node)) for node in bench.voters] == [16, 16, 16]
    assert bench.answers["ghost"] == "UNKNOWN_OUTCOME"


@pytest.mark.parametrize("path", _NEVER)
def test_a_busy_life_never_gets_to(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*_NEVER[path], _reached)
    _busy_life()


class CompactsAsStock(Engine):
    """The stock engine decides about snapshots."""

    def _SyncObj__tryLogCompaction(self) -> None:  # noqa: N802  # PySyncObj's name
        syncobj.SyncObj._SyncObj__tryLogCompaction(self)


def test_the_guard_notices_stock_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*_NEVER["P9 stock compaction"], _reached)
    with pytest.raises(Reached):
        _busy_life(CompactsAsStock)


def test_the_engine_has_no_methods_with_versions() -> None:
    engine = _busy_life().engines[1]
    assert engine._methodToID == {}
    assert engine.getCodeVersion() == 0


def test_the_engine_gives_stock_code_no_file_and_no_members() -> None:
    conf = _busy_life().engines[1].conf
    assert (conf.journalFile, conf.fullDumpFile, conf.password) == (None, None, None)
    assert (conf.autoTick, conf.dynamicMembershipChange) == (False, False)


@pytest.mark.parametrize("index", [0, 7])
def test_the_stored_commit_index_is_always_none(index: int) -> None:
    engine = _busy_life().engines[1]
    journal = engine._SyncObj__raftLog
    journal.setRaftCommitIndex(index)
    assert journal.getRaftCommitIndex() == 0


def _never_called() -> None:
    raise Reached


def test_no_caller_is_called_while_an_entry_is_applied() -> None:
    bench = Bench(1)
    bench.advance(0.04)
    bench.step(1, Propose(b"once", None, _never_called))
    bench.sync(1)
    assert [context for _, _, context in bench.last.applied] == [_never_called]
    bench.advance(0.2)
    assert bench.entries(1) == ["once"]


def _stock_messages(engine: Engine) -> list[Callable[[], object]]:
    kinds = ("append_entries", "next_node_idx", "apply_command", "apply_command_response")
    mailbox, peer = engine._SyncObj__transport, engine._nodes[2]
    return [lambda kind=kind: mailbox.send(peer, {"type": kind}) for kind in kinds]  # type: ignore[misc]


def test_stock_code_can_send_nothing_but_a_request_for_votes() -> None:
    for send in _stock_messages(_busy_life().engines[1]):
        with pytest.raises(Exception, match="stock code sends"):
            send()
