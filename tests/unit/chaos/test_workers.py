"""What a worker of a chaos run does on purpose."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from chaos.workload.caller import Seat
from chaos.workload.recorder import Recorder
from chaos.workload.tasks import Known
from chaos.workload.workers import Worker
from tests.support.fake_cluster import a_client, a_cluster
from tests.support.fake_server import FakeRequest
from tests.support.virtual_time import in_virtual_time
from tests.unit.chaos.test_recorder import recorded
from tq import TaskId
from tq.client import Grant
from tq.protocol import Type


@in_virtual_time
async def test_a_worker_gives_a_task_back_just_when_its_lease_runs_out(tmp_path: Path) -> None:
    network, n1, _, _ = a_cluster()
    ends_s: list[float] = []
    after_s: list[float] = []

    def extended(request: FakeRequest) -> None:
        ends_s.append(asyncio.get_running_loop().time() + request.fields[2] / 1000)
        request.ack()

    def released(request: FakeRequest) -> None:
        after_s.append(asyncio.get_running_loop().time() - ends_s[-1])
        request.ack()

    n1.on(Type.EXTEND, extended)
    n1.on(Type.RELEASE, released)
    recorder = Recorder(tmp_path / "j")
    async with a_client(network) as client:
        rng = random.Random(5)
        worker = Worker(Seat(name="w", client=client, recorder=recorder, known=Known(), rng=rng))
        for token in range(1, 31):
            grant = Grant(TaskId.new(), token, "q", "work", b"", 1, 4_000, 0, 1)
            worker._held[token] = grant
            await worker._release_in_the_end(grant)
    recorder.close()
    assert worker._held == {}, "no heartbeat may keep it alive"
    assert [one.kind for one in recorded(tmp_path / "j")] == ["extend", "release"] * 30
    assert -0.16 < min(after_s) < -0.05
    assert 0 < max(after_s) < 0.06
