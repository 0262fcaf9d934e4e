"""One client of several clusters: what goes where, who is asked, what one that is down costs."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from tests.support.fake_cluster import a_status
from tests.support.fake_server import FakeNetwork, FakeNode, FakeRequest
from tests.support.virtual_time import in_virtual_time, now_s
from tq.app import App, PartlySubmitted
from tq.client import NewTask, Submitted
from tq.errors import (
    BadRequest,
    ConfigError,
    NotCancellable,
    NotFound,
    QueueFull,
    TaskTimeout,
    TqError,
    Unauthenticated,
    Unavailable,
    UnknownOutcome,
)
from tq.ids import TaskId
from tq.placement import Placement
from tq.protocol import PAYLOAD_MAX_BYTES, Type
from tq.sharded import ShardedClient

ADDRESSES = {"a": "a1:7401", "b": "b1:7401", "c": "c1:7401"}
QUEUES = {"a": "thumbnails", "b": "mail", "c": "customer:2"}
"""A queue of each shard."""


class Shard(FakeNode):
    """A cluster of one scripted node that remembers ids, and nothing else of its tasks."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.tasks: dict[bytes, list[Any]] = {}
        self.on(Type.SUBMIT_TASK, lambda request: request.ack(self._take(request.fields)))
        self.on(Type.SUBMIT_BATCH, self._submit_batch)
        for verb in (Type.QUERY_STATUS, Type.WAIT_RESULT):
            self.on(verb, self._status)
        self.on(Type.CANCEL_TASK, self._cancel)
        self.on(Type.GET_STATS, lambda request: request.ack({"at": address}))
        self.on(Type.LIST_WORKERS, lambda request: request.ack([{"name": address}]))
        self.on(Type.NODE_STATUS, lambda request: request.ack({"role": "leader"}))

    @property
    def names(self) -> list[str]:
        return [task[2] for task in self.tasks.values()]

    def _take(self, task: list[Any]) -> int:
        self.tasks[task[0]] = task
        return list(self.tasks).index(task[0])

    def _submit_batch(self, request: FakeRequest) -> None:
        request.ack([[0, self._take(task)] for task in request.fields[0]])

    def _status(self, request: FakeRequest) -> None:
        raw = request.fields[0]
        if raw in self.tasks:
            request.ack(a_status(TaskId.from_bytes(raw)))
        else:
            request.nack("NOT_FOUND", "no such task")

    def _cancel(self, request: FakeRequest) -> None:
        if request.fields[0] in self.tasks:
            request.ack("cancelled")
        else:
            request.nack("NOT_FOUND", "no such task")

    def asked(self) -> int:
        return sum(r.type not in (Type.HELLO, Type.HEARTBEAT) for r in self.seen)


def three_shards() -> tuple[FakeNetwork, Shard, Shard, Shard]:
    a, b, c = (Shard(address) for address in ADDRESSES.values())
    return FakeNetwork(a, b, c), a, b, c


def a_client(network: FakeNetwork, names: str = "abc", **changes: Any) -> ShardedClient:
    shards = {name: ADDRESSES[name] for name in names}
    return ShardedClient(shards, dial=network.dial, rng=random.Random(7), **changes)


# ------------------------------------------------------------------------------ submit


@in_virtual_time
async def test_a_task_goes_to_the_shard_of_its_queue_or_of_its_key() -> None:
    network, a, b, c = three_shards()
    async with a_client(network) as client:
        for queue in QUEUES.values():
            await client.submit(f"of-{queue}", queue=queue)
        await client.submit("by-key", queue=QUEUES["a"], key=QUEUES["c"])
        assert {shard: client.place(queue) for shard, queue in QUEUES.items()} == {
            shard: shard for shard in QUEUES
        }
    assert [a.names, b.names, c.names] == [
        ["of-thumbnails"],
        ["of-mail"],
        ["of-customer:2", "by-key"],
    ]
    assert [task[1] for task in c.tasks.values()] == ["customer:2", "thumbnails"]


