"""Lists of the client: pages joined in order, and the log of one node."""

from __future__ import annotations

import pytest

from tests.support.fake_cluster import N1, N2, a_client, a_cluster, a_status
from tests.support.fake_server import FakeNode, FakeRequest
from tests.support.virtual_time import in_virtual_time
from tq.errors import ConfigError, ProtocolError, Unavailable
from tq.ids import TaskId
from tq.listing import LogPage
from tq.protocol import Type


def lists(node: FakeNode, ids: list[TaskId], *, applied_index: int = 9, size: int = 2) -> None:
    """Let a node answer with small pages, whatever was asked for."""

    def answer(request: FakeRequest) -> None:
        [options] = request.fields
        if options.get("at_least", 0) > applied_index:
            request.nack("BEHIND", f"applied {applied_index}", 20)
            return
        left = [one for one in ids if one.raw > options.get("after", b"")]
        cursor = left[size - 1].raw if len(left) > size else b""
        tasks = [a_status(one, result_bytes=3) for one in left[:size]]
        request.ack(tasks, cursor, applied_index)

    node.on(Type.LIST_TASKS, answer)


def asked(node: FakeNode) -> list[object]:
    return [request.fields[0] for request in node.seen if request.type == Type.LIST_TASKS]


@in_virtual_time
async def test_all_pages_are_read_one_after_the_other_from_the_leader() -> None:
    network, n1, n2, n3 = a_cluster()
    ids = sorted(TaskId.new() for _ in range(5))
    lists(n1, ids)
    async with a_client(network) as client:
        found = [one async for one in client.tasks(queue="mail", states=["pending"], limit=7)]
    assert [one.task_id for one in found] == ids
    assert [(one.applied_index, one.result_bytes, one.history) for one in found] == [
        (None, 3, ())
    ] * 5
    filters = {"queue": "mail", "states": ["pending"], "limit": 7}
    assert asked(n1) == [filters, *(filters | {"after": ids[at].raw} for at in (1, 3))]
    assert asked(n2) == asked(n3) == []


@in_virtual_time
async def test_an_empty_page_is_not_the_end() -> None:
    network, n1, _, _ = a_cluster()
    task_id = TaskId.new()
    n1.on(
        Type.LIST_TASKS,
        lambda request: (
            request.ack([a_status(task_id)], b"", 3)
            if "after" in request.fields[0]
            else request.ack([], b"\1" * 16, 3)
        ),
    )
    async with a_client(network) as client:
        assert await client.list_tasks() == ([], "01" * 16, 3)
        assert [one.task_id async for one in client.tasks()] == [task_id]
        page = await client.list_tasks(after=task_id)
        assert (page.after, asked(n1)[-1]) == (None, {"limit": 100, "after": task_id.raw})


@in_virtual_time
async def test_a_stale_list_asks_any_node_and_does_not_go_back() -> None:
    network, *nodes = a_cluster(leader="")
    ids = sorted(TaskId.new() for _ in range(3))
    for node, applied_index in zip(nodes, (20, 20, 12), strict=True):
        lists(node, ids, applied_index=applied_index)
    client = a_client(network)
    page = await client.list_tasks(consistency="stale", at_least=15)
    assert (page.applied_index, page.tasks[0].applied_index) == (20, 20)
    for node in nodes:
        lists(node, ids, applied_index=19)
    with pytest.raises(Unavailable, match="applied 19"):
        await client.list_tasks(consistency="stale", deadline="1s")
    with pytest.raises(Unavailable, match="knows no leader"):
        await client.list_tasks(deadline="1s")
    await client.close()


@in_virtual_time
async def test_one_node_is_asked_for_what_it_has_itself() -> None:
    network, n1, n2, _ = a_cluster()
    ids = sorted(TaskId.new() for _ in range(3))
    lists(n2, ids, applied_index=4)
    client = a_client(network)
    found = [one async for one in client.tasks(node=N2)]
    assert [one.task_id for one in found] == ids
    assert {one.applied_index for one in found} == {4}
    assert asked(n1) == []
    stale = {"limit": 1000, "consistency": "stale", "at_least": 0}
    assert asked(n2) == [stale, stale | {"after": ids[1].raw}]
    await client.close()


@in_virtual_time
async def test_the_log_of_one_node_is_told_as_it_says() -> None:
    network, _, n2, _ = a_cluster()
    n2.on(Type.LOG_HASHES, lambda request: request.ack(3, 9, [[4, 1, 7], [5, 2, 0]]))
    client = a_client(network)
    assert await client.node_log(N2, start=4, limit=2) == LogPage(3, 9, [(4, 1, 7), (5, 2, 0)])
    assert [one.fields for one in n2.seen if one.type == Type.LOG_HASHES] == [[4, 2]]
    n2.on(Type.LOG_HASHES, lambda request: request.ack(3, 9, [[4, 1]]))
    with pytest.raises(ProtocolError, match="LOG_HASHES"):
        await client.node_log(N2)
    await client.close()


@pytest.mark.parametrize("answer", [[{}], [[], "ab", 3], [[{}], b"", 3], [[], b"", None]])
@in_virtual_time
async def test_a_list_that_makes_no_sense_is_a_protocol_error(answer: list[object]) -> None:
    network, n1, _, _ = a_cluster()
    n1.on(Type.LIST_TASKS, lambda request: request.ack(*answer))
    async with a_client(network) as client:
        with pytest.raises(ProtocolError):
            await client.list_tasks()


@pytest.mark.parametrize(
    "options",
    [
        {"consistency": "eventual"},
        {"at_least": 3},
        {"after": "no id"},
    ],
)
@in_virtual_time
async def test_what_makes_no_sense_is_refused_before_anything_is_sent(
    options: dict[str, object],
) -> None:
    network, *_ = a_cluster()
    client = a_client(network, servers=N1)
    with pytest.raises(ConfigError):
        await client.list_tasks(**options)  # type: ignore[arg-type]  # the mistake
    await client.close()
    assert network.dialled == []
