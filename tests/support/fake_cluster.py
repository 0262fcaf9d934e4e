"""Three scripted nodes, a client of them, and what they say of a task."""

from __future__ import annotations

import random
from typing import Any

from tests.support.fake_server import FakeNetwork, FakeNode
from tq.client import Client
from tq.ids import TaskId

N1, N2, N3 = "n1:7401", "n2:7401", "n3:7401"


def a_cluster(leader: str = N1) -> tuple[FakeNetwork, FakeNode, FakeNode, FakeNode]:
    nodes = tuple(FakeNode(address, leader=leader) for address in (N1, N2, N3))
    return FakeNetwork(*nodes), nodes[0], nodes[1], nodes[2]


def a_client(network: FakeNetwork, **changes: Any) -> Client:
    servers = changes.pop("servers", list(network.nodes))
    return Client(servers, dial=network.dial, rng=random.Random(7), **changes)


def a_status(task_id: TaskId, state: str = "completed", **changes: object) -> dict[str, object]:
    status: dict[str, object] = {
        "task_id": task_id.raw,
        "queue": "default",
        "name": "echo",
        "namespace": "default",
        "state": state,
        "priority": 100,
        "attempt": 1,
        "failures": 0,
        "lost": 0,
        "created_at_ms": 1,
    }
    return status | changes