@in_virtual_time
async def test_nothing_new_goes_to_a_shard_that_drains_and_its_tasks_are_found() -> None:
    network, _, b, _ = three_shards()
    async with a_client(network) as client:
        old = await client.submit("old", queue=QUEUES["b"])
    async with a_client(network, draining=["b"]) as client:
        await client.submit("new", queue=QUEUES["b"])
        assert (await client.status(old.task_id)).task_id == old.task_id
    assert b.names == ["old"]


@in_virtual_time
async def test_many_tasks_are_split_and_the_answers_put_back_in_order() -> None:
    network, a, b, c = three_shards()
    queues = [QUEUES[shard] for shard in "cabbaccab"]
    tasks = [NewTask(name=f"t{at}", queue=queue) for at, queue in enumerate(queues)]
    async with a_client(network) as client:
        results = await client.submit_many(tasks)
    assert [a.names, b.names, c.names] == [
        ["t1", "t4", "t7"],
        ["t2", "t3", "t8"],
        ["t0", "t5", "t6"],
    ]
    assert [shard.count(Type.SUBMIT_BATCH) for shard in (a, b, c)] == [1, 1, 1]
    held = {**a.tasks, **b.tasks, **c.tasks}
    submitted = [result for result in results if isinstance(result, Submitted)]
    assert [held[one.task_id.raw][2] for one in submitted] == [task.name for task in tasks]
    assert [0, 0, 0, 1, 1, 1, 2, 2, 2] == [one.log_index for one in submitted]


@in_virtual_time
async def test_one_task_that_cannot_be_encoded_keeps_all_of_them_back() -> None:
    network, a, b, c = three_shards()
    tasks = [NewTask(name="t", queue=QUEUES[shard]) for shard in "abc"]
    wrong = NewTask(name="t", queue=QUEUES["c"], priority=2**70)
    async with a_client(network) as client:
        with pytest.raises(ConfigError):
            await client.submit_many([*tasks, wrong])
    assert [[], [], []] == [a.names, b.names, c.names]


@in_virtual_time
async def test_many_tasks_of_one_queue_are_spread_by_keys() -> None:
    network, a, b, c = three_shards()
    tasks = [NewTask(name=shard, queue="default") for shard in "abc"]
    async with a_client(network) as client:
        await client.submit_many(tasks, keys=[QUEUES[shard] for shard in "abc"])
        with pytest.raises(ConfigError, match="2 keys for 3 tasks"):
            await client.submit_many(tasks, keys=["x", "y"])
        assert await client.submit_many([], keys=[]) == []
    assert [a.names, b.names, c.names] == [["a"], ["b"], ["c"]]


@in_virtual_time
async def test_each_task_has_the_outcome_of_its_own_shard_and_errors_name_it() -> None:
    network, a, b, c = three_shards()
    b.crash()
    answers = [["QUEUE_FULL", "100000 waiting", 250], [0, 9]]
    c.on(Type.SUBMIT_BATCH, lambda request: request.ack(answers))
    tasks = [NewTask(name="t", queue=QUEUES[shard]) for shard in "bcacb"]
    async with a_client(network) as client:
        results = await client.submit_many(tasks, deadline="2s")
        down, full, fine, late, down_too = results
        assert isinstance(down, Unavailable)
        assert isinstance(down_too, Unavailable)
        assert (down.shard, str(down).count("shard b: ")) == ("b", 1)
        assert isinstance(full, QueueFull)
        assert str(full) == "shard c: QUEUE_FULL: 100000 waiting"
        assert (full.shard, full.text, full.retry_after_s) == ("c", "100000 waiting", 0.25)
        assert isinstance(fine, Submitted)
        assert isinstance(late, Submitted)
        assert late.log_index == 9
    assert a.names == ["t"]


