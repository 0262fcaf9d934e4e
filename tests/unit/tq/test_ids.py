from __future__ import annotations

import copy
import time
import uuid

import pytest

from tq.errors import ConfigError
from tq.ids import TaskId


def test_a_new_id_is_a_uuid_of_version_7_made_now() -> None:
    before_ms = time.time_ns() // 1_000_000
    task_id = TaskId.new()
    after_ms = time.time_ns() // 1_000_000
    assert uuid.UUID(task_id).version == 7
    assert uuid.UUID(task_id).variant == uuid.RFC_4122
    assert before_ms <= task_id.created_at_ms <= after_ms
    assert task_id.created_at_ms == int.from_bytes(task_id.raw[:6], "big")


def test_new_ids_are_all_different_and_sort_by_age() -> None:
    ids = [TaskId.new() for _ in range(10_000)]
    assert len(set(ids)) == len(ids)
    assert [i.created_at_ms for i in ids] == sorted(i.created_at_ms for i in ids)


def test_text_and_bytes_are_the_same_id() -> None:
    task_id = TaskId.new()
    forms = [
        TaskId.from_bytes(task_id.raw),
        TaskId(str(task_id)),
        TaskId(task_id.replace("-", "")),
        TaskId(task_id.upper()),
        TaskId(f"{{{task_id}}}"),
        TaskId(task_id),
        copy.deepcopy(task_id),
    ]
    for form in forms:
        assert (form, form.raw) == (task_id, task_id.raw)
    assert {task_id: 1}[forms[0]] == 1


@pytest.mark.parametrize(
    "text", ["", "no id", "32c06f49-35e0-400c-ada3-f9840501dc8c", "01", None, 7]
)
def test_what_is_no_uuid_of_version_7_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="no task id"):
        TaskId(text)


@pytest.mark.parametrize("size", [0, 15, 17])
def test_an_id_has_16_bytes(size: int) -> None:
    with pytest.raises(ValueError, match="16"):
        TaskId.from_bytes(bytes(size))


def test_other_last_bytes_leave_a_good_id_of_the_same_time() -> None:
    task_id = TaskId.new()
    other = task_id.ending_in(b"\x12\xab")
    assert TaskId(str(other)).raw == other.raw == task_id.raw[:-2] + b"\x12\xab"
    assert other.endswith("12ab")
    assert other.created_at_ms == task_id.created_at_ms
