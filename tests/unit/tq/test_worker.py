"""The worker's behaviour in virtual time: results, reports, claims."""

from __future__ import annotations

import asyncio

import pytest

import tq
from tests.support.virtual_time import in_virtual_time
from tests.unit.tq import worker_stage
from tests.unit.tq.doubles import FakeCluster, InlineRunner
from tests.unit.tq.worker_stage import (
    app,
    begun,
    gates,
    worker_on,
)
from tq.worker import Worker


@pytest.fixture(autouse=True)
def _fresh() -> None:
    worker_stage.clear()


@in_virtual_time
async def test_a_result_is_reported_as_json() -> None:
    cluster = FakeCluster()
    async with worker_on(cluster):
        assert ("complete", b"42") == await cluster.end_of(cluster.offer("double", 21))


@in_virtual_time
async def test_an_exception_is_one_line_with_its_traceback_as_detail() -> None:
    cluster = FakeCluster()
    async with worker_on(cluster):
        token = cluster.offer("explode")
        assert ("fail", ("ValueError: two lines", True)) == await cluster.end_of(token)
    [(_, _, _, detail)] = cluster.seen("fail")
    assert b"in explode" in detail


@in_virtual_time
async def test_discard_is_a_failure_without_another_try() -> None:
    cluster = FakeCluster()
    async with worker_on(cluster):
        token = cluster.offer("give_up")
        assert ("fail", ("Discard: never mind", False)) == await cluster.end_of(token)


@in_virtual_time
async def test_a_result_that_is_not_json_fails_for_good() -> None:
    cluster = FakeCluster()
    async with worker_on(cluster):
        verb, (error, retry) = await cluster.end_of(cluster.offer("unwritable"))
    assert ("fail", False) == (verb, retry)
    assert "cannot be written as JSON" in error


@in_virtual_time
async def test_a_payload_that_is_no_call_fails_for_good() -> None:
    cluster = FakeCluster()
    async with worker_on(cluster):
        verb, (error, retry) = await cluster.end_of(cluster.offer("double", payload=b"[1]"))
    assert ("fail", False) == (verb, retry)
    assert "not a call" in error


@in_virtual_time
async def test_an_unregistered_name_fails_with_another_try_and_says_what_there_is() -> None:
    cluster = FakeCluster()
    async with worker_on(cluster):
        verb, (error, retry) = await cluster.end_of(cluster.offer("shop:charge_v2"))
    assert ("fail", True) == (verb, retry)
    assert "no task 'shop:charge_v2'" in error
    assert "double" in error


@in_virtual_time
async def test_a_report_that_got_no_answer_is_sent_again_with_the_same_token() -> None:
    cluster = FakeCluster()
    cluster.troubles["complete"] = [tq.UnknownOutcome("?"), tq.Unavailable("no leader")]
    async with worker_on(cluster):
        token = cluster.offer("double", 1)
        await cluster.end_of(token)
    assert [(token, b"2")] * 3 == cluster.seen("complete")


@in_virtual_time
async def test_a_result_the_cluster_refuses_becomes_a_failure_that_says_why() -> None:
    cluster = FakeCluster()
    cluster.troubles["complete"] = [tq.BadRequest("TOO_LARGE", "result has 11 MiB")]
    async with worker_on(cluster):
        verb, (error, retry) = await cluster.end_of(cluster.offer("double", 1))
    assert ("fail", "BadRequest: TOO_LARGE: result has 11 MiB", False) == (verb, error, retry)


@in_virtual_time
async def test_progress_leaves_once_a_second_and_the_newest_wins() -> None:
    cluster = FakeCluster()
    async with worker_on(cluster):
        await cluster.end_of(cluster.offer("report", 3))
    notes = [note for _, _, note in cluster.seen("progress")]
    assert 3 <= len(notes) <= 4
    assert "step 0" == notes[0]
    assert notes[1] in {"step 9", "step 10"}


# ------------------------------------------------------------------------------- claims