@in_virtual_time
async def test_an_answer_without_sense_leaves_that_shards_tasks_unknown_and_no_others() -> None:
    network, *_, c = three_shards()
    c.on(Type.SUBMIT_BATCH, lambda request: request.ack([[0, 1]]))
    tasks = [NewTask(name="t", queue=QUEUES[shard]) for shard in "cac"]
    async with a_client(network) as client:
        first, fine, last = await client.submit_many(tasks)
        assert isinstance(fine, Submitted)
        assert isinstance(first, UnknownOutcome)
        assert isinstance(last, UnknownOutcome)
        assert (first.shard, last.shard) == ("c", "c")
        ids = [TaskId(error.task_id) for error in (first, last) if error.task_id]
    assert [task[0] for r in c.seen if r.type == Type.SUBMIT_BATCH for task in r.fields[0]] == [
        task_id.raw for task_id in ids
    ]


@in_virtual_time
@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (NewTask(name="t", queue=QUEUES["b"], delay="soon"), ConfigError),
        (NewTask(name="t", queue=QUEUES["b"], payload=bytes(PAYLOAD_MAX_BYTES + 1)), BadRequest),
    ],
)
async def test_one_task_that_makes_no_sense_keeps_all_from_being_sent(
    wrong: NewTask, error: type[TqError]
) -> None:
    network, *shards = three_shards()
    async with a_client(network) as client:
        with pytest.raises(error):
            await client.submit_many([NewTask(name="t", queue=QUEUES["a"]), wrong])
    assert [shard.asked() for shard in shards] == [0, 0, 0]


@in_virtual_time
async def test_a_shard_that_is_down_takes_its_own_queues_with_it_and_no_others() -> None:
    network, a, b, _ = three_shards()
    b.crash()
    async with a_client(network) as client:
        with pytest.raises(Unavailable, match="shard b: ") as down:
            await client.submit("t", queue=QUEUES["b"], deadline="3s")
        assert (down.value.shard, now_s()) == ("b", 3.0)
        await client.submit("t", queue=QUEUES["a"])
        assert now_s() == 3.0
    assert a.names == ["t"]


# ------------------------------------------------- the same id again, after shards were added


def moved_queue() -> str:
    """Return a queue that moves from a to c once c is there."""
    before, after = Placement("ab"), Placement("abc")
    names = (f"q{number}" for number in range(1000))
    return next(n for n in names if (before.place(n), after.place(n)) == ("a", "c"))


@in_virtual_time
async def test_a_task_that_is_submitted_again_after_its_queue_has_moved_is_not_doubled() -> None:
    network, a, _, c = three_shards()
    queue = moved_queue()
    async with a_client(network, "ab") as client:
        one = await client.submit("t", queue=queue)
        two = await client.submit("u", queue=queue)
        unsent = client.new_id(queue)
    async with a_client(network, "abc") as client:
        assert await client.submit("t", queue=queue, task_id=one.task_id) == one
        tasks = [
            NewTask(name="u", queue=queue, task_id=two.task_id),
            NewTask(name="v", queue=queue, task_id=unsent),
            NewTask(name="w", queue=queue),
        ]
        again, first, fresh = await client.submit_many(tasks)
        assert again == two
        assert isinstance(first, Submitted)
        assert isinstance(fresh, Submitted)
        assert (await client.status(unsent)).task_id == unsent
    assert a.names == ["t", "u"]
    assert sorted(c.names) == ["v", "w"]


@in_virtual_time
async def test_while_the_old_shard_cannot_say_whether_it_has_a_task_it_is_not_sent_elsewhere() -> (
    None
):
    network, a, _, c = three_shards()
    queue = moved_queue()
    async with a_client(network, "ab") as client:
        kept = client.new_id(queue)
    a.crash()
    async with a_client(network, "abc") as client:
        with pytest.raises(Unavailable, match="shard a: "):
            await client.submit("t", queue=queue, task_id=kept, deadline="2s")
        stray = NewTask(name="t", queue=queue, task_id=kept)
        unsaid, fresh = await client.submit_many(
            [stray, NewTask(name="u", queue=queue)], deadline="2s"
        )
        assert isinstance(unsaid, Unavailable)
        assert unsaid.shard == "a"
        assert isinstance(fresh, Submitted)
    assert c.names == ["u"]


