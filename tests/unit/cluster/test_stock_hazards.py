"""What the unmodified SyncObj does: the reason for each fix, seen on the stock code.

Each test asserts the defect. `test_hazards.py` shows the same situations handled.
"""

from __future__ import annotations

import pickle

import pytest
from pysyncobj import syncobj

from tests.support.sim_stock import Clock, StockNode, stock_clock

__all__ = ["stock_clock"]


def _entry(name: str, index: int, term: int = 1) -> tuple[bytes, int, int]:
    return (b"\x00" + name.encode(), index, term)


def _follower(clock: Clock) -> StockNode:
    """A stock follower with a, b, c at 2, 3, 4 of term 1, all of them confirmed."""
    node = StockNode(clock)
    node.follow([_entry("a", 2), _entry("b", 3), _entry("c", 4)], commit_index=1, prev=1)
    return node


def test_stock_confirms_entries_without_any_sync(stock_clock: Clock) -> None:
    node = _follower(stock_clock)
    assert node.recorder.sent[-1][1]["type"] == "next_node_idx"
    assert node.recorder.sent[-1][1]["success"] is True  # in the very call, nothing synced


def test_stock_truncates_confirmed_entries_on_a_repeated_message(stock_clock: Clock) -> None:
    node = _follower(stock_clock)
    node.follow([_entry("a", 2)], commit_index=1, prev=1)
    assert len(node.log()) == 2  # b and c, confirmed before, are gone


def test_stock_counts_a_reply_of_an_older_leadership(stock_clock: Clock) -> None:
    node = StockNode(stock_clock)
    node.win()
    before = node.raftCommitIndex
    node.receive(2, type="next_node_idx", next_node_idx=3, reset=False, success=True)
    node.doTick(0)
    assert node.raftCommitIndex == before + 1  # the reply has no term; nobody could tell


def test_stock_raises_its_term_each_time_it_hears_nobody(stock_clock: Clock) -> None:
    node = StockNode(stock_clock)
    for _ in range(10):
        stock_clock.now += 2
        node.doTick(0)
    assert node.raftCurrentTerm == 10


def test_stock_leader_without_a_majority_leads_on_for_half_a_minute(stock_clock: Clock) -> None:
    node = StockNode(stock_clock)
    node.win()
    stock_clock.now += 29
    node.doTick(0)
    assert node._isLeader()


class UntouchedNode(StockNode):
    """Executes commands as the stock code does."""

    _SyncObj__doApplyCommand = syncobj.SyncObj._SyncObj__doApplyCommand  # PySyncObj's name


