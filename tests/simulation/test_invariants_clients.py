"""Invariants of what clients are told: a good history passes, one that breaks the rule does not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cluster.state import FOLLOWER, LEADER
from node.proposer import Batch
from statemachine import (
    Accepted,
    Code,
    Outcome,
    Refused,
)
from tests.simulation.callers import Line
from tests.simulation.invariants import Violation
from tests.simulation.invariants.acknowledged import Acknowledged
from tests.simulation.invariants.answered import ANSWER_S, PATIENCE_S, EveryCallerAnswered
from tests.simulation.invariants.linearizable import Linearizable
from tests.simulation.invariants.once import Once
from tests.simulation.invariants.reads import Reads
from tests.simulation.scenes import (
    A,
    B,
    C,
    Scene,
    leased,
    node_of,
    status,
    submitted,
)


def test_an_acknowledgement_that_the_log_does_not_hold_is_seen() -> None:
    scene = Scene(Acknowledged)
    scene.apply(submitted(1, A), replies=[Accepted(1)])
    scene.told("submit", A, answer=[1])
    assert scene.history.acked_index == 1
    scene.apply(submitted(2, B), replies=[Accepted(2)])
    with pytest.raises(Violation, match="is not in the log"):
        scene.told("submit", B, answer=[3])
    with pytest.raises(Violation, match="is not in the log"):
        scene.told("submit", C, answer=[2])


def test_an_answer_from_before_what_was_known_when_the_call_began_is_seen() -> None:
    scene = Scene(Acknowledged)
    scene.apply(submitted(1, A), replies=[Accepted(1)])
    scene.history.acked_index = 1
    with pytest.raises(Violation, match="after entry 1"):
        scene.told("submit", A, answer=[1])


def test_a_refused_command_that_takes_effect_later_is_seen() -> None:
    scene = Scene(Acknowledged, node_of(1))
    refused = scene.told("submit", A, code="NO_QUORUM")
    scene.rule.finished()
    scene.apply(submitted(refused.number, A), replies=[Accepted(1)])
    with pytest.raises(Violation, match="took effect at 1"):
        scene.rule.finished()


def test_a_task_that_is_missing_at_the_end_is_seen() -> None:
    node = node_of(1)
    scene = Scene(Acknowledged, node)
    scene.submit()
    node.machine.status = lambda *_: status("pending")
    scene.rule.finished()
    node.machine.status = lambda *_: None
    with pytest.raises(Violation, match="is gone on node 1"):
        scene.rule.finished()


def test_a_submit_that_adds_a_task_twice_is_seen() -> None:
    scene = Scene(Once)
    scene.submit()
    scene.apply(submitted(2, A), replies=[Accepted(1)])
    with pytest.raises(Violation, match="is told index 3 instead of 1"):
        scene.apply(submitted(3, A), replies=[Accepted(3)])


def test_a_known_task_refused_as_if_it_were_new_is_seen() -> None:
    scene = Scene(Once)
    scene.submit()
    with pytest.raises(Violation, match="as if it were new"):
        scene.apply(submitted(2, A), replies=[Refused(Code.QUEUE_FULL, "")])


def test_a_task_that_ends_twice_is_seen() -> None:
    scene = Scene(Once)
    scene.ledger.finished = [A]
    scene.rule.applied_first(1, Outcome([], [], [A], False))
    with pytest.raises(Violation, match="ends a second time"):
        scene.rule.applied_first(2, Outcome([], [], [A], False))


def test_a_request_applied_more_often_than_it_was_sent_is_seen() -> None:
    scene = Scene(Once)
    operation = scene.told("submit", A, answer=[1])
    scene.apply(submitted(operation.number, A), replies=[Accepted(1)])
    scene.rule.finished()
    scene.apply(submitted(operation.number, A), replies=[Accepted(1)])
    with pytest.raises(Violation, match="sent 1, applied 2 times"):
        scene.rule.finished()


def test_a_node_that_counts_otherwise_than_the_log_is_seen() -> None:
    node = node_of(1, applied_index=1)
    scene = Scene(Once, node)
    scene.submit()
    totals = dict.fromkeys(("completed", "dead", "cancelled", "failed", "lost"), 0)
    node.machine.statistics = lambda: {"totals": {"submitted": 1, **totals}}
    scene.rule.finished()
    node.machine.statistics = lambda: {"totals": {"submitted": 2, **totals}}
    with pytest.raises(Violation, match="the log holds"):
        scene.rule.finished()


def test_an_answer_nobody_asked_for_is_seen() -> None:
    scene = Scene(EveryCallerAnswered)
    scene.rule.sampled()
    scene.history.troubles.append("node 1 answers 7, which is not open")
    with pytest.raises(Violation, match="answers 7"):
        scene.rule.sampled()


def test_a_request_that_a_running_node_forgets_is_seen() -> None:
    scene = Scene(EveryCallerAnswered)
    line = Line(SimpleNamespace(), 1, scene.now)  # type: ignore[arg-type]  # it is not called
    link = SimpleNamespace(is_open=True, is_clear=False, send=lambda _frame: None)
    line.link = link  # type: ignore[assignment]  # all that is asked of it
    scene.history.lines["client"] = line
    line.send(7, b"", scene.now)
    scene.now += 20
    scene.rule.sampled()
    link.is_clear = True
    scene.now += ANSWER_S
    scene.rule.sampled()
    scene.now += 1
    with pytest.raises(Violation, match="does not answer request 7"):
        scene.rule.sampled()


def test_a_proposal_that_nobody_hears_of_is_seen() -> None:
    node = node_of(1)
    node.paused = False
    proposer = SimpleNamespace(_in_flight={"batch"})
    node.broker = SimpleNamespace(proposer=proposer, _barriers=SimpleNamespace(_under_way=set()))
    scene = Scene(EveryCallerAnswered, node)
    scene.rule.sampled()
    scene.now += PATIENCE_S
    scene.rule.finished()
    scene.now += 1
    with pytest.raises(Violation, match="were never heard of"):
        scene.rule.finished()
    scene.now += ANSWER_S
    with pytest.raises(Violation, match="node 1 never heard of"):
        scene.rule.sampled()


def test_a_proposal_that_cannot_be_committed_is_waited_for_and_no_longer() -> None:
    node = node_of(1, role=LEADER, applied_index=3)
    node.engine.log, node.paused = SimpleNamespace(last_index=5), False
    proposer = SimpleNamespace(_in_flight={Batch(1, [])})
    node.broker = SimpleNamespace(proposer=proposer, _barriers=SimpleNamespace(_under_way=set()))
    scene = Scene(EveryCallerAnswered, node)
    scene.rule.sampled()
    scene.now += 3 * ANSWER_S
    scene.rule.sampled()
    node.engine.applied_index, node.engine.log.last_index = 4, 7
    scene.rule.sampled()
    node.engine.applied_index = 5
    with pytest.raises(Violation, match="node 1 never heard of"):
        scene.rule.sampled()
    node.engine.applied_index, node.engine.role = 4, FOLLOWER
    with pytest.raises(Violation, match="node 1 never heard of"):
        scene.rule.sampled()


def test_a_stale_answer_to_a_read_is_seen() -> None:
    scene, _ = leased(Reads)
    scene.told("read", A, answer=[status("pending")])
    scene.told("read", A, answer=[status("in_progress", 1)])
    assert scene.history.acked_index == 3
    with pytest.raises(Violation, match="shows"):
        scene.told("read", A, answer=[status("pending")])


def test_a_task_not_found_after_it_was_accepted_is_seen() -> None:
    scene = Scene(Reads)
    scene.submit()
    scene.told("read", A, code="NOT_FOUND")
    scene.history.acked_index = 1
    with pytest.raises(Violation, match="shows nothing"):
        scene.told("read", A, code="NOT_FOUND")


def test_a_stale_read_is_what_its_index_says_and_never_goes_back() -> None:
    scene, _ = leased(Reads)
    scene.told("stale", A, {"at_least": 2}, answer=[status("pending"), 2])
    scene.told("stale", A, {}, answer=[status("in_progress", 1), 3])
    with pytest.raises(Violation, match="goes back to entry 2 from 3"):
        scene.told("stale", A, {}, answer=[status("pending"), 2])
    with pytest.raises(Violation, match="at 3 it was"):
        scene.told("stale", A, {}, answer=[status("pending"), 3], line=1)
    with pytest.raises(Violation, match="from 9"):
        scene.told("stale", A, {"at_least": 9}, answer=[None, 3], line=2)


def _submitted_at(scene: Scene, at: float, **options: int) -> None:
    scene.told("submit", A, "q", "work", b"", options, answer=[1], invoked=at, returned=at + 1)


def _claimed_at(scene: Scene, at: float, token: int, attempt: int) -> None:
    grants = [[A, token, "q", "work", b"", attempt, 1000, 0, 1]]
    scene.told("claim", 1, ["q"], 1, 0, answer=[grants], invoked=at, returned=at + 1)


def test_a_history_that_some_order_explains_is_linearizable() -> None:
    scene = Scene(Linearizable)
    _submitted_at(scene, 0.0)
    scene.told("read", A, code="NOT_FOUND", invoked=0.5, returned=0.7)
    _claimed_at(scene, 2.0, 5, 1)
    scene.told("read", A, answer=[status("pending")], invoked=2.5, returned=2.6)
    _claimed_at(scene, 4.0, 9, 2)
    scene.told("result", A, 5, 0, b"", "", code="LEASE_LOST", invoked=5.1, returned=5.2)
    scene.told("result", A, 9, 0, b"", "", answer=["completed"], invoked=5.3, returned=5.9)
    scene.told("read", A, answer=[status("completed", 2, 0, 1)], invoked=6.0, returned=6.1)
    scene.rule.finished()


@pytest.mark.parametrize(
    ("kind", "what", "answer", "code"),
    [
        ("result", (5, 0, b"", ""), ["completed"], ""),
        ("read", (), [status("pending", 1, 0, 1)], ""),
        ("read", (), [], "NOT_FOUND"),
        ("release", (5,), [], ""),
        ("cancel", ("",), ["cancelled"], ""),
        ("submit", ("q", "work", b"", {}), [], "QUEUE_FULL"),
        ("submit", ("q", "work", b"!", {}), [1], ""),
        ("submit", ("q", "work", b"", {}), [], "CONFLICT"),
    ],
)
def test_a_history_that_no_order_explains_is_seen(
    kind: str, what: tuple[Any, ...], answer: list[Any], code: str
) -> None:
    scene = Scene(Linearizable)
    _submitted_at(scene, 0.0)
    _claimed_at(scene, 2.0, 5, 1)
    _claimed_at(scene, 4.0, 9, 2)
    scene.told("result", A, 9, 0, b"", "", answer=["completed"], invoked=5.3, returned=5.9)
    scene.rule.finished()
    scene.told(kind, A, *what, answer=answer, code=code, invoked=6.0, returned=6.1)
    with pytest.raises(Violation, match="no order explains"):
        scene.rule.finished()


def test_an_operation_that_is_still_open_may_have_happened() -> None:
    scene = Scene(Linearizable)
    _submitted_at(scene, 0.0)
    _claimed_at(scene, 2.0, 5, 1)
    scene.history.begin("worker", "result", (A, 5, 0, b"", ""), 4.0)
    scene.told("read", A, answer=[status("completed", 1)], invoked=5.0, returned=6.0)
    scene.rule.finished()


def test_a_task_whose_leases_were_all_lost_unheard_may_be_forgotten() -> None:
    scene = Scene(Linearizable)
    scene.options.retention_ms = 5000
    _submitted_at(scene, 0.0, lost_max=1)
    scene.told("read", A, code="NOT_FOUND", invoked=20.0, returned=20.1)
    scene.rule.finished()


def test_a_task_that_was_forgotten_after_its_retention_may_be_missing() -> None:
    scene = Scene(Linearizable)
    scene.options.retention_ms = 5000
    _submitted_at(scene, 0.0)
    _claimed_at(scene, 2.0, 5, 1)
    scene.told("result", A, 5, 0, b"", "", answer=["completed"], invoked=5.3, returned=5.9)
    for kind, what in (("read", ()), ("result", (5, 0, b"", "")), ("cancel", ("",))):
        scene.told(kind, A, *what, code="NOT_FOUND", invoked=20.0, returned=21.0)
    scene.rule.finished()
    scene.options.retention_ms = 604_800_000
    with pytest.raises(Violation, match="no order explains"):
        scene.rule.finished()


def test_an_unknown_outcome_may_have_happened_at_any_later_time() -> None:
    scene = Scene(Linearizable)
    unknown = {"outcome": "info", "invoked": 0.0, "returned": 1.0}
    scene.told("submit", A, "q", "work", b"", {}, code="GAVE_UP", **unknown)
    scene.told("read", A, code="NOT_FOUND", invoked=2.0, returned=2.1)
    scene.told("read", A, answer=[status("pending")], invoked=3.0, returned=3.1)
    scene.rule.finished()
    scene.told("read", A, code="NOT_FOUND", invoked=4.0, returned=4.1)
    with pytest.raises(Violation, match="no order explains"):
        scene.rule.finished()
