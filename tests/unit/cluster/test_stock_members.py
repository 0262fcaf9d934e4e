"""What the unmodified SyncObj does when its members or its leader change: H8, P3.

Each test asserts the defect; `docs/hazards.md` names the test of the fix beside it.
"""

from __future__ import annotations

import gzip
import io
import pickle

import pytest
from pysyncobj.config import FAIL_REASON
from pysyncobj.node import Node

from tests.support.sim_stock import Clock, StockNode, stock_clock, stock_journal

__all__ = ["stock_clock", "stock_journal"]

# The stock code leaves closing the file of its term and vote to the collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def _change(kind: str, node_id: int) -> bytes:
    return b"\x02" + pickle.dumps([kind, node_id, Node(node_id)])


def _member(clock: Clock, nodes: int = 3, **settings: object) -> StockNode:
    return StockNode(clock, nodes=nodes, dynamicMembershipChange=True, **settings)


def _members(node: StockNode) -> set[int]:
    return {other.id for other in node.otherNodes}


def _tick(node: StockNode, clock: Clock) -> None:
    clock.now += 0.01
    node.doTick(0)


def _leader(clock: Clock, nodes: int = 3) -> StockNode:
    """A leader whose no-op is committed and applied."""
    node = _member(clock, nodes)
    node.win()
    noop = node.log()[-1][1]
    for peer in (2, 3)[: nodes - 1]:
        node.receive(peer, type="next_node_idx", next_node_idx=noop + 1, reset=False, success=True)
    _tick(node, clock)
    _tick(node, clock)
    assert node.raftLastApplied == noop
    return node


def test_stock_takes_three_changes_at_once(stock_clock: Clock) -> None:
    node, refusals = _leader(stock_clock), []
    for peer in (4, 5, 6):
        node.addNodeToCluster(Node(peer), lambda _result, error: refusals.append(error))
    _tick(node, stock_clock)
    assert _members(node) == {2, 3, 4, 5, 6}
    assert refusals == []
    assert node.raftCommitIndex == 2  # not one of them is committed


def test_stock_forgets_uncommitted_members_at_a_restart(
    stock_clock: Clock, stock_journal: str
) -> None:
    node = _member(stock_clock, journalFile=stock_journal)
    changes = [(_change("add", peer), peer - 2, 1) for peer in (4, 5, 6)]
    node.follow(changes, commit_index=1, prev=1)
    assert _members(node) == {2, 3, 4, 5, 6}
    again = _member(stock_clock, journalFile=stock_journal)
    _tick(again, stock_clock)
    assert len(again.log()) == 4  # all three are in its log
    assert _members(again) == {2, 3}


def test_stock_leader_cannot_be_removed(stock_clock: Clock) -> None:
    node, refusals = _leader(stock_clock), []
    node.removeNodeFromCluster(Node(1), lambda _result, error: refusals.append(error))
    _tick(node, stock_clock)
    assert refusals == [FAIL_REASON.REQUEST_DENIED]


def test_stock_counts_a_new_empty_member_at_once(stock_clock: Clock) -> None:
    node = _leader(stock_clock)
    for peer in (4, 5):
        node.addNodeToCluster(Node(peer))
    _tick(node, stock_clock)
    before, last = node.raftCommitIndex, node.log()[-1][1]
    node.receive(2, type="next_node_idx", next_node_idx=last + 1, reset=False, success=True)
    _tick(node, stock_clock)
    assert node.raftCommitIndex == before  # two of three have it; nodes 4 and 5 have nothing


def test_stock_removed_member_stands_for_election(stock_clock: Clock) -> None:
    node = _member(stock_clock)
    node.follow([(_change("rem", 1), 2, 1)], commit_index=2, prev=1)
    _tick(node, stock_clock)
    assert node.raftLastApplied == 2
    assert _members(node) == {2, 3}
    stock_clock.now += 5
    node.doTick(0)
    assert node.recorder.sent[-1][1]["type"] == "request_vote"


def test_stock_snapshot_carries_members_of_a_later_entry(stock_clock: Clock) -> None:
    node = _leader(stock_clock)
    node._applyCommand(b"a", None, 0)
    _tick(node, stock_clock)
    node.receive(2, type="next_node_idx", next_node_idx=4, reset=False, success=True)
    _tick(node, stock_clock)
    assert node.raftLastApplied == 3
    node.addNodeToCluster(Node(4))
    _tick(node, stock_clock)  # entry 4, not committed
    node.forceLogCompaction()
    _tick(node, stock_clock)
    data = node._SyncObj__serializer._Serializer__inMemorySerializedData
    _, last, _, members = pickle.load(gzip.GzipFile(fileobj=io.BytesIO(data)))
    assert last[1] == 3
    assert 4 in {member.id for member in members}


def test_stock_takes_a_member_back_on_a_repeated_message(stock_clock: Clock) -> None:
    node = _member(stock_clock)
    node.follow([(b"\x00a", 2, 1), (_change("add", 4), 3, 1)], commit_index=3, prev=1)
    _tick(node, stock_clock)
    assert _members(node) == {2, 3, 4}
    node.follow([(b"\x00a", 2, 1)], commit_index=3, prev=1)  # the first half once more
    assert _members(node) == {2, 3}
    assert node.recorder.dropped == [4]


def test_stock_does_not_tell_an_old_leader_of_the_new_term(stock_clock: Clock) -> None:
    node = _member(stock_clock)
    node.receive(3, type="request_vote", term=9, last_log_index=9, last_log_term=8)
    node.recorder.sent.clear()
    node.follow([(b"\x00a", 2, 1)], commit_index=1, prev=1)  # from the leader of term 1
    assert node.recorder.sent == []