def test_stock_decodes_commands_with_a_decoder_that_runs_code(
    stock_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seen(_data: bytes) -> object:
        raise AssertionError("decoded")

    node = UntouchedNode(stock_clock)
    monkeypatch.setattr(pickle, "loads", seen)
    monkeypatch.setattr(pickle, "_loads", seen)
    with pytest.raises(AssertionError, match="decoded"):
        node._SyncObj__doApplyCommand(b"\x00" + b"anything")


def _single(clock: Clock) -> StockNode:
    node = StockNode(clock, nodes=1)
    node.win()
    return node


def _ticks(node: StockNode, count: int) -> None:
    for _ in range(count):
        node.clock.now += 0.01  # type: ignore[attr-defined]  # it is a Clock
        try:
            node.doTick(0)
        except ZeroDivisionError:
            continue


def test_stock_applies_an_entry_that_raises_again_at_every_tick(stock_clock: Clock) -> None:
    node, calls = _single(stock_clock), []

    def poison(command: bytes) -> object:
        calls.append(command)
        raise ZeroDivisionError

    node.execute = poison
    node._applyCommand(b"poison", None, 0)
    _ticks(node, 20)
    assert len(calls) > 10


def test_stock_applies_an_entry_twice_when_a_callback_raises(stock_clock: Clock) -> None:
    node = _single(stock_clock)

    def callback(_result: object, _error: int) -> None:
        raise ZeroDivisionError

    node._applyCommand(b"once", callback, 0)
    _ticks(node, 5)
    assert node.executed == [b"once", b"once"]


def test_stock_repeats_entries_behind_one_it_cannot_read(stock_clock: Clock) -> None:
    node = _follower(stock_clock)

    def execute(command: bytes) -> object:
        if command == b"b":
            raise syncobj.SyncObjExceptionWrongVer(9)
        node.executed.append(command)
        return None

    node.execute = execute
    node.follow([_entry("c", 4)], commit_index=4, prev=3)
    _ticks(node, 3)
    assert node.executed.count(b"c") > 1


def test_stock_commits_its_own_tail_on_an_empty_snapshot_chunk(stock_clock: Clock) -> None:
    node = _follower(stock_clock)
    node.receive(2, type="append_entries", term=2, commit_index=99, serialized=None)
    assert node.raftCommitIndex == 4  # nothing of it was verified


def test_stock_confirms_a_snapshot_it_could_not_load(stock_clock: Clock) -> None:
    node = _follower(stock_clock)
    node.receive(2, type="append_entries", term=2, commit_index=1, serialized=(b"junk", True, True))
    assert node.recorder.sent[-1][1]["success"] is True


def test_stock_counts_one_voter_twice(stock_clock: Clock) -> None:
    node = StockNode(stock_clock, nodes=5)
    node._SyncObj__raftElectionDeadline = 0
    node.doTick(0)
    for _ in range(2):
        node.receive(2, type="response_vote", term=node.raftCurrentTerm)
    assert node._isLeader()


def test_stock_steps_back_one_entry_for_each_conflict(stock_clock: Clock) -> None:
    node = StockNode(stock_clock)
    node.follow([_entry(f"{i}", i) for i in range(2, 300)], commit_index=1, prev=1)
    node.receive(
        2,
        type="append_entries",
        term=2,
        commit_index=1,
        prevLogIdx=299,
        prevLogTerm=2,
        entries=[],
    )
    assert node.recorder.sent[-1][1]["next_node_idx"] == 299  # one below; the term began at 2


def test_stock_lets_a_pipelined_success_undo_every_rejection(stock_clock: Clock) -> None:
    node = _follower(stock_clock)
    node.receive(
        2,
        type="append_entries",
        term=2,
        commit_index=1,
        prevLogIdx=9,
        prevLogTerm=2,
        entries=[],
    )
    reply = node.recorder.sent[-1][1]
    assert reply["reset"] is True
    assert "seq" not in reply  # nothing says which message was rejected


def test_stock_splits_a_large_command_with_several_finishes(stock_clock: Clock) -> None:
    node = StockNode(stock_clock)
    node.win()
    node.recorder.sent.clear()
    node._applyCommand(bytes(range(256)) * 512, None, 0)
    node.doTick(0)
    stock_clock.now += 1
    node.doTick(0)
    marks = [message.get("transmission") for to, message in node.recorder.sent if to == 2]
    assert marks.count("finish") > 1


def test_stock_spins_while_a_snapshot_is_being_written(stock_clock: Clock) -> None:
    node = StockNode(stock_clock)
    node.win()
    node._SyncObj__raftNextIndex[node.peers[2]] = 1
    node._SyncObj__serializer.getTransmissionData = lambda _node: None
    node.recorder.sent.clear()
    stock_clock.per_read = 2e-5
    node._SyncObj__sendAppendEntries()
    empty = [m for to, m in node.recorder.sent if to == 2 and m.get("serialized", 0) is None]
    assert len(empty) > 1000


def test_stock_never_answers_a_caller_whose_leader_was_deposed(stock_clock: Clock) -> None:
    node, answers = StockNode(stock_clock), []
    node.win()
    node._applyCommand(b"mine", lambda _result, error: answers.append(error), 0)
    node.doTick(0)
    node.receive(
        2,
        type="append_entries",
        term=9,
        commit_index=1,
        prevLogIdx=1,
        prevLogTerm=0,
        entries=[],
    )
    _ticks(node, 100)
    assert answers == []
