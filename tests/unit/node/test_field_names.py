"""A refusal names the wrong field by the word docs/protocol.md has for it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.unit.node.world import World
from tq.protocol import Type

DOCUMENT = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text(encoding="utf-8")

ID = b"\x01" * 6 + b"\x70\x00\x80" + b"\x01" * 7
TASK = [ID, "q", "n", b"", {}]

REQUESTS: dict[Type, dict[str, Any]] = {
    Type.HELLO: {"protocol_version": 1, "client_name": "c", "options": {}},
    Type.REGISTER_WORKER: {
        "worker_id": bytes(16),
        "name": "w",
        "queues": ["q"],
        "capabilities": {},
    },
    Type.DEREGISTER_WORKER: {"session": 5},
    Type.HEARTBEAT: {"session": 5, "tokens": [], "stats": {}},
    Type.SUBMIT_TASK: dict(
        zip(("task_id", "queue", "name", "payload", "options"), TASK, strict=True)
    ),
    Type.SUBMIT_BATCH: {"tasks": [TASK]},
    Type.CLAIM_TASK: {"session": 5, "queues": ["q"], "count": 1, "wait_ms": 0},
    Type.TASK_RESULT: {"task_id": ID, "token": 5, "outcome": 0, "result": b"", "error": ""},
    Type.EXTEND: {"task_id": ID, "token": 5, "lease_ms": 1000},
    Type.PROGRESS: {"task_id": ID, "token": 5, "permille": 0, "note": ""},
    Type.RELEASE: {"task_id": ID, "token": 5},
    Type.CANCEL_TASK: {"task_id": ID, "reason": ""},
    Type.QUERY_STATUS: {"task_id": ID},
    Type.WAIT_RESULT: {"task_id": ID, "wait_ms": 0},
    Type.LIST_TASKS: {"options": {}},
    Type.LOG_HASHES: {"from_index": 1, "limit": 1000},
    Type.CHANGE_MEMBERS: {"verb": "add", "node_id": 4, "address": "127.0.0.1:7430"},
}
"""Each request that has fields, by name, in order, and right."""

NO_FIELD: list[Any] = [None, [["?"]]]
"""Of the wrong type for every field."""

WRONG_INSIDE: dict[str, list[Any]] = {
    "queues": [["q q"], [[]]],
    "capabilities": [{"gpu": 1}, {"gpu": "x" * 257}],
    "options": [{"colour": 1}, {"priority": 256, "namespace": "a b"}],
    "stats": [{"a": []}],
    "tokens": [[-1]],
    "from_index": [-1, 2**63],
    "limit": [0, 1001, True],
    "verb": ["replace"],
    "node_id": [0, 65_536, True],
    "address": ["", "127.0.0.1", "127.0.0.1:0", "a b:1"],
}
"""Values that are right on the whole."""


def cases() -> list[Any]:
    return [
        pytest.param(type_, name, value, id=f"{type_.name}-{name}-{number}")
        for type_, fields in REQUESTS.items()
        for name in fields
        for number, value in enumerate(NO_FIELD + WRONG_INSIDE.get(name, []))
    ]


@pytest.mark.parametrize(("type_", "name", "value"), cases())
def test_the_refusal_begins_with_the_field_s_name(type_: Type, name: str, value: object) -> None:
    client = World().client()
    client.session.accepted = type_ != Type.HELLO
    fields = [value if name == key else right for key, right in REQUESTS[type_].items()]

    code, text, _ = client.nack(type_, *fields)

    assert code in {"BAD_REQUEST", "TOO_LARGE"}, text
    # The tasks of a batch are told apart by number, and their fields named below.
    named = "task 0 of the batch" if name == "tasks" and value is not None else name
    assert re.match(rf"{named}(:| must| is)", text), text


@pytest.mark.parametrize("place", range(5))
def test_a_wrong_field_in_a_batch_is_named_behind_the_task_s_number(place: int) -> None:
    name = list(REQUESTS[Type.SUBMIT_TASK])[place]
    task = [*TASK[:place], [[]], *TASK[place + 1 :]]

    code, text, _ = World().client().nack(Type.SUBMIT_BATCH, [TASK, task])

    assert code == "BAD_REQUEST"
    assert re.match(rf"task 1 of the batch: {name}(:| must| is)", text), text


@pytest.mark.parametrize("type_", REQUESTS, ids=lambda type_: type_.name)
def test_the_names_are_those_of_the_document(type_: Type) -> None:
    section = DOCUMENT.split(f"\n### {type_.name} 0x")[1].split("\n### ")[0]
    for name in REQUESTS[type_]:
        assert re.search(rf"\| \d \| {name} \||`\[[^`]*\b{name}\b[^`]*\]`", section), name


def test_every_request_with_fields_is_tried_here() -> None:
    bare = {Type.GET_STATS, Type.LIST_WORKERS, Type.NODE_STATUS, Type.DIGEST}
    assert {one for one in Type if one < 0x80} == set(REQUESTS) | bare
