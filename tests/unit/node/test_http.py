"""Health, status and metrics over HTTP, without a cluster."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web

from node import http
from node.addresses import Address
from node.http import HttpListener, Views


@dataclass
class Raft:
    leader_id: int | None = 1
    amnesiac: bool = False
    commit_index: int = 10
    leader_commit_index: int = 10
    applied_index: int = 10


@dataclass
class Node:
    """What the listener looks at, to be changed by a test."""

    tick_age_s: float = 0.01
    raft: Raft | None = field(default_factory=Raft)
    is_stopping: bool = False
    document: Mapping[str, object] = field(default_factory=lambda: {"node_id": 1})
    accepted: list[str] = field(default_factory=list)
    url: str = ""

    def seen(self) -> Raft | None:
        return self.raft

    def metrics(self, accept: str) -> tuple[bytes, str]:
        self.accepted.append(accept)
        return b"tq_x 1\n", "text/plain; version=0.0.4; charset=utf-8"

    def views(self) -> Views:
        return Views(
            tick_age_s=lambda: self.tick_age_s,
            raft=self.seen,
            is_stopping=lambda: self.is_stopping,
            status=lambda: self.document,
            metrics=self.metrics,
        )


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    found = Node()
    listener = HttpListener(found.views())
    address = await listener.start(Address("127.0.0.1", 0))
    found.url = f"http://{address}"
    yield found
    await listener.stop()


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


Client = aiohttp.ClientSession


async def test_a_node_that_ticks_is_alive(node: Node, client: Client) -> None:
    async with client.get(f"{node.url}/livez") as answer:
        assert (200, "ok\n") == (answer.status, await answer.text())
        assert answer.headers["Cache-Control"] == "no-store"


async def test_a_node_whose_engine_is_stuck_is_not_alive(node: Node, client: Client) -> None:
    node.tick_age_s = 2.1
    async with client.get(f"{node.url}/livez") as answer:
        assert (503, "[-]raft has not ticked for 2.1 s\n") == (answer.status, await answer.text())


async def test_being_alive_does_not_depend_on_a_leader(node: Node, client: Client) -> None:
    node.raft = Raft(leader_id=None)
    async with client.get(f"{node.url}/livez?verbose") as answer:
        assert (200, "[+]loop ok\n[+]raft ok\n") == (answer.status, await answer.text())


async def test_a_node_with_a_leader_that_caught_up_is_ready(node: Node, client: Client) -> None:
    async with client.get(f"{node.url}/readyz?verbose") as answer:
        assert answer.status == 200
        assert await answer.text() == "[+]serving ok\n[+]leader ok\n[+]memory ok\n[+]applied ok\n"


@pytest.mark.parametrize(
    ("raft", "is_stopping", "said"),
    [
        (Raft(leader_id=None), False, "[-]leader no leader known\n"),
        (None, False, "[-]leader still starting\n[-]applied still starting\n"),
        (Raft(), True, "[-]serving shutting down\n"),
        (Raft(applied_index=7), False, "[-]applied executed 7 of 10 entries\n"),
        (
            Raft(amnesiac=True),
            False,
            "[-]memory its disk was lost; a leader fills it again\n",
        ),
    ],
)
async def test_a_node_that_is_not_ready_says_why(
    node: Node,
    client: Client,
    raft: Raft | None,
    said: str,
    *,
    is_stopping: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "_CATCH_UP_POLL_S", 0)
    node.raft, node.is_stopping = raft, is_stopping
    async with client.get(f"{node.url}/readyz") as answer:
        assert (503, said) == (answer.status, await answer.text())


async def test_ready_means_caught_up_with_where_the_check_began(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "_CATCH_UP_POLL_S", 0)
    # The log grows faster than it is applied: the newest entry is never reached.
    states = iter(
        Raft(leader_commit_index=100 + 20 * i, applied_index=90 + 5 * i) for i in range(10)
    )
    node = Node()
    views = Views(
        tick_age_s=lambda: 0.0,
        raft=lambda: next(states),
        is_stopping=lambda: False,
        status=dict,
        metrics=node.metrics,
    )

    checks = await http.readiness(views)

    assert ["", "", "", ""] == [check.flaw for check in checks]


async def test_catching_up_is_waited_for_with_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_CATCH_UP_POLL_S", 0)
    node = Node(raft=Raft(applied_index=3))

    checks = await http.readiness(node.views())

    assert "executed 3 of 10 entries" == checks[-1].flaw


async def test_a_restarted_node_waits_for_what_its_leader_has_committed(
    node: Node, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "_CATCH_UP_POLL_S", 0)
    # It stands at its last snapshot, and that is all it knows to be committed.
    node.raft = Raft(commit_index=4, applied_index=4, leader_commit_index=9)
    async with client.get(f"{node.url}/readyz") as answer:
        assert (503, "[-]applied executed 4 of 9 entries\n") == (
            answer.status,
            await answer.text(),
        )


async def test_status_is_the_document_as_json(node: Node, client: Client) -> None:
    node.document = {"node_id": 1, "digest": b"\x01\xff", "raft": Raft(), "voters": {2, 1}}
    async with client.get(f"{node.url}/status") as answer:
        assert answer.content_type == "application/json"
        assert {
            "node_id": 1,
            "digest": "01ff",
            "raft": {
                "leader_id": 1,
                "amnesiac": False,
                "commit_index": 10,
                "leader_commit_index": 10,
                "applied_index": 10,
            },
            "voters": [1, 2],
        } == await answer.json()


async def test_metrics_are_given_in_the_form_asked_for(node: Node, client: Client) -> None:
    async with client.get(f"{node.url}/metrics", headers={"Accept": "x/y"}) as answer:
        assert b"tq_x 1\n" == await answer.read()
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert ["x/y"] == node.accepted


async def test_an_unknown_path_is_a_problem_document(node: Node, client: Client) -> None:
    async with client.get(f"{node.url}/nope") as answer:
        assert (404, "application/problem+json") == (answer.status, answer.content_type)
        assert {
            "type": "about:blank",
            "title": "Not Found",
            "status": 404,
            "detail": "This node serves /livez, /readyz, /status and /metrics.",
        } == await answer.json()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_only_reading_is_allowed(node: Node, client: Client, method: str) -> None:
    async with client.request(method, f"{node.url}/status") as answer:
        assert (405, "application/problem+json") == (answer.status, answer.content_type)
        assert answer.headers["Allow"] == "GET,HEAD"
        assert (await answer.json())["title"] == "Method Not Allowed"


async def test_head_works_like_get(node: Node, client: Client) -> None:
    async with client.head(f"{node.url}/readyz") as answer:
        assert answer.status == 200


async def test_a_port_in_use_is_an_error_and_nothing_stays_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cleaned: list[web.AppRunner] = []

    class Runner(web.AppRunner):
        async def cleanup(self) -> None:
            cleaned.append(self)
            await super().cleanup()

    monkeypatch.setattr(web, "AppRunner", Runner)
    with socket.create_server(("127.0.0.1", 0)) as other:
        listener = HttpListener(Node().views())
        with pytest.raises(OSError, match="in use"):
            await listener.start(Address("127.0.0.1", other.getsockname()[1]))

    assert 1 == len(cleaned)


async def test_a_stopped_listener_is_gone() -> None:
    listener = HttpListener(Node().views())
    address = await listener.start(Address("127.0.0.1", 0))
    await listener.stop()
    await listener.stop()

    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(f"http://{address}/livez")