@in_virtual_time
async def test_a_claim_asks_for_free_slots_only() -> None:
    cluster = FakeCluster()
    async with worker_on(cluster, concurrency=3):
        for key in "abcd":
            cluster.offer("hold", key)
        for key in "abc":
            await begun(key)
        assert [3] == cluster.seen("claim")
        gates["b"].set()
        await begun("d")
        assert [3, 1] == cluster.seen("claim")


@in_virtual_time
async def test_the_next_claim_does_not_wait_for_the_answer_to_a_result() -> None:
    cluster = FakeCluster()
    cluster.troubles["complete"] = [tq.UnknownOutcome("?")] * 1000
    async with worker_on(cluster, concurrency=1):
        cluster.offer("double", 1)
        cluster.offer("hold", "next")
        await begun("next")
        assert 1 <= len(cluster.seen("complete")) < 1000


@in_virtual_time
async def test_results_that_get_no_answer_stop_the_claims_before_they_pile_up() -> None:
    cluster = FakeCluster()
    cluster.troubles["complete"] = [tq.UnknownOutcome("?")] * 100_000
    async with worker_on(cluster, concurrency=2):
        for number in range(10):
            cluster.offer("double", number)
        await asyncio.sleep(60)  # virtual
        assert 4 == len({token for token, _ in cluster.seen("complete")})


@in_virtual_time
async def test_claims_stay_within_what_the_cluster_allows() -> None:
    cluster = FakeCluster()
    cluster.troubles["claim"] = [tq.BadRequest("BAD_REQUEST", "count")]
    async with worker_on(cluster, concurrency=8):
        await cluster.end_of(cluster.offer("double", 1))
    assert [8, 4] == cluster.seen("claim")[:2]


@in_virtual_time
async def test_a_claim_the_cluster_will_never_allow_ends_the_worker() -> None:
    cluster = FakeCluster()
    cluster.troubles["claim"] = [tq.BadRequest("BAD_REQUEST", "queues")]
    worker = Worker(app, client=lambda: cluster, runner=InlineRunner, concurrency=1)
    with pytest.raises(tq.BadRequest, match="queues"):
        await worker.serve()
    assert [1] == cluster.seen("deregister")


# ------------------------------------------------------------------------------- leases


# ------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    "refusal",
    [
        tq.Unauthenticated("UNAUTHENTICATED", ""),
        tq.Forbidden("FORBIDDEN", ""),
        tq.RateLimited("RATE_LIMITED", ""),
        tq.Rejected("A_CODE_OF_THE_FUTURE", ""),
        tq.ProtocolError("the answer is too short"),
    ],
    ids=lambda refusal: type(refusal).__name__,
)
@in_virtual_time
async def test_a_refusal_that_says_nothing_of_the_result_does_not_make_a_failure_of_it(
    refusal: tq.TqError,
) -> None:
    cluster = FakeCluster()
    cluster.troubles["complete"] = [refusal, refusal]
    async with worker_on(cluster):
        assert ("complete", b"4") == await cluster.end_of(cluster.offer("double", 2))
    assert [] == cluster.seen("fail")


@in_virtual_time
async def test_a_refusal_for_good_is_repeated_with_growing_pauses_until_the_lease_is_lost() -> None:
    cluster = FakeCluster(lease_ms=10_000)
    cluster.troubles["heartbeat"] = [tq.Unavailable("no leader")] * 1000
    cluster.troubles["complete"] = [tq.Rejected("A_CODE_OF_THE_FUTURE", "")] * 1000
    async with worker_on(cluster):
        cluster.offer("double", 2)
        await asyncio.sleep(60)  # virtual
        assert 4 <= len(cluster.seen("complete")) <= 10
    assert [] == cluster.seen("fail")


@in_virtual_time
async def test_a_task_that_is_not_there_any_more_is_let_go() -> None:
    cluster = FakeCluster()
    cluster.troubles["complete"] = [tq.NotFound("NOT_FOUND", "")]
    async with worker_on(cluster):
        cluster.offer("double", 2)
        await cluster.until(lambda: bool(cluster.seen("complete")))
        await asyncio.sleep(60)  # virtual
    assert 1 == len(cluster.seen("complete"))
    assert [] == cluster.seen("fail")
