"""A leader that gives its office away finds somebody who takes it."""

from __future__ import annotations

import pytest

from cluster.configuration import Remove
from cluster.events import PeerDisconnected, Propose, TransferLeadership
from cluster.interface import Timing
from cluster.messages import TimeoutNow
from cluster.state import LEADER
from tests.support.sim_bench import Bench


def leading(node: int, *, nodes: int = 3, timing: Timing | None = None) -> Bench:
    bench = Bench(nodes, timing=timing)
    bench.elect(node)
    bench.advance(0.1)
    return bench


def asked(bench: Bench) -> list[int]:
    """Take what asks a voter to stand off the line, as if it had not listened."""
    found = [to for _, to, message in bench.transit if isinstance(message, TimeoutNow)]
    bench.transit = [item for item in bench.transit if not isinstance(item[2], TimeoutNow)]
    return found


def handed_over(bench: Bench, leader: int) -> list[int]:
    bench.step(leader, TransferLeadership())
    found = asked(bench)
    bench.advance(0.3)
    return found + asked(bench)


def test_who_was_asked_in_vain_is_asked_again_only_after_all_others() -> None:
    bench = leading(1, nodes=5)
    assert [handed_over(bench, 1) for _ in range(6)] == [[2], [3], [4], [5], [2], [3]]


def test_a_new_leadership_begins_with_nobody_asked() -> None:
    bench = leading(2)
    assert [handed_over(bench, 2) for _ in range(2)] == [[1], [3]]
    bench.elect(3)
    bench.elect(2)
    bench.advance(0.1)
    assert handed_over(bench, 2) == [1]


def test_one_that_nobody_else_can_stand_in_for_is_asked_again() -> None:
    bench = leading(2)
    bench.isolate(3)
    bench.step(2, PeerDisconnected(3))
    assert [handed_over(bench, 2) for _ in range(2)] == [[1], [1]]


def test_a_leader_is_removed_though_one_voter_never_stands() -> None:
    bench = leading(2)
    bench.change(2, Remove(2), "first")
    assert (bench.answers["first"], asked(bench)) == ("HANDING_OVER", [1])
    bench.advance(bench.timing.election_max_s + 0.1)
    assert bench.engines[2].role == LEADER
    bench.change(2, Remove(2), "again")
    bench.settle()
    assert bench.answers["again"] == "HANDING_OVER"
    assert bench.engines[3].role == LEADER


@pytest.mark.parametrize(("election_max_s", "refused_s"), [(0.8, 0.8), (60.0, 1.0)])
def test_a_transfer_that_nobody_takes_refuses_proposals_for_a_second_at_most(
    election_max_s: float, refused_s: float
) -> None:
    bench = leading(1, timing=Timing(election_max_s=election_max_s))
    begun = bench.now
    assert handed_over(bench, 1) == [2]
    for after_s, name in ((refused_s - 0.01, "during"), (refused_s + 0.01, "after")):
        bench.now = begun + after_s
        bench.step(1, Propose(name.encode(), None, name))
    bench.settle()
    assert bench.answers == {"during": "NOT_LEADER", "after": "applied"}
