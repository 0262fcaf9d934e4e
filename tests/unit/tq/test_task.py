"""Apps and tasks: declaring, naming, sending, and what is refused before anything is sent."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from typing import Any

import pytest

import tq
from tq.errors import TqError
from tq.serialization import JsonSerializer
from tq.status import TaskStatus


class FakeClient:
    """Takes every submit; refuses tasks of the queue `full`."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.batches: list[tuple[Sequence[tq.NewTask], object]] = []
        self.ended: TaskStatus | None = None
        self.closed = 0

    async def submit(self, name: str, payload: bytes = b"", **options: Any) -> tq.Submitted:
        if options["queue"] == "full":
            raise tq.QueueFull("QUEUE_FULL", "full", 1.0)
        given = {key: value for key, value in options.items() if value is not None}
        self.sent.append({"name": name, "payload": payload, **given})
        return tq.Submitted(options["task_id"] or tq.TaskId.new(), len(self.sent))

    async def submit_many(
        self, tasks: Sequence[tq.NewTask], *, deadline: object = None
    ) -> list[tq.Submitted | TqError]:
        self.batches.append((tasks, deadline))
        return [
            tq.QueueFull("QUEUE_FULL", "full", 1.0)
            if task.queue == "full"
            else tq.Submitted(tq.TaskId.new(), place)
            for place, task in enumerate(tasks)
        ]

    async def status(self, task_id: tq.TaskId) -> TaskStatus:
        assert self.ended is not None
        return self.ended

    async def wait(self, task_id: tq.TaskId, **options: object) -> TaskStatus:
        assert self.ended is not None
        return self.ended

    async def cancel(self, task_id: tq.TaskId, reason: str = "") -> str:
        return f"cancelled {reason}"

    async def close(self) -> None:
        self.closed += 1


client = FakeClient()
app = tq.App(client=lambda: client)


@app.task
def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


@app.task(queue="mail", priority=200, retry=tq.Retry(max=8), timeout="30s", name="mail.send")
async def send_email(to: str) -> str:
    return f"sent to {to}"


@app.task(lease="5m")
def index(ctx: tq.Ctx, shard: int) -> list[int]:
    return [shard, ctx.attempt]


@app.task
async def index_async(context: tq.Ctx) -> bool:
    return context is not None


@pytest.fixture(autouse=True)
def _fresh() -> None:
    client.__init__()  # type: ignore[misc]  # the app's client is made once and kept


def status(state: str = "completed", **changes: Any) -> TaskStatus:
    facts: dict[str, Any] = {
        "task_id": tq.TaskId.new(),
        "queue": "default",
        "name": "x",
        "namespace": "default",
        "state": state,
        "priority": 100,
        "attempt": 1,
        "failures": 0,
        "lost": 0,
        "created_at_ms": 0,
    }
    return TaskStatus(**(facts | changes))


# ---------------------------------------------------------------------------- declaring


def test_a_task_is_still_the_function_it_was() -> None:
    assert (5, 3) == (add(2, 3), add(2))
    assert ("add", "Add two numbers.") == (add.__name__, add.__doc__)
    assert "sent to a" == asyncio.run(send_email("a"))


def test_called_here_a_task_gets_a_context_of_its_own() -> None:
    assert [3, 1] == index(3)
    assert asyncio.run(index_async())


def test_the_context_is_no_part_of_the_signature() -> None:
    assert ["shard"] == list(inspect.signature(index).parameters)
    assert [] == list(inspect.signature(index_async).parameters)


def test_the_name_is_module_and_qualname_unless_given() -> None:
    assert f"{__name__}:add" == add.name
    assert "mail.send" == send_email.name
    assert {add.name, index.name, index_async.name, "mail.send"} == set(app.tasks)


def test_a_script_goes_by_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    main = type("Module", (), {"__spec__": None, "__file__": "/srv/shop/tasks.py"})
    monkeypatch.setitem(__import__("sys").modules, "__main__", main)

    def pay() -> None: ...

    pay.__module__, pay.__qualname__ = "__main__", "pay"
    assert "tasks:pay" == tq.App().task(pay).name


def test_two_tasks_of_one_name_are_refused() -> None:
    other = tq.App()
    other.task(name="x")(add.function)
    with pytest.raises(tq.ConfigError, match="two tasks are called 'x'"):
        other.task(name="x")(index.function)


def test_a_function_without_a_name_that_travels_needs_one() -> None:
    def inner() -> None: ...

    with pytest.raises(tq.ConfigError, match="needs name="):
        tq.App().task(inner)


@pytest.mark.parametrize(
    "options", [{"queue": "a b"}, {"priority": 256}, {"priority": -1}, {"timeout": "soon"}]
)
def test_options_that_make_no_sense_are_refused_where_they_are_written(
    options: dict[str, Any],
) -> None:
    with pytest.raises(tq.ConfigError):
        tq.App().task(**options)
    with pytest.raises(tq.ConfigError):
        add.using(**options)


# ------------------------------------------------------------------------------ sending


def test_send_gives_a_handle_and_json_with_the_arguments() -> None:
    handle = add.send(2, b=3)
    assert isinstance(handle, tq.Handle)
    assert [
        {"name": add.name, "payload": b'{"args":[2],"kwargs":{"b":3}}', "queue": "default"}
    ] == client.sent


def test_the_options_of_the_decorator_travel() -> None:
    send_email.send("a")
    [sent] = client.sent
    assert ("mail", 200, "30s", tq.Retry(max=8)) == (
        sent["queue"],
        sent["priority"],
        sent["timeout"],
        sent["retry"],
    )