# ------------------------------------------------------------------------- tasks by id


@in_virtual_time
async def test_an_id_that_was_made_here_is_asked_for_at_its_shard_alone() -> None:
    network, *shards = three_shards()
    async with a_client(network) as client:
        submitted = await client.submit("t", queue=QUEUES["b"])
        assert (await client.status(submitted.task_id)).is_final
        assert (await client.wait(str(submitted.task_id), timeout="5s")).is_final
        assert await client.cancel(submitted.task_id) == "cancelled"
    assert [shard.asked() for shard in shards] == [0, 4, 0]


@in_virtual_time
async def test_any_other_id_is_asked_for_everywhere() -> None:
    network, *shards = three_shards()
    task_id = TaskId.new().ending_in(b"\0\0")
    async with a_client(network) as client:
        await client.submit("t", queue=QUEUES["c"], task_id=task_id)
        await client.stats()  # all are connected to
        assert (await client.status(task_id)).task_id == task_id
        assert (await client.status(task_id, consistency="linearizable")).is_final
    assert [shard.count(Type.QUERY_STATUS) for shard in shards] == [2, 2, 2]


@in_virtual_time
async def test_a_hint_that_is_wrong_costs_a_request_and_nothing_else() -> None:
    network, _, b, c = three_shards()
    async with a_client(network) as client:
        task_id = client.new_id(QUEUES["b"])
        await client.shards["c"].submit("t", task_id=task_id)
        assert (await client.status(task_id)).task_id == task_id
        assert await client.cancel(task_id) == "cancelled"
    assert (b.count(Type.QUERY_STATUS), c.count(Type.QUERY_STATUS)) == (1, 1)


@in_virtual_time
async def test_not_found_is_said_when_every_shard_has_said_it() -> None:
    network, *shards = three_shards()
    async with a_client(network) as client:
        for task_id in (client.new_id(QUEUES["b"]), TaskId.new().ending_in(b"\0\0")):
            with pytest.raises(NotFound, match="on the shards a, b, c"):
                await client.status(task_id)
    assert [shard.count(Type.QUERY_STATUS) for shard in shards] == [2, 2, 2]


@in_virtual_time
async def test_a_shard_that_cannot_say_is_named_in_place_of_not_found() -> None:
    network, _, b, c = three_shards()
    b.crash()
    task_id = TaskId.new().ending_in(b"\0\0")
    async with a_client(network) as client:
        with pytest.raises(Unavailable, match="shard b: "):
            await client.status(task_id, deadline="2s")
        assert now_s() == 2.0
        await client.submit("t", queue=QUEUES["c"], task_id=task_id)
        assert (await client.status(task_id)).task_id == task_id
        assert now_s() == 2.0, "the answer of c need not wait for b"
        with pytest.raises(ConfigError, match="consistency"):
            await client.status(task_id, consistency="strict")  # type: ignore[arg-type]
    assert c.names == ["t"]


@in_virtual_time
async def test_a_task_that_runs_is_not_cancelled_whatever_other_shards_say() -> None:
    network, _, b, c = three_shards()
    b.crash()
    c.on(Type.CANCEL_TASK, lambda request: request.nack("NOT_CANCELLABLE", "it runs"))
    async with a_client(network) as client:
        with pytest.raises(NotCancellable, match="shard c: NOT_CANCELLABLE: it runs"):
            await client.cancel(TaskId.new().ending_in(b"\0\0"))
        assert now_s() == 0.0


