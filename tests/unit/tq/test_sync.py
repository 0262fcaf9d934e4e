"""The blocking client: the same names, in a thread of its own."""

from __future__ import annotations

import inspect
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.fake_cluster import a_status
from tests.support.fake_server import FakeNetwork, FakeNode, FakeRequest
from tq.client import Client
from tq.errors import ConfigError, Conflict
from tq.ids import TaskId
from tq.protocol import Type
from tq.sync import SyncClient

N1 = "n1:7401"


class LateNetwork:
    """A network made in the client's own loop, when it is first dialled."""

    def __init__(self) -> None:
        self.node: FakeNode | None = None

    async def dial(self, address: str, protocol: object) -> None:
        if self.node is None:
            self.node = FakeNode(N1)
            self.node.on(Type.SUBMIT_TASK, lambda request: request.ack(len(request.fields[3])))
            self.node.on(Type.CANCEL_TASK, lambda request: request.nack("CONFLICT"))
        await FakeNetwork(self.node).dial(address, protocol)  # type: ignore[arg-type]  # any protocol


def public(kind: type) -> dict[str, inspect.Signature]:
    names = [name for name in dir(kind) if not name.startswith("_")]
    return {name: blocking(inspect.signature(getattr(kind, name))) for name in names}


def blocking(signature: inspect.Signature) -> inspect.Signature:
    """What iterates there iterates here as well, in the blocking way."""
    told = str(signature.return_annotation)
    return signature.replace(return_annotation=told.removeprefix("Async"))


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    assert public(SyncClient) == public(Client)
    assert inspect.signature(SyncClient) == inspect.signature(Client)


def test_a_call_blocks_until_its_answer() -> None:
    with SyncClient(N1, dial=LateNetwork().dial) as client:
        assert client.submit("echo", b"four").log_index == 4
        with pytest.raises(Conflict):
            client.cancel(client.submit("echo").task_id)


def test_all_pages_of_a_list_are_read_one_after_the_other() -> None:
    network = LateNetwork()
    ids = sorted(TaskId.new() for _ in range(2))

    def answer(request: FakeRequest) -> None:
        at = int("after" in request.fields[0])
        request.ack([a_status(ids[at])], b"" if at else ids[0].raw, 3)

    with SyncClient(N1, dial=network.dial) as client:
        assert network.node is not None
        network.node.on(Type.LIST_TASKS, answer)
        assert [one.task_id for one in client.tasks()] == ids
        assert client.list_tasks().after == ids[0].raw.hex()


def test_what_is_said_to_the_constructor_reaches_the_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: dict[str, Any] = {
        "namespace": "shop",
        "token": "s3cret",
        "ca": "ca.pem",
        "deadline": "3s",
        "name": "till",
        "in_flight_max": 5,
        "rng": random.Random(1),
        "dial": LateNetwork().dial,
    }
    heard: list[dict[str, Any]] = []
    monkeypatch.setattr("tq.sync.Client", lambda servers, **kwargs: heard.append(kwargs))
    SyncClient(N1, **said)
    assert heard == [said]
    assert set(said) == set(inspect.signature(Client).parameters) - {"servers"}


def test_many_threads_share_one_connection() -> None:
    network = LateNetwork()
    with SyncClient(N1, dial=network.dial) as client, ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda size: client.submit("echo", bytes(size)), range(100))
        assert [answer.log_index for answer in answers] == list(range(100))
    assert network.node is not None
    assert network.node.count(Type.HELLO) == 1


async def test_inside_a_running_loop_it_refuses_with_a_hint() -> None:
    client = SyncClient(N1, dial=LateNetwork().dial)
    with pytest.raises(ConfigError, match=r"use tq.Client and await its submit\(\)"):
        client.submit("echo")
    client.close()


def test_closing_ends_the_thread_and_may_be_repeated() -> None:
    before = set(threading.enumerate())
    client = SyncClient(N1, dial=LateNetwork().dial)
    client.connect()
    [thread] = set(threading.enumerate()) - before
    client.close()
    thread.join(timeout=10)
    assert not thread.is_alive()
    client.close()


def test_wrong_arguments_are_refused_where_they_are_written() -> None:
    with pytest.raises(ConfigError):
        SyncClient("n1:99999")
    shown = repr(SyncClient("127.0.0.1", token="s3cret"))
    assert shown == "SyncClient('127.0.0.1:7401', namespace='default')"
