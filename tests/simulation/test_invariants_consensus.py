"""Invariants of consensus: a good history passes, one that breaks the rule does not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cluster.state import CANDIDATE, FOLLOWER, LEADER
from statemachine import (
    Accepted,
    Outcome,
    Reply,
    join_entry,
)
from tests.simulation.invariants import ALL, Violation
from tests.simulation.invariants.completeness import LeaderCompleteness
from tests.simulation.invariants.digests import EqualDigests
from tests.simulation.invariants.matching import LogMatching
from tests.simulation.invariants.one_leader import OneLeader
from tests.simulation.invariants.outsiders import Outsiders
from tests.simulation.invariants.progress import Progress
from tests.simulation.invariants.same_entries import SameEntries
from tests.simulation.scenes import (
    A,
    Log,
    Scene,
    node_of,
    submitted,
)
from tests.simulation.sometimes import MUST_REACH


def test_a_term_with_two_leaders_is_seen() -> None:
    scene = Scene(OneLeader)
    scene.step(node_of(1, role=LEADER, term=2))
    scene.step(node_of(1, role=LEADER, term=2))
    scene.step(node_of(2, role=LEADER, term=3))
    with pytest.raises(Violation, match="nodes 1 and 2 both lead term 2"):
        scene.step(node_of(2, role=LEADER, term=2))


def test_a_leader_that_crashed_may_not_lead_its_term_again() -> None:
    scene = Scene(OneLeader)
    scene.step(node_of(1, role=LEADER, term=2))
    with pytest.raises(Violation):
        scene.step(node_of(1, role=LEADER, term=2, life=2))


def test_logs_that_differ_under_one_term_are_seen() -> None:
    scene = Scene(LogMatching)
    scene.step(node_of(1, Log(1, 1, 2)))
    scene.step(node_of(2, Log(1, 1)))
    scene.step(node_of(2, Log(1, 1, 3, entries=[b"0", b"1", b"x"])))
    with pytest.raises(Violation, match="index 3, term 2"):
        scene.step(node_of(3, Log(1, 1, 2, entries=[b"0", b"1", b"y"])))


def test_a_log_with_another_term_before_the_same_entry_is_seen() -> None:
    scene = Scene(LogMatching)
    scene.step(node_of(1, Log(1, 1, 3)))
    with pytest.raises(Violation, match="terms before"):
        scene.step(node_of(2, Log(1, 2, 3)))


def test_an_entry_replaced_in_the_middle_is_seen_when_the_log_is_looked_through() -> None:
    scene = Scene(LogMatching)
    scene.step(node_of(1, Log(1, 1, 1)))
    scene.step(node_of(1, Log(1, 1, 1, entries=[b"0", b"x", b"2"])))
    with pytest.raises(Violation, match="index 2"):
        scene.rule.finished()


def test_a_leader_without_a_committed_entry_is_seen() -> None:
    scene = Scene(LeaderCompleteness)
    scene.step(node_of(1, Log(1, 1), role=LEADER, term=1, commit_index=2))
    scene.step(node_of(2, Log(1, 1, 2), role=LEADER, term=2))
    with pytest.raises(Violation, match="leads term 3 without entry 2"):
        scene.step(node_of(3, Log(1, 3), role=LEADER, term=3))


def test_two_entries_committed_at_one_index_are_seen() -> None:
    scene = Scene(LeaderCompleteness)
    scene.step(node_of(1, Log(1, 1), commit_index=2))
    scene.step(node_of(2, Log(1, 1), commit_index=1))
    with pytest.raises(Violation, match="commits at 2"):
        scene.step(node_of(3, Log(1, 2), commit_index=2))


def test_an_amnesiac_or_a_stranger_that_stands_is_seen() -> None:
    scene = Scene(Outsiders)
    scene.step(node_of(1, amnesiac=True))
    scene.step(node_of(2, role=CANDIDATE))
    with pytest.raises(Violation, match="without its memory"):
        scene.step(node_of(1, role=CANDIDATE, amnesiac=True))
    with pytest.raises(Violation, match="is no voter"):
        scene.step(node_of(4, role=LEADER))


def test_a_vote_of_an_amnesiac_is_seen() -> None:
    scene = Scene(Outsiders)
    scene.step(node_of(1, amnesiac=True, term=3, voted_for=2))
    scene.step(node_of(1, amnesiac=True, term=4))
    with pytest.raises(Violation, match="votes for 3"):
        scene.step(node_of(1, amnesiac=True, term=5, voted_for=3))


@pytest.mark.parametrize("forgetful", [False, True])
def test_a_commit_that_a_majority_does_not_hold_is_seen(forgetful: bool) -> None:
    second = node_of(2, Log(1, 1), amnesiac=forgetful, durable_index=2)
    scene = Scene(Outsiders, second, node_of(3, Log(1)))
    scene.step(node_of(1, Log(1, 1), role=LEADER, commit_index=1))
    if forgetful:
        with pytest.raises(Violation, match=r"durable on \[1\]"):
            scene.step(node_of(1, Log(1, 1), role=LEADER, commit_index=2))
    else:
        scene.step(node_of(1, Log(1, 1), role=LEADER, commit_index=2))


def test_a_follower_that_has_died_since_it_confirmed_still_counts() -> None:
    scene = Scene(Outsiders, node_of(3, Log(1)))
    second = node_of(2, Log(1, 1))
    scene.rule.stopped(second)
    scene.nodes[2] = SimpleNamespace(engine=None)
    scene.step(node_of(1, Log(1, 1), role=LEADER, commit_index=1))
    scene.step(node_of(1, Log(1, 1), role=LEADER, commit_index=2))


def test_a_follower_that_has_forgotten_and_died_again_since_still_counts() -> None:
    """Seed 82912578930368: the leader was paused meanwhile, and read the answer when it went on."""
    scene = Scene(Outsiders, node_of(3, Log(1)))
    scene.rule.stopped(node_of(2, Log(1, 1)))
    scene.rule.stopped(node_of(2, Log(), amnesiac=True))
    scene.nodes[2] = SimpleNamespace(engine=None)
    scene.step(node_of(1, Log(1, 1), role=LEADER, commit_index=1))
    scene.step(node_of(1, Log(1, 1), role=LEADER, commit_index=2))


def _applied(scene: Scene, node: Any, index: int, entry: bytes, *replies: Reply) -> None:
    scene.rule.applied(node, index, entry, Outcome(list(replies), [], [], False))


def test_another_entry_or_outcome_at_one_index_is_seen() -> None:
    first, second = node_of(1), node_of(2)
    scene = Scene(SameEntries, first, second)
    entry = join_entry(0, [submitted(1, A)])
    _applied(scene, first, 1, entry, Accepted(1))
    _applied(scene, second, 1, entry, Accepted(1))
    assert list(scene.ledger.tasks) == [A]
    _applied(scene, first, 2, join_entry(5, []))
    with pytest.raises(Violation, match="another entry at 2"):
        _applied(scene, second, 2, join_entry(6, []))
    _applied(scene, first, 3, entry, Accepted(1))
    with pytest.raises(Violation, match="another outcome at 3"):
        _applied(scene, second, 3, entry, Accepted(3))


def test_an_entry_applied_again_by_one_process_is_seen() -> None:
    scene = Scene(SameEntries)
    entry = join_entry(0, [])
    _applied(scene, node_of(1), 1, entry)
    _applied(scene, node_of(1, life=2), 1, entry)
    with pytest.raises(Violation, match="applies 1 after 1"):
        _applied(scene, node_of(1, life=2), 1, entry)


def test_digests_that_differ_are_seen_at_a_checkpoint_and_at_the_end() -> None:
    first, second = node_of(1), node_of(2)
    scene = Scene(EqualDigests, first, second)
    first.machine.digest_chain = second.machine.digest_chain = (10, b"same")
    scene.rule.checkpointed(first)
    scene.rule.finished()
    second.machine.digest = lambda: b"other"
    with pytest.raises(Violation, match="nodes 1 and 2 differ"):
        scene.rule.finished()
    second.machine.digest_chain = (20, b"one")
    scene.rule.checkpointed(second)
    first.machine.digest_chain = (20, b"two")
    with pytest.raises(Violation, match="node 1 differs at the checkpoint"):
        scene.rule.checkpointed(first)


def test_a_cluster_that_does_not_get_well_is_seen() -> None:
    leader = node_of(1, role=LEADER, commit_index=5, applied_index=5)
    others = [node_of(2, applied_index=5), node_of(3, applied_index=5)]
    scene = Scene(Progress, leader, *others)
    scene.rule.sampled()
    scene.rule.finished()
    others[0].engine.applied_index = 4
    with pytest.raises(Violation, match="member 2 is at 4"):
        scene.rule.finished()
    others[0].engine.applied_index = 5
    scene.submit()
    with pytest.raises(Violation, match="have not ended"):
        scene.rule.finished()
    scene.ledger.live.clear()
    leader.engine.role = FOLLOWER
    with pytest.raises(Violation, match="there is no leader"):
        scene.rule.finished()


def test_every_rule_has_a_name_of_its_own_and_every_state_is_named_once() -> None:
    assert len({rule.name for rule in ALL}) == len(ALL)
    assert all(MUST_REACH.values())