@in_virtual_time
async def test_a_wait_goes_on_at_the_shard_that_knows_the_task() -> None:
    network, *_, c = three_shards()
    task_id = TaskId.new().ending_in(b"\0\0")

    def hold(request: FakeRequest) -> None:
        answer = a_status(task_id, "in_progress")
        asyncio.get_running_loop().call_later(request.fields[1] / 1000, request.ack, answer)

    c.on(Type.WAIT_RESULT, hold)
    async with a_client(network) as client:
        with pytest.raises(TaskTimeout, match=r"shard c: .* it is in_progress"):
            await client.wait(task_id, timeout="5s")
        assert now_s() == 5.0
    async with a_client(network, "ab") as client:
        with pytest.raises(NotFound):
            await client.wait(task_id)


# -------------------------------------------------------------------------- all shards


@in_virtual_time
async def test_one_shard_that_is_down_does_not_hide_the_others() -> None:
    network, _, b, c = three_shards()
    b.crash()
    c.on(Type.LIST_WORKERS, lambda request: request.nack("UNAUTHENTICATED", "who are you"))
    async with a_client(network) as client:
        stats = await client.stats(deadline="2s")
        workers = await client.workers(deadline="2s")
        nodes = await client.nodes()
    assert [list(answers) for answers in (stats, workers, nodes)] == [["a", "b", "c"]] * 3
    assert (stats["a"], stats["c"]) == ({"at": "a1:7401"}, {"at": "c1:7401"})
    assert isinstance(stats["b"], Unavailable)
    assert stats["b"].shard == "b"
    assert workers["a"] == [{"name": "a1:7401"}]
    assert isinstance(workers["c"], Unauthenticated)
    assert str(workers["c"]).startswith("shard c: ")
    assert nodes["c"] == {"c1:7401": {"role": "leader"}}
    assert isinstance(nodes["b"]["b1:7401"], Unavailable)


# -------------------------------------------------------------------------- arguments


def test_each_shard_may_have_a_token_and_an_authority_of_its_own() -> None:
    made = ShardedClient({"a": "127.0.0.1:1", "b": "127.0.0.1:2"}, token={"a": "tq_a"})
    assert made.shards["a"]._options == {"namespace": "default", "token": "tq_a"}
    assert made.shards["b"]._options == {"namespace": "default"}
    assert repr(made) == "ShardedClient(a, b, namespace='default')"
    with pytest.raises(ConfigError, match=r"shard b: .*no-such-file"):
        ShardedClient({"a": "127.0.0.1:1", "b": "127.0.0.1:2"}, ca={"b": "no-such-file"})


@pytest.mark.parametrize(
    ("shards", "more", "said"),
    [
        ({}, {}, "no shard takes tasks"),
        ({"a": "n1", "b": ["n2", "n1:7401"]}, {}, "the shards a and b share n1:7401"),
        ({"a": "n1", "b": "n2:99999"}, {}, "shard b: .* the port must be"),
        ({"a": "n1"}, {"token": {"b": "tq_b"}}, "there is no shard 'b'"),
        ({"a": "n1"}, {"draining": ["a"]}, "no shard takes tasks"),
        ({"a": "n1"}, {"namespace": "a b"}, "cannot name a namespace"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    shards: dict[str, Any], more: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        ShardedClient(shards, **more)


# ------------------------------------------------------------------------------- apps


def test_an_app_sends_its_tasks_over_the_shards() -> None:
    made: list[tuple[FakeNetwork, Shard, Shard, Shard]] = []

    def connect() -> ShardedClient:
        made.append(three_shards())
        made[0][2].on(Type.SUBMIT_BATCH, lambda request: request.nack("FORBIDDEN", "no"))
        return a_client(made[0][0])

    app = App(client=connect)

    @app.task(name="resize", queue=QUEUES["a"])
    def resize() -> None: ...

    @app.task(name="send", queue=QUEUES["b"])
    def send() -> None: ...

    try:
        handle = resize.send()
        assert handle.status().task_id == handle.id
        with pytest.raises(PartlySubmitted, match="1 of 2 tasks refused, first: shard b: "):
            app.map([send.call(), resize.call()])
    finally:
        app.close()
    assert made[0][1].names == ["resize", "resize"]
