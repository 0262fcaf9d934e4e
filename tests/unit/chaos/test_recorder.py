"""What the clients of a run note: one operation for each call, whatever comes of it."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from chaos.history import Operation, RecordError, read_history
from chaos.workload.caller import Seat
from chaos.workload.plan import Plan
from chaos.workload.producers import Producer
from chaos.workload.readers import Reader
from chaos.workload.recorder import Journal, Recorder, merge
from chaos.workload.tasks import Known, draw
from tests.support.fake_cluster import a_client, a_cluster, a_status
from tests.support.fake_server import FakeRequest
from tests.support.virtual_time import in_virtual_time
from tq import (
    ConfigError,
    LeaseLost,
    ProtocolError,
    QueueFull,
    TqError,
    Unavailable,
    UnknownOutcome,
)
from tq.protocol import Type


def recorded(path: Path) -> list[Operation]:
    merge([path], path.with_name("history"))
    return read_history(path.with_name("history"))


@pytest.mark.parametrize(
    ("kind", "error", "outcome", "code"),
    [
        ("submit", QueueFull("QUEUE_FULL", ""), "fail", "QUEUE_FULL"),
        ("submit", Unavailable("nobody"), "fail", "UNAVAILABLE"),
        ("submit", UnknownOutcome("lost"), "unknown", ""),
        ("complete", LeaseLost("LEASE_LOST", ""), "fail", "LEASE_LOST"),
        ("get", Unavailable("nobody"), "fail", "UNAVAILABLE"),
        # A heartbeat that was sent may have renewed its leases.
        ("heartbeat", Unavailable("nobody"), "unknown", ""),
    ],
)
async def test_an_error_is_recorded_as_what_it_says_of_the_effect(
    tmp_path: Path, kind: str, error: TqError, outcome: str, code: str
) -> None:
    async def refuse() -> None:
        raise error

    recorder = Recorder(tmp_path / "j")
    assert await recorder.call("c", kind, refuse, told=lambda _: {}, task="ab") is error
    recorder.close()
    [operation] = recorded(tmp_path / "j")
    assert (operation.outcome, operation.code, operation.task) == (outcome, code, "ab")
    assert operation.to is not None


@pytest.mark.parametrize("error", [ProtocolError("nonsense"), ConfigError("a bug of this harness")])
async def test_what_no_cluster_may_answer_ends_the_clients(tmp_path: Path, error: TqError) -> None:
    async def answer() -> None:
        raise error

    recorder = Recorder(tmp_path / "j")
    with pytest.raises(type(error)):
        await recorder.call("c", "submit", answer, told=lambda _: {})
    recorder.close()
    [operation] = recorded(tmp_path / "j")
    assert operation.outcome == "unknown"


def test_what_was_under_way_when_its_process_was_killed_is_on_record(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    done = journal.begin("w", "claim", arguments={"session": 5})
    journal.begin("w", "complete", "ab", {"token": 7})
    journal.end(done, "ok", {"grants": []})
    # Nothing is closed: what is in the file now is what a killed process leaves.
    with (tmp_path / "j").open("ab") as file:
        file.write(b'{"n":3,"who":"w","op":"cla')
    claim, complete = recorded(tmp_path / "j")
    journal.close()
    assert (claim.outcome, claim.value) == ("ok", {"grants": []})
    assert (complete.outcome, complete.to, complete.arguments) == ("unknown", None, {"token": 7})


def test_a_line_that_is_no_operation_is_told_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "j").write_text("hello\n")
    with pytest.raises(RecordError, match="j, line 1"):
        merge([tmp_path / "j"], tmp_path / "history")


def test_a_process_that_is_started_again_overwrites_nothing(tmp_path: Path) -> None:
    plan = Plan(name="w", number=3, servers="h:1", seed=1, directory=str(tmp_path))
    assert Plan.load(plan.save()) == plan
    for _ in range(2):
        path, first = plan.next_journal()
        with Journal(path, first=first) as journal:
            journal.end(journal.begin("w", "heartbeat"), "ok", {"lost": []})
    assert merge(plan.journals, tmp_path / "history") == 2
    numbers = {operation.number for operation in read_history(tmp_path / "history")}
    assert len(numbers) == 2
    assert min(numbers) > 3_000_000_000


@in_virtual_time
async def test_each_task_of_a_batch_is_an_operation_of_its_own(tmp_path: Path) -> None:
    network, n1, _, _ = a_cluster()

    def answer(request: FakeRequest) -> None:
        told: list[object] = [[0, 100 + at] for at in range(len(request.fields[0]))]
        told[-1] = ["QUEUE_FULL", "full", 50]
        request.ack(told)

    n1.on(Type.SUBMIT_BATCH, answer)
    recorder, known, rng = Recorder(tmp_path / "j"), Known(), random.Random(5)
    async with a_client(network) as client:
        producer = Producer(Seat(name="p", client=client, recorder=recorder, known=known, rng=rng))
        specs = [draw(rng) for _ in range(3)]
        await producer._submit_many(specs)
    recorder.close()
    operations = recorded(tmp_path / "j")
    assert [one.task for one in operations] == [spec.hexadecimal for spec in specs]
    assert [one.outcome for one in operations] == ["ok", "ok", "fail"]
    assert [one.value for one in operations][:2] == [{"index": 100}, {"index": 101}]
    assert {one.arguments["batch"] for one in operations} == {"p/1"}
    assert set(known.all) == {spec.hexadecimal for spec in specs}


@in_virtual_time
async def test_a_stale_read_that_finds_nothing_says_in_which_state(tmp_path: Path) -> None:
    network, n1, n2, n3 = a_cluster()
    for node in (n1, n2, n3):
        node.on(Type.QUERY_STATUS, lambda request: request.ack(None, 17))
    recorder, known, rng = Recorder(tmp_path / "j"), Known(), random.Random(5)
    async with a_client(network) as client:
        reader = Reader(Seat(name="r", client=client, recorder=recorder, known=known, rng=rng))
        await reader._stale(draw(rng).task_id)
    recorder.close()
    [operation] = recorded(tmp_path / "j")
    assert (operation.kind, operation.outcome) == ("get", "ok")
    assert operation.value == {"state": None, "applied": 17}
    assert operation.arguments == {"consistency": "stale"}


@in_virtual_time
async def test_a_page_of_the_list_is_recorded_with_where_it_begins_and_ends(tmp_path: Path) -> None:
    network, *nodes = a_cluster()
    recorder, known, rng = Recorder(tmp_path / "j"), Known(), random.Random(5)
    after, listed = draw(rng).task_id, draw(rng).task_id
    for node in nodes:
        node.on(Type.LIST_TASKS, lambda request: request.ack([a_status(listed)], listed.raw, 17))
    async with a_client(network) as client:
        reader = Reader(Seat(name="r", client=client, recorder=recorder, known=known, rng=rng))
        await reader._list(after)
    recorder.close()
    [operation] = recorded(tmp_path / "j")
    assert (operation.kind, operation.outcome, operation.task) == ("list", "ok", "")
    hexadecimal = listed.raw.hex()
    assert operation.value == {"tasks": [hexadecimal], "until": hexadecimal, "applied": 17}
    assert operation.arguments == {"after": after.raw.hex(), "limit": 50}
    [asked] = [one.fields[0] for node in nodes for one in node.seen if one.type == Type.LIST_TASKS]
    assert asked == {"limit": 50, "after": after.raw, "consistency": "stale", "at_least": 0}


@in_virtual_time
async def test_producers_keep_their_pace_and_stop_when_told(tmp_path: Path) -> None:
    network, n1, _, _ = a_cluster()
    index = iter(range(1, 10_000))
    n1.on(Type.SUBMIT_TASK, lambda request: request.ack(next(index)))
    n1.on(Type.SUBMIT_BATCH, lambda request: request.ack([[0, 1]] * len(request.fields[0])))
    n1.on(Type.CANCEL_TASK, lambda request: request.ack("cancelled"))
    recorder, known, rng = Recorder(tmp_path / "j"), Known(), random.Random(5)
    stop = asyncio.Event()
    async with a_client(network) as client:
        producer = Producer(Seat(name="p", client=client, recorder=recorder, known=known, rng=rng))
        running = asyncio.create_task(producer.run(tasks_per_s=50, stop=stop))
        await asyncio.sleep(20)
        stop.set()
        await running
    recorder.close()
    assert 900 < len(known.all) < 1_100
    kinds: dict[str, Any] = {}
    for operation in recorded(tmp_path / "j"):
        kinds.setdefault(operation.kind, []).append(operation)
    assert set(kinds) == {"submit", "cancel"}
    assert any(one.arguments["key"] for one in kinds["submit"])


@in_virtual_time
async def test_producers_end_with_what_no_cluster_may_answer(tmp_path: Path) -> None:
    network, n1, _, _ = a_cluster()
    index = iter(range(1, 10_000))

    def answer(request: FakeRequest) -> None:
        # One acknowledgement among many has no index.
        number = next(index)
        request.ack(*([] if number == 20 else [number]))

    n1.on(Type.SUBMIT_TASK, answer)
    n1.on(Type.SUBMIT_BATCH, lambda request: request.ack([[0, 1]] * len(request.fields[0])))
    n1.on(Type.CANCEL_TASK, lambda request: request.ack("cancelled"))
    recorder, known, rng = Recorder(tmp_path / "j"), Known(), random.Random(5)
    async with a_client(network) as client:
        producer = Producer(Seat(name="p", client=client, recorder=recorder, known=known, rng=rng))
        with pytest.raises(ProtocolError):
            await asyncio.wait_for(producer.run(tasks_per_s=10, stop=asyncio.Event()), 60)
    recorder.close()
    assert next(index) < 200, "it went on as if nothing had been"
