"""The protocol as a stranger meets it: a raw socket and docs/protocol.md."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from deploy.local.cluster import LocalCluster
from tests.process.conftest import Connect
from tests.process.raw_client import (
    ACK,
    CLAIM_TASK,
    NACK,
    QUERY_STATUS,
    REDIRECT,
    REGISTER_WORKER,
    SUBMIT_TASK,
    TASK_RESULT,
    new_task_id,
)

pytestmark = pytest.mark.process


def test_a_stranger_submits_claims_and_completes(
    shared_cluster: LocalCluster, connect: Connect
) -> None:
    client = connect(shared_cluster.wait_leader().client_address)
    task_id = new_task_id()

    kind, accepted = client.request(SUBMIT_TASK, task_id, "mail", "send", b"hello", {})
    assert (ACK, True) == (kind, accepted[0] > 0)

    kind, (session, lease_ms) = client.request(REGISTER_WORKER, new_task_id(), "w", ["mail"], {})
    assert (ACK, 30_000) == (kind, lease_ms)

    kind, (grants,) = client.request(CLAIM_TASK, session, ["mail"], 10, 5_000)
    assert ACK == kind
    [[claimed_id, token, queue, name, payload, attempt, *_]] = grants
    assert (task_id, "mail", "send", b"hello", 1) == (claimed_id, queue, name, payload, attempt)

    assert (ACK, ["completed"]) == client.request(TASK_RESULT, task_id, token, 0, b"done", "")
    kind, (status,) = client.request(QUERY_STATUS, task_id)
    assert (ACK, "completed", b"done") == (kind, status["state"], status["result"])


def test_a_follower_redirects_a_submit_and_a_claim_to_the_leader(
    shared_cluster: LocalCluster,
    connect: Connect,
) -> None:
    leader = shared_cluster.wait_leader()
    follower = next(n for n in shared_cluster.nodes.values() if n.node_id != leader.node_id)
    session = connect(leader.client_address).request(
        REGISTER_WORKER, new_task_id(), "w", ["default"], {}
    )[1][0]

    client = connect(follower.client_address)

    requests: list[tuple[Any, ...]] = [
        (SUBMIT_TASK, new_task_id(), "default", "echo", b"", {}),
        (CLAIM_TASK, session, ["default"], 1, 0),
    ]
    for request in requests:
        kind, (address, term) = client.request(*request)
        assert (REDIRECT, leader.client_address) == (kind, address)
        assert term >= 1


def bad_frames() -> list[tuple[bytes, str]]:
    """Frames after a HELLO, and the code each of them deserves."""
    return [
        (struct.pack(">IB", 4, SUBMIT_TASK) + b"\xc1\xc1\xc1", "MALFORMED"),
        (struct.pack(">IB", 0xFFFF_FFFF, SUBMIT_TASK), "TOO_LARGE"),
        (struct.pack(">IB", 0, 0), "MALFORMED"),
    ]


def test_a_bad_frame_gets_one_clear_error_and_harms_nobody_else(
    shared_cluster: LocalCluster,
    connect: Connect,
) -> None:
    address = shared_cluster.wait_leader().client_address
    bystander = connect(address)

    for frame, code in bad_frames():
        client = connect(address)
        client.send(frame)
        kind, answer = client.receive()
        assert (NACK, code) == (kind, answer[1]), answer
        assert client.closed()

    request: tuple[Any, ...] = (SUBMIT_TASK, new_task_id(), "default", "echo", b"", {})
    assert ACK == bystander.request(*request)[0]


def test_a_request_of_an_unknown_type_is_refused_and_the_connection_lives(
    shared_cluster: LocalCluster,
    connect: Connect,
) -> None:
    client = connect(shared_cluster.wait_leader().client_address)

    kind, answer = client.request(0x3F)

    assert (NACK, "UNKNOWN_TYPE") == (kind, answer[0])
    assert ACK == client.request(SUBMIT_TASK, new_task_id(), "default", "echo", b"", {})[0]


@pytest.mark.parametrize(
    ("fields", "code", "word"),
    [
        ((b"short", "default", "echo", b"", {}), "BAD_REQUEST", "task_id"),
        ((new_task_id(), "default", "echo", b"", {"priority": 256}), "BAD_REQUEST", "priority"),
        ((new_task_id(), "default", "echo", b"", {"prioriti": 5}), "BAD_REQUEST", "prioriti"),
        ((new_task_id(), "no spaces!", "echo", b"", {}), "BAD_REQUEST", "queue"),
        ((new_task_id(), "default", "echo", b"x" * (10 * 2**20 + 1), {}), "TOO_LARGE", "payload"),
    ],
)
def test_a_bad_submit_is_refused_by_the_name_of_its_field(
    shared_cluster: LocalCluster, connect: Connect, fields: tuple[object, ...], code: str, word: str
) -> None:
    client = connect(shared_cluster.wait_leader().client_address)

    kind, answer = client.request(SUBMIT_TASK, *fields)

    assert (NACK, code) == (kind, answer[0]), answer
    assert word in answer[1]


@pytest.mark.parametrize("count", [0, 1_000_000])
def test_a_claim_for_an_absurd_count_is_refused(
    shared_cluster: LocalCluster, connect: Connect, count: int
) -> None:
    client = connect(shared_cluster.wait_leader().client_address)
    session = client.request(REGISTER_WORKER, new_task_id(), "w", ["default"], {})[1][0]

    kind, answer = client.request(CLAIM_TASK, session, ["default"], count, 0)

    assert (NACK, "BAD_REQUEST") == (kind, answer[0])
    assert "count" in answer[1]


def test_a_duplicate_submit_with_other_content_is_a_conflict(
    shared_cluster: LocalCluster, connect: Connect
) -> None:
    client = connect(shared_cluster.wait_leader().client_address)
    task_id = new_task_id()
    first = client.request(SUBMIT_TASK, task_id, "default", "echo", b"one", {})

    assert first == client.request(SUBMIT_TASK, task_id, "default", "echo", b"one", {})
    kind, answer = client.request(SUBMIT_TASK, task_id, "default", "echo", b"two", {})
    assert (NACK, "CONFLICT") == (kind, answer[0])


def test_a_token_of_another_attempt_is_refused(
    shared_cluster: LocalCluster, connect: Connect
) -> None:
    client = connect(shared_cluster.wait_leader().client_address)
    task_id = new_task_id()
    client.request(SUBMIT_TASK, task_id, "tokens", "echo", b"", {})
    session = client.request(REGISTER_WORKER, new_task_id(), "w", ["tokens"], {})[1][0]
    [grant] = client.request(CLAIM_TASK, session, ["tokens"], 1, 5_000)[1][0]

    kind, answer = client.request(TASK_RESULT, task_id, grant[1] - 1, 0, b"", "")

    assert (NACK, "LEASE_LOST") == (kind, answer[0])
    assert ACK == client.request(TASK_RESULT, task_id, grant[1], 0, b"", "")[0]