def test_using_is_a_copy_that_keeps_the_other_options() -> None:
    task_id = tq.TaskId.new()
    late = send_email.using(delay="1h", priority=7, task_id=task_id)
    assert task_id == late.send("a").id
    send_email.send("b")
    first, second = client.sent
    assert ("1h", 7, "mail") == (first["delay"], first["priority"], first["queue"])
    assert ("delay" not in second, second["priority"]) == (True, 200)
    assert late.name == send_email.name


def test_arguments_that_do_not_fit_are_refused_before_anything_is_sent() -> None:
    task: Any = add
    with pytest.raises(TypeError, match="missing a required argument: 'a'"):
        task.send()
    with pytest.raises(TypeError, match="unexpected keyword argument 'c'"):
        task.send(1, c=2)
    with pytest.raises(tq.SerializationError, match="arguments cannot be written as JSON"):
        task.send(object())
    assert [] == client.sent


async def test_send_in_a_coroutine_says_what_to_write_instead() -> None:
    with pytest.raises(tq.ConfigError, match=r"use await add\.asend\(\.\.\.\)"):
        add.send(1)
    handle = await add.asend(1)
    with pytest.raises(tq.ConfigError, match=r"use await handle\.aresult\(\)"):
        handle.result()
    assert 1 == len(client.sent)


def test_one_app_serves_several_event_loops_and_threads() -> None:
    async def send() -> tq.Handle[int]:
        return await add.asend(1)

    handles = [asyncio.run(send()), asyncio.run(send()), add.send(1)]
    assert 3 == len({handle.id for handle in handles})


def test_map_sends_all_in_one_step() -> None:
    handles = add.map([(1,), (2, 3)])
    assert 2 == len(handles)
    [(tasks, _)] = client.batches
    assert [b'{"args":[1],"kwargs":{}}', b'{"args":[2,3],"kwargs":{}}'] == [
        task.payload for task in tasks
    ]


def test_map_takes_calls_of_different_tasks_and_the_longest_deadline() -> None:
    app.map([add.using(deadline="5s").call(1), add.using(deadline="1m").call(2)])
    [(_, deadline)] = client.batches
    assert "1m" == deadline


def test_map_tells_of_each_task_when_some_are_refused() -> None:
    with pytest.raises(tq.PartlySubmitted, match="1 of 2 tasks refused") as caught:
        app.map([add.call(1), add.using(queue="full").call(2)])
    sent, refused = caught.value.outcomes
    assert isinstance(sent, tq.Handle)
    assert isinstance(refused, tq.QueueFull)


async def test_map_in_a_coroutine() -> None:
    assert 2 == len(await add.amap([(1,), (2,)]))


def test_a_refused_send_raises() -> None:
    with pytest.raises(tq.QueueFull):
        add.using(queue="full").send(1)


# ------------------------------------------------------------------------------- handles


def test_a_handle_waits_for_the_result() -> None:
    client.ended = status(result=b"[1,2]")
    assert [1, 2] == index.send(1).result(timeout="5s")


async def test_a_handle_can_be_awaited() -> None:
    client.ended = status(result=b"7")
    assert 7 == await (await add.asend(1))


@pytest.mark.parametrize("state", ["dead_letter", "cancelled"])
def test_a_task_that_ended_without_a_result_raises_with_its_status(state: str) -> None:
    client.ended = status(state, error="ValueError: no")
    with pytest.raises(tq.TaskFailed, match="ValueError: no") as caught:
        add.send(1).result()
    assert state == caught.value.status.state


def test_a_handle_is_made_again_from_its_id() -> None:
    client.ended = status()
    handle = app.handle(add.send(1).id)
    assert client.ended is handle.status()
    assert "cancelled never mind" == handle.cancel("never mind")
    with pytest.raises(tq.ConfigError):
        app.handle("no id")


# ----------------------------------------------------------------------------------- app


def test_an_app_opens_nothing_until_it_is_used() -> None:
    def never() -> FakeClient:
        raise AssertionError("connected")

    quiet = tq.App(client=never)
    quiet.task(name="x")(add.function)


def test_servers_come_from_the_environment_at_the_first_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    late = tq.App(namespace="shop")
    monkeypatch.delenv("TQ_SERVERS", raising=False)
    with pytest.raises(tq.ConfigError, match="TQ_SERVERS"):
        late.make_client()
    monkeypatch.setenv("TQ_SERVERS", "n1:7401,n2")
    assert ("n1:7401", "n2:7401") == late.make_client().servers
    assert "shop" == late.make_client().namespace


def test_a_closed_app_can_be_used_again() -> None:
    add.send(1)
    app.close()
    assert 1 == client.closed
    add.send(1)


def test_every_public_name_can_be_imported() -> None:
    for name in tq.__all__:
        assert getattr(tq, name) is not None, name
    with pytest.raises(AttributeError, match="'Nothing'"):
        tq.Nothing  # type: ignore[attr-defined]  # noqa: B018 -- that is the point


# ---------------------------------------------------------------------------- serializer


def test_a_call_goes_there_and_back() -> None:
    json = JsonSerializer()
    payload = json.dump_call(("é", 1.5, None), {"k": [True]})
    assert (["é", 1.5, None], {"k": [True]}) == json.load_call(payload)
    assert ([], {}) == json.load_call(b"")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"x", "\ud800"])
def test_what_json_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(tq.SerializationError):
        JsonSerializer().dump_result(value)


@pytest.mark.parametrize(
    "payload",
    [
        b"{",
        b"\xff",
        b"[]",
        b"1",
        b'{"args":{}}',
        b'{"kwargs":[]}',
        b'{"args":[],"x":1}',
        b"[" * 10**5,
    ],
)
def test_a_payload_that_is_no_call_is_refused(payload: bytes) -> None:
    with pytest.raises(tq.SerializationError):
        JsonSerializer().load_call(payload)
