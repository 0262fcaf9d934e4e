"""Visitors come by way of any node, and readers ask for what visitors were told."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from chaos.workload.caller import Seat
from chaos.workload.readers import Reader
from chaos.workload.recorder import Recorder
from chaos.workload.tasks import Known, draw
from chaos.workload.visitors import Visitor
from tests.support.fake_cluster import a_client, a_cluster, a_status
from tests.support.fake_server import FakeRequest
from tests.support.virtual_time import in_virtual_time
from tests.unit.chaos.test_recorder import recorded
from tq import Client, TaskId
from tq.protocol import Type


@in_virtual_time
async def test_each_visit_is_a_client_of_its_own_that_begins_at_any_node(tmp_path: Path) -> None:
    network, n1, _, _ = a_cluster()
    index = itertools.count(1)
    n1.on(Type.SUBMIT_TASK, lambda request: request.ack(next(index)))
    recorder, known, stop = Recorder(tmp_path / "j"), Known(), asyncio.Event()
    began: list[str] = []

    def connect(servers: Sequence[str], who: str) -> Client:
        assert sorted(servers) == sorted(network.nodes)
        began.append(servers[0])
        return a_client(network, servers=servers, name=who)

    visitor = Visitor(
        "v",
        servers=list(network.nodes),
        connect=connect,
        recorder=recorder,
        known=known,
        rng=random.Random(5),
    )
    visiting = asyncio.create_task(visitor.run(visits_per_s=4, stop=stop))
    await asyncio.sleep(20)
    stop.set()
    await visiting
    recorder.close()

    assert 60 < len(began) < 100
    assert set(Counter(began)) == set(network.nodes)
    operations = recorded(tmp_path / "j")
    assert {(one.kind, one.outcome) for one in operations} == {("submit", "ok")}
    assert {one.task for one in operations} == set(known.all)
    assert len({one.who for one in operations}) == len(began)
    told = known.told(random.Random(1))
    assert told is not None
    assert told.hexadecimal in {one.task for one in operations[-10:]}


@pytest.mark.parametrize("is_up", [True, False])
@in_virtual_time
async def test_a_visitor_that_was_told_nothing_tells_nothing(tmp_path: Path, is_up: bool) -> None:
    network, *nodes = a_cluster()
    for node in nodes:
        node.on(Type.SUBMIT_TASK, lambda request: request.nack("QUEUE_FULL", "full"))
        node.up = is_up
    recorder, known = Recorder(tmp_path / "j"), Known()
    visitor = Visitor(
        "v",
        servers=list(network.nodes),
        connect=lambda servers, who: a_client(network, servers=servers, name=who),
        recorder=recorder,
        known=known,
        rng=random.Random(5),
    )
    await visitor.visit("v-1")
    recorder.close()
    assert len(known.all) == 2
    assert known.told(random.Random(1)) is None
    codes = {one.code for one in recorded(tmp_path / "j")}
    assert codes == {"QUEUE_FULL" if is_up else "UNAVAILABLE"}


@in_virtual_time
async def test_readers_ask_for_what_visitors_were_told_as_it_is(tmp_path: Path) -> None:
    network, *nodes = a_cluster()
    rng = random.Random(5)
    ours, told = draw(rng), draw(rng)

    def answer(request: FakeRequest) -> None:
        is_stale = len(request.fields) > 1
        status = a_status(TaskId.from_bytes(request.fields[0]))
        request.ack(status, *([9] if is_stale else []))

    for node in nodes:
        node.on(Type.QUERY_STATUS, answer)
        node.on(Type.LIST_TASKS, lambda request: request.ack([], b"", 9))
    recorder, known, stop = Recorder(tmp_path / "j"), Known(), asyncio.Event()
    known.add(ours)
    known.tell(told)
    async with a_client(network) as client:
        seat = Seat(name="r", client=client, recorder=recorder, known=known, rng=rng)
        reader = Reader(seat)
        reading = asyncio.create_task(reader.run(reads_per_s=20, stop=stop))
        await asyncio.sleep(30)
        stop.set()
        await reading
    recorder.close()
    how = Counter(
        (one.task, one.arguments["consistency"])
        for one in recorded(tmp_path / "j")
        if one.kind == "get"
    )
    assert how[told.hexadecimal, "linearizable"] > 60
    assert how[told.hexadecimal, "stale"] == 0
    assert how[ours.hexadecimal, "linearizable"] > 60
    assert how[ours.hexadecimal, "stale"] > 60
