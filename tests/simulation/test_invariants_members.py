"""Invariants of members and of repeated claims: a good history passes, a bad one is seen."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.configuration import Configuration
from cluster.state import FOLLOWER, LEADER
from tests.simulation.invariants import Violation
from tests.simulation.invariants.configurations import Configurations
from tests.simulation.invariants.repeats import Repeats
from tests.simulation.scenes import A, B, Log, Scene, node_of

FOUNDING = Configuration(voters=(1, 2, 3))
GROWN = FOUNDING.with_learner(4, ("127.0.0.1", 7004))
OTHER = FOUNDING.with_learner(5, ("127.0.0.1", 7005))


def _node(
    node_id: int = 1,
    configuration: Configuration = FOUNDING,
    index: int = 0,
    *,
    entries: tuple[bytes, ...] = (b"x", b"y", b"z"),
    **engine: Any,
) -> Any:
    log = Log(*(1 for _ in entries), entries=entries)
    log.configuration_index = index
    node = node_of(node_id, log, configuration=configuration, noop_index=1, **engine)
    node.founders = (1, 2, 3)
    return node


CHANGED = (b"x", GROWN.to_entry(), b"z")
TWICE = (b"x", GROWN.to_entry(), GROWN.promoted(4).to_entry())


def test_one_that_joins_may_count_as_the_cluster_was_founded() -> None:
    Scene(Configurations).step(_joining(FOUNDING))
    with pytest.raises(Violation, match="its log names nobody else"):
        Scene(Configurations).step(_joining(Configuration(voters=(1, 2))))


def _joining(counted: Configuration) -> Any:
    """Node 5, told of members of today, holds a snapshot from before the first change."""
    node = _node(5, counted)
    node.founders = (1, 2, 3, 4)
    return node


def test_a_change_by_the_rules_passes() -> None:
    scene = Scene(Configurations)
    leads: dict[str, Any] = {"role": LEADER, "entries": CHANGED}
    scene.step(_node(role=LEADER, commit_index=1))
    scene.step(_node(1, GROWN, 2, commit_index=1, **leads))
    scene.step(_node(1, GROWN, 2, commit_index=3, **leads))
    scene.step(_node(2, commit_index=1))
    scene.step(_node(2, GROWN, 2, commit_index=3, entries=CHANGED))
    scene.step(_node(1, GROWN.promoted(4), 3, commit_index=3, entries=TWICE, role=LEADER))


def test_a_node_that_counts_otherwise_than_its_log_is_seen() -> None:
    scene = Scene(Configurations)
    with pytest.raises(Violation, match="does not count as its entry 2 says"):
        scene.step(_node(1, OTHER, 2, entries=CHANGED))


def test_a_configuration_that_outlives_its_entry_is_seen() -> None:
    scene = Scene(Configurations)
    scene.step(_node(1, GROWN, 2, entries=CHANGED))
    with pytest.raises(Violation, match="its log names nobody else"):
        scene.step(_node(1, GROWN, 0))


def test_two_configurations_committed_at_one_index_are_seen() -> None:
    scene = Scene(Configurations)
    scene.step(_node(1, GROWN, 2, commit_index=2, entries=CHANGED))
    other = (b"x", OTHER.to_entry(), b"z")
    with pytest.raises(Violation, match="node 2 counts otherwise at 2"):
        scene.step(_node(2, OTHER, 2, commit_index=2, entries=other))


def test_a_node_that_missed_a_committed_change_is_seen() -> None:
    scene = Scene(Configurations)
    scene.step(_node(1, GROWN, 2, commit_index=3, entries=CHANGED))
    scene.step(_node(2, commit_index=1))
    with pytest.raises(Violation, match="by the configuration of 0 and not by that of 2"):
        scene.step(_node(2, commit_index=2))


@pytest.mark.parametrize(("commit_index", "words"), [(1, "has two changes open: 2 and 3"), (2, "")])
def test_two_open_changes_are_seen(commit_index: int, words: str) -> None:
    scene = Scene(Configurations)
    leads: dict[str, Any] = {"role": LEADER, "commit_index": commit_index, "entries": TWICE}
    scene.step(_node(1, GROWN, 2, **leads))
    second = _node(1, GROWN.promoted(4), 3, **leads)
    if words:
        with pytest.raises(Violation, match=words):
            scene.step(second)
    else:
        scene.step(second)


def test_a_change_before_a_commit_of_the_own_term_is_seen() -> None:
    scene = Scene(Configurations)
    scene.step(_node(1, role=LEADER, commit_index=0))
    with pytest.raises(Violation, match="before its own commit"):
        scene.step(_node(1, GROWN, 2, role=LEADER, commit_index=0, entries=CHANGED))


def test_a_follower_may_be_sent_several_changes_at_once() -> None:
    scene = Scene(Configurations)
    scene.step(_node(2, role=FOLLOWER))
    scene.step(_node(2, GROWN.promoted(4), 3, role=FOLLOWER, entries=TWICE))


def _claimed_twice() -> tuple[Scene, int]:
    scene = Scene(Repeats)
    scene.register()
    scene.submit(A)
    scene.submit(B)
    return scene, scene.claim(A)


def test_a_repeated_claim_that_leases_more_is_seen() -> None:
    scene, _ = _claimed_twice()
    with pytest.raises(Violation, match="a repeated claim gets what it has"):
        scene.claim(B)


def test_a_claim_whose_leases_have_ended_may_lease_again() -> None:
    scene, token = _claimed_twice()
    scene.expire(token)
    scene.claim(B)
