"""The worker's behaviour in virtual time: leases, timeouts, sessions, the way out."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
from typing import Any

import pytest

import tq
from tests.support.virtual_time import in_virtual_time, now_s
from tests.unit.tq import worker_stage
from tests.unit.tq.doubles import FakeCluster, InlineRunner
from tests.unit.tq.worker_stage import (
    app,
    begun,
    cancellations,
    cancelled,
    gates,
    started,
    worker_on,
)
from tq.worker import Worker


@pytest.fixture(autouse=True)
def _fresh() -> None:
    worker_stage.clear()


@in_virtual_time
async def test_heartbeats_list_what_is_held_and_keep_a_long_task_alive() -> None:
    cluster = FakeCluster()
    async with worker_on(cluster):
        token = cluster.offer("hold", "long")
        await begun("long")
        await asyncio.sleep(300)  # virtual
        gates["long"].set()
        assert ("complete", b'"long"') == await cluster.end_of(token)
    assert 20 <= len([tokens for tokens in cluster.seen("heartbeat") if tokens == [token]]) <= 21


@in_virtual_time
async def test_a_lease_the_leader_calls_lost_cancels_the_task_and_sends_no_result(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster = FakeCluster()
    async with worker_on(cluster):
        token = cluster.offer("hold", "x")
        await begun("x")
        cluster.lost.add(token)
        await cluster.until(lambda: len(cluster.seen("heartbeat")) == 1)
        await cluster.end_of(cluster.offer("double", 1))
        assert ["x"] == cancelled
    assert [] == [facts for facts in cluster.seen("complete") if facts[0] == token]
    assert [] == cluster.seen("fail")
    assert [] == cluster.seen("release")
    assert "lease_lost" in caplog.messages


@in_virtual_time
async def test_a_worker_cut_off_stops_before_its_lease_can_end() -> None:
    cluster = FakeCluster(lease_ms=10_000)
    cluster.troubles["heartbeat"] = [tq.Unavailable("no leader")] * 1000
    async with worker_on(cluster):
        claimed_at = now_s()
        cluster.offer("hold", "x")
        await begun("x")
        await cancellations.setdefault("x", asyncio.Event()).wait()
        assert 9 == pytest.approx(now_s() - claimed_at, abs=0.01)
    assert [] == cluster.seen("complete")


@in_virtual_time
async def test_a_cancelled_task_that_returns_all_the_same_is_not_believed() -> None:
    cluster = FakeCluster()
    worker_app = tq.App("unused:7401")

    @worker_app.task(name="stubborn")
    async def stubborn(ctx: tq.Ctx) -> bool:
        started.setdefault("s", asyncio.Event()).set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return ctx.lost

    worker = Worker(worker_app, client=lambda: cluster, runner=InlineRunner)
    serving = asyncio.create_task(worker.serve())
    token = cluster.offer("stubborn")
    await begun("s")
    cluster.lost.add(token)
    await asyncio.sleep(60)  # virtual
    worker.stop()
    await serving
    assert [] == cluster.seen("complete")
    assert [] == cluster.seen("fail")


@in_virtual_time
async def test_lease_lost_in_a_progress_report_stops_the_task() -> None:
    cluster = FakeCluster()
    async with worker_on(cluster):
        token = cluster.offer("report", 100)
        await cluster.until(lambda: bool(cluster.seen("progress")))
        cluster.lost.add(token)
        await asyncio.sleep(2)  # virtual
        reports = len(cluster.seen("progress"))
        await asyncio.sleep(10)  # virtual
        assert reports <= 2
        assert reports == len(cluster.seen("progress"))
        assert token not in [t for beat in cluster.seen("heartbeat") for t in beat]


@in_virtual_time
async def test_a_result_is_given_up_when_its_lease_ends_before_it_is_on_record() -> None:
    cluster = FakeCluster(lease_ms=10_000)
    cluster.troubles["heartbeat"] = [tq.Unavailable("no leader")] * 1000
    cluster.troubles["complete"] = [tq.UnknownOutcome("?")] * 1000
    async with worker_on(cluster):
        cluster.offer("double", 1)
        await asyncio.sleep(30)  # virtual
        tries = len(cluster.seen("complete"))
        assert 9 / 0.2 * 0.8 < tries < 9 / 0.2 * 1.1
        await asyncio.sleep(30)  # virtual
        assert tries == len(cluster.seen("complete"))


@in_virtual_time
async def test_a_short_lease_is_renewed_in_time_whatever_the_heartbeat_interval() -> None:
    cluster = FakeCluster()
    async with worker_on(cluster, heartbeat="15s"):
        token = cluster.offer("hold", "x", lease_ms=1_000)
        await begun("x")
        await asyncio.sleep(20)  # virtual
        gates["x"].set()
        assert ("complete", b'"x"') == await cluster.end_of(token)


@in_virtual_time
async def test_a_grant_that_may_be_old_is_confirmed_before_it_starts() -> None:
    cluster = FakeCluster()
    async with worker_on(cluster):
        await asyncio.sleep(7)  # virtual: the claim has been parked longer than the lease lasts
        beats = len(cluster.seen("heartbeat"))
        token = cluster.offer("hold", "x", lease_ms=1_000)
        await begun("x")
        assert [[token]] == cluster.seen("heartbeat")[beats:]


@in_virtual_time
async def test_a_grant_that_was_lost_on_its_way_never_starts() -> None:
    cluster = FakeCluster()
    async with worker_on(cluster):
        await asyncio.sleep(7)  # virtual
        cluster.lost.add(cluster.offer("hold", "x", lease_ms=1_000))
        await cluster.end_of(cluster.offer("double", 1))
        assert "x" not in started


# ----------------------------------------------------------------------------- timeouts


@in_virtual_time
async def test_a_task_that_runs_too_long_is_cancelled_and_failed_as_timed_out() -> None:
    cluster = FakeCluster()
    async with worker_on(cluster):
        claimed_at = now_s()
        token = cluster.offer("hold", "x", timeout_ms=1_500)
        verb, (error, retry) = await cluster.end_of(token)
        assert ("fail", "TimeoutError: timed out after 1.5 s", True) == (verb, error, retry)
        assert 1.5 == pytest.approx(now_s() - claimed_at, abs=0.01)
        await asyncio.sleep(0)
    assert ["x"] == cancelled
    assert [] == cluster.seen("complete")


# ----------------------------------------------------------------------------- sessions


@in_virtual_time
async def test_registering_is_tried_until_there_is_a_leader() -> None:
    cluster = FakeCluster()
    cluster.troubles["register"] = [tq.Unavailable("no leader")] * 5
    async with worker_on(cluster):
        await cluster.end_of(cluster.offer("double", 1))
    assert 6 == len(cluster.seen("register"))


@pytest.mark.parametrize("concurrency", [1, 2])  # noticed by a heartbeat, or by a claim
@in_virtual_time
async def test_an_ended_session_is_replaced_and_its_tasks_are_stopped(concurrency: int) -> None:
    cluster = FakeCluster()
    async with worker_on(cluster, concurrency=concurrency):
        token = cluster.offer("hold", "x")
        await begun("x")
        cluster.session += 1  # the leader has forgotten ours
        await asyncio.sleep(20)  # virtual
        assert ["x"] == cancelled
        assert ("complete", b"4") == await cluster.end_of(cluster.offer("double", 2))
    first, second = cluster.seen("register")
    assert first["worker_id"] == second["worker_id"]
    assert token not in cluster.ended


@in_virtual_time
async def test_tasks_of_an_ended_session_stop_before_there_is_a_new_one() -> None:
    cluster = FakeCluster()
    async with worker_on(cluster):
        cluster.offer("hold", "x")
        await begun("x")
        cluster.troubles["register"] = [tq.Unavailable("no leader")] * 3
        cluster.session += 1
        await cluster.until(lambda: len(cluster.seen("register")) == 4)
        assert ["x"] == cancelled


@in_virtual_time
async def test_a_worker_that_is_not_wanted_ends_with_the_reason() -> None:
    cluster = FakeCluster()
    cluster.troubles["register"] = [tq.Unauthenticated("UNAUTHENTICATED", "wrong token")]
    with pytest.raises(tq.Unauthenticated, match="wrong token"):
        await Worker(app, client=lambda: cluster, runner=InlineRunner).serve()
    assert cluster.closed


# ------------------------------------------------------------------------------ way out


@in_virtual_time
async def test_draining_lets_running_tasks_finish_and_claims_no_more() -> None:
    cluster = FakeCluster()
    worker = Worker(app, client=lambda: cluster, runner=InlineRunner, concurrency=1)
    serving = asyncio.create_task(worker.serve())
    token = cluster.offer("hold", "x")
    await begun("x")
    worker.stop()
    waiting = cluster.offer("double", 1)
    await asyncio.sleep(20)  # virtual
    assert not serving.done()
    gates["x"].set()
    await serving
    assert ("complete", b'"x"') == cluster.ended[token]
    assert waiting not in cluster.ended
    assert ["register", "claim"] == [v for v, _ in cluster.calls if v in {"register", "claim"}]
    assert "deregister" == cluster.calls[-1][0]


@in_virtual_time
async def test_draining_gives_back_at_once_what_a_parked_claim_still_brings() -> None:
    cluster = FakeCluster()
    worker = Worker(app, client=lambda: cluster, runner=InlineRunner, concurrency=2)
    serving = asyncio.create_task(worker.serve())
    cluster.offer("hold", "x")
    await begun("x")
    await cluster.until(lambda: len(cluster.seen("claim")) == 2)
    worker.stop()
    await asyncio.sleep(0)
    token = cluster.offer("double", 1)
    assert ("release", None) == await cluster.end_of(token)
    gates["x"].set()
    await serving


@in_virtual_time
async def test_an_idle_worker_stops_at_once() -> None:
    cluster = FakeCluster()
    worker = Worker(app, client=lambda: cluster, runner=InlineRunner)
    serving = asyncio.create_task(worker.serve())
    await cluster.until(lambda: bool(cluster.seen("claim")))
    stopped_at = now_s()
    worker.stop()
    await serving
    assert stopped_at == now_s()
    assert [1] == cluster.seen("deregister")


@in_virtual_time
async def test_draining_too_long_cancels_what_runs_and_gives_it_back() -> None:
    cluster = FakeCluster()
    worker = Worker(app, client=lambda: cluster, runner=InlineRunner, shutdown_timeout="40s")
    serving = asyncio.create_task(worker.serve())
    token = cluster.offer("hold", "x")
    await begun("x")
    stopped_at = now_s()
    worker.stop()
    await serving
    assert 40 == pytest.approx(now_s() - stopped_at, abs=0.1)
    assert ["x"] == cancelled
    assert ("release", None) == cluster.ended[token]
    assert ["release", "deregister"] == [verb for verb, _ in cluster.calls][-2:]


@in_virtual_time
async def test_a_second_stop_does_not_wait_for_running_tasks() -> None:
    cluster = FakeCluster()
    worker = Worker(app, client=lambda: cluster, runner=InlineRunner)
    serving = asyncio.create_task(worker.serve())
    token = cluster.offer("hold", "x")
    await begun("x")
    stopped_at = now_s()
    worker.stop()
    worker.stop()
    await serving
    assert now_s() - stopped_at < 0.1
    assert ("release", None) == cluster.ended[token]


@in_virtual_time
async def test_leaving_does_not_wait_for_a_cluster_that_is_gone() -> None:
    cluster = FakeCluster()
    worker = Worker(app, client=lambda: cluster, runner=InlineRunner)
    serving = asyncio.create_task(worker.serve())
    cluster.offer("hold", "x")
    await begun("x")
    cluster.troubles["release"] = [tq.Unavailable("no leader")]
    cluster.troubles["deregister"] = [tq.Unavailable("no leader")]
    worker.stop()
    worker.stop()
    await serving
    assert cluster.closed


def test_stopping_a_worker_whose_loop_has_ended_does_nothing() -> None:
    worker = Worker(app, client=FakeCluster, runner=InlineRunner)
    worker.stop()
    asyncio.run(worker.serve())
    worker.stop()


@pytest.mark.parametrize(
    ("fraction", "note", "told"),
    [
        (0.5, "half", (500, "half")),
        (float("nan"), "", (0, "")),
        (float("inf"), "", (1000, "")),
        (-1, "", (0, "")),
        (2, "n" * 2000, (1000, "n" * 1024)),
        (0.1, "lone \ud800", (100, "lone ?")),
    ],
)
def test_whatever_progress_is_told_the_task_goes_on(
    fraction: float, note: str, told: tuple[int, str]
) -> None:
    heard: list[tuple[int, str]] = []
    ctx = tq.Ctx(task_id=tq.TaskId.new(), token=1, attempt=1, on_progress=heard.append)
    ctx.progress(fraction, note)
    assert [told] == heard


@in_virtual_time
async def test_stopping_before_the_start_is_heard() -> None:
    cluster = FakeCluster()
    worker = Worker(app, client=lambda: cluster, runner=InlineRunner)
    worker.stop()
    await worker.serve()
    assert [] == cluster.seen("claim")


@pytest.mark.parametrize(
    "options", [{"concurrency": 0}, {"queues": []}, {"queues": ["a b"]}, {"heartbeat": 0}]
)
def test_arguments_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(tq.ConfigError):
        Worker(app, **options)


@pytest.fixture(autouse=True)
def _all_logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "tq.worker")


@in_virtual_time
async def test_copies_of_one_worker_have_sessions_of_their_own() -> None:
    """As after a fork: what one process made is served in several."""
    cluster = FakeCluster()
    worker = Worker(app, client=lambda: cluster, runner=InlineRunner)
    for one, key in (copy.copy(worker), "a"), (copy.copy(worker), "b"):
        cluster.offer("hold", key)
        serving = asyncio.create_task(one.serve())
        await begun(key)
        serving.cancel()
        await asyncio.wait([serving])
    first, second = cluster.seen("register")
    assert first["worker_id"] != second["worker_id"]
    assert len(first["worker_id"]) == 16


@in_virtual_time
async def test_a_claim_has_the_time_of_a_lease_whatever_the_deadline_of_the_app_is() -> None:
    cluster = FakeCluster(lease_ms=10_000)
    async with worker_on(cluster):
        await cluster.end_of(cluster.offer("double", 1))
    assert {10.0} == set(cluster.claim_deadlines)
