from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tq.errors import BadRequest, ConfigError
from tq.ids import TaskId
from tq.new_task import NewTask, Retry, cut
from tq.protocol import PAYLOAD_MAX_BYTES, Type, encode


def a_task(size_bytes: int) -> list[object]:
    return [bytes(16), "q" * 128, "n" * 128, bytes(size_bytes), {}]


@given(st.lists(st.integers(0, 700_000) | st.integers(0, 3000), max_size=60), st.integers(1, 20))
def test_batches_hold_every_task_once_in_order_and_keep_their_limits(
    sizes: list[int], tasks_max: int
) -> None:
    tasks = [a_task(size) for size in sizes]
    batches = cut(tasks, tasks_max=tasks_max)
    assert [position for batch in batches for position in batch] == list(range(len(sizes)))
    for batch in batches:
        assert 1 <= len(batch) <= tasks_max
        if len(batch) > 1:
            frame = encode(Type.SUBMIT_BATCH, [1, [tasks[i] for i in batch]])
            assert len(frame) <= 1024 * 1024


def test_a_batch_is_as_full_as_it_may_be() -> None:
    assert cut([a_task(0)] * 5, tasks_max=2) == [range(2), range(2, 4), range(4, 5)]
    assert cut([a_task(500_000)] * 4, tasks_max=1000) == [range(2), range(2, 4)]


@pytest.mark.parametrize(
    "values", [{"max": -1}, {"lost": -1}, {"base": "soon"}, {"cap": -1}], ids=str
)
def test_a_retry_policy_out_of_range_is_refused_where_it_is_written(values: Any) -> None:
    with pytest.raises(ConfigError):
        Retry(**values)


def test_a_payload_is_bytes_and_not_too_large() -> None:
    largest = NewTask(name="t", payload=bytes(PAYLOAD_MAX_BYTES))
    assert largest.fields(TaskId.new())[3] == largest.payload
    with pytest.raises(BadRequest, match=str(PAYLOAD_MAX_BYTES)):
        NewTask(name="t", payload=bytes(PAYLOAD_MAX_BYTES + 1)).fields(TaskId.new())
    text: Any = "text"
    with pytest.raises(ConfigError, match="bytes"):
        NewTask(name="t", payload=text).fields(TaskId.new())
