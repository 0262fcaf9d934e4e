"""Stale reads of real nodes: a minority answers them, and nothing that must be current."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from deploy.local.cluster import LocalCluster
from tests.process.conftest import Connect
from tests.process.raw_client import (
    ACK,
    QUERY_STATUS,
    REDIRECT,
    SUBMIT_TASK,
    RawClient,
    new_task_id,
)

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

STALE = {"consistency": "stale"}


def test_a_leader_that_lost_its_majority_answers_stale_reads_and_no_others(
    cluster: LocalCluster, connect: Connect
) -> None:
    leader = cluster.wait_leader()
    client = connect(leader.client_address)
    task_id = new_task_id()
    _, [index] = client.request(SUBMIT_TASK, task_id, "q", "work", b"", {})
    for node in cluster.nodes.values():
        if node is not leader:
            node.kill()

    def deposed() -> bool | None:
        status = leader.status()
        return None if status is None or status["role"] == "leader" else True

    cluster.wait_for(deposed, what="leader that steps down")

    kind, [status, applied_index] = client.request(QUERY_STATUS, task_id, STALE)
    assert (kind, status["state"]) == (ACK, "pending")
    assert applied_index >= index
    kind, [named, _] = client.request(QUERY_STATUS, task_id)
    assert (kind, named) == (REDIRECT, "")


def test_every_node_answers_a_stale_read_that_includes_a_submit_once_it_has_it(
    cluster: LocalCluster, connect: Connect
) -> None:
    leader = cluster.wait_leader()
    task_id = new_task_id()
    _, [index] = connect(leader.client_address).request(SUBMIT_TASK, task_id, "q", "work", b"", {})

    def answered(client: RawClient) -> list[Any] | None:
        kind, answer = client.request(QUERY_STATUS, task_id, STALE | {"at_least": index})
        assert kind == ACK or answer[0] == "BEHIND", answer
        return answer if kind == ACK else None

    for node in cluster.nodes.values():
        ask = partial(answered, connect(node.client_address))
        [status, applied_index] = cluster.wait_for(ask, what="node that has caught up")
        assert (status["state"], applied_index >= index) == ("pending", True)
