"""The SDK as users write it. Nothing here runs: mypy checks it with the rest of the tree."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, assert_type

import tq

app = tq.App("tq://n1:7401,n2:7401", namespace="shop")


@app.task
def add(a: int, b: int = 1) -> int:
    return a + b


@app.task(queue="mail", priority=200, retry=tq.Retry(max=8, base="2s", cap="10m"), timeout="30s")
async def send_email(to: str, *, template: str) -> str:
    return f"sent {template} to {to}"


@app.task(name="reindex", lease=timedelta(minutes=5))
def reindex(ctx: tq.Ctx, shard: int) -> list[int]:
    ctx.progress(0.5, "half way")
    if ctx.cancelled:
        raise tq.Discard("asked to stop")
    return [shard, ctx.fence, tq.current().attempt]


@app.task
async def warm_up(ctx: tq.Ctx) -> None:
    assert_type(ctx.task_id, tq.TaskId)


@app.task
def store(document: object, copies: int) -> bool:
    return bool(document) and copies > 0


@app.task
def nothing() -> None: ...


def blocking() -> None:
    handle = add.send(1, b=2)
    assert_type(handle, tq.Handle[int])
    assert_type(handle.result(timeout="5s"), int)
    assert_type(handle.status(), tq.TaskStatus)
    assert_type(handle.status().state, str)
    assert_type(send_email.send("a@b.c", template="welcome"), tq.Handle[str])
    assert_type(reindex.send(3).result(), list[int])
    assert_type(reindex.using(delay="1h", priority=7).send(shard=3).result(), list[int])
    assert_type(add.using(queue="slow").send(1).result(), int)
    assert_type(store.send({"a": 1}, 2).result(), bool)
    assert_type(store.send("text", copies=2).result(), bool)
    assert_type(add.map([(1,), (2, 3)]), list[tq.Handle[int]])
    assert_type(app.map([add.call(1), add.call(2)]), list[tq.Handle[int]])
    assert_type(app.handle("019a8f3c-77e1-7000-8000-000000000001"), tq.Handle[Any])
    nothing.send()


def called_like_functions() -> Coroutine[Any, Any, str]:
    assert_type(add(1, b=2), int)
    assert_type(reindex(3), list[int])
    return assert_type(send_email("a", template="b"), Coroutine[Any, Any, str])


async def coroutines() -> None:
    handle = await send_email.asend("a@b.c", template="welcome")
    assert_type(await handle, str)
    assert_type(await handle.aresult(timeout=5), str)
    assert_type(await handle.astatus(), tq.TaskStatus)
    assert_type(await handle.acancel("not needed"), str)
    assert_type(await (await warm_up.asend()), None)
    assert_type(await add.amap([(1,)]), list[tq.Handle[int]])
    assert_type(await send_email("a", template="b"), str)


def clients() -> None:
    with tq.SyncClient("n1:7401") as client:
        assert_type(client.submit("name", b""), tq.Submitted)
        assert_type(client.list_tasks(queue="mail"), tq.TaskPage)
        assert_type(client.node_log("n1:7401").entries, list[tuple[int, int, int]])
        for status in client.tasks(states=["dead_letter"]):
            assert_type(status, tq.TaskStatus)


async def shards() -> None:
    places = {"a": "tq://a1:7401,a2:7401", "b": ["b1:7401"]}
    async with tq.ShardedClient(places, token={"a": "tq_a"}, draining=["b"]) as client:
        assert_type(await client.submit("name", key="customer:7"), tq.Submitted)
        assert_type(await client.submit_many([]), list[tq.Submitted | tq.TqError])
        assert_type(await client.status(client.new_id("mail")), tq.TaskStatus)
        assert_type(client.shards["a"], tq.Client)
        for name, answer in (await client.stats()).items():
            assert_type(name, str)
            if isinstance(answer, tq.TqError):
                assert_type(answer.shard, str | None)
            else:
                assert_type(answer, dict[str, Any])
    with tq.SyncShardedClient(places) as blocking_client:
        assert_type(blocking_client.wait("id", timeout="5s"), tq.TaskStatus)
        assert_type(blocking_client.shards["b"], tq.SyncClient)
    tq.App(client=lambda: tq.ShardedClient(places))


def passed_around(task: tq.Task[[int, int], int]) -> int:
    return task.send(1, 2).result()


def working() -> None:
    tq.Worker(app, concurrency=8, queues=["mail", "default"], heartbeat="15s").run()
