"""Where keys go: the same for everybody, evenly, and as few as can be when shards change."""

from __future__ import annotations

from collections import Counter
from itertools import count

import pytest

from tq.errors import ConfigError
from tq.ids import TaskId
from tq.placement import Placement

KEYS = [f"queue-{number}" for number in range(10_000)]


def test_placement_is_part_of_the_interface_and_never_changes() -> None:
    # Programs of different versions, and languages, must agree: these values are for good.
    placement = Placement(["a", "b", "c"])
    placed = {key: placement.place(key) for key in ("default", "mail", "thumbnails", "customer:2")}
    assert placed == {"default": "b", "mail": "b", "thumbnails": "a", "customer:2": "c"}
    assert [placement.new_id(name).raw[-2:].hex() for name in "abc"] == ["93fa", "b49e", "3d59"]
    assert placement.place("grüße") == "b"


def test_the_order_of_the_shards_does_not_matter() -> None:
    one, other = Placement(["a", "b", "c"]), Placement(["c", "a", "b"])
    assert [one.place(key) for key in KEYS] == [other.place(key) for key in KEYS]


@pytest.mark.parametrize("shards", [2, 4, 8])
def test_every_shard_gets_its_share(shards: int) -> None:
    placement = Placement([f"s{number}" for number in range(shards)])
    counts = Counter(map(placement.place, KEYS))
    share = len(KEYS) / shards
    assert len(counts) == shards
    assert all(0.9 * share < got < 1.1 * share for got in counts.values()), counts


@pytest.mark.parametrize("shards", [1, 2, 4, 8])
def test_a_new_shard_takes_one_in_n_of_the_queues_and_nothing_else_moves(shards: int) -> None:
    names = [f"s{number}" for number in range(shards)]
    before, after = Placement(names), Placement([*names, "new"])
    moved = [key for key in KEYS if before.place(key) != after.place(key)]
    assert {after.place(key) for key in moved} == {"new"}
    assert len(moved) / len(KEYS) == pytest.approx(1 / (shards + 1), rel=0.05)


def test_a_shard_that_is_gone_or_drains_gives_away_its_own_queues_only() -> None:
    before, without = Placement(["a", "b", "c"]), Placement(["a", "b"])
    draining = Placement(["a", "b", "c"], draining=["c"])
    for key in KEYS:
        assert without.place(key) == draining.place(key) != "c"
        assert before.place(key) in (without.place(key), "c")


def test_namespaces_place_the_same_queue_independently() -> None:
    names = [f"tenant-{number}" for number in range(100)]
    places = {Placement(["a", "b", "c"], namespace=name).place("default") for name in names}
    assert places == {"a", "b", "c"}


def test_an_id_made_here_is_a_good_task_id_and_hints_at_its_shard() -> None:
    placement = Placement(["a", "b", "c"])
    task_id = placement.new_id("b")
    assert TaskId(str(task_id)).raw == task_id.raw
    assert abs(task_id.created_at_ms - TaskId.new().created_at_ms) < 10_000
    assert placement.hinted(task_id) == ["b"]
    assert placement.strays(task_id, "b") == []
    assert placement.strays(task_id, "c") == ["b"]
    assert len({placement.new_id("b") for _ in range(1000)}) == 1000


def test_any_other_id_hints_at_nothing_but_by_chance() -> None:
    placement = Placement(["a", "b", "c"])
    hints = sum(bool(placement.hinted(TaskId.new())) for _ in range(1000))
    assert hints < 10  # 3 in 65,536 are expected


def test_two_shards_with_the_same_two_bytes_are_both_hinted_at() -> None:
    seen: dict[bytes, str] = {}
    for number in count():
        name = f"s{number}"
        tail = Placement([name]).new_id(name).raw[-2:]
        if tail in seen:
            break
        seen[tail] = name
    twins = [seen[tail], name]
    placement = Placement([*twins, "other"])
    assert placement.hinted(placement.new_id(name)) == twins


@pytest.mark.parametrize(
    ("shards", "draining", "said"),
    [
        ([], [], "no shard takes tasks"),
        (["a"], ["a"], "no shard takes tasks"),
        (["a"], ["b"], "there is no shard 'b'"),
        (["a b"], [], "cannot name a shard"),
    ],
)
def test_what_makes_no_sense_is_refused(shards: list[str], draining: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Placement(shards, draining=draining)
