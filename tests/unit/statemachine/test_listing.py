"""Pages of tasks: in order of id over all states, each task once, whatever happens between."""

from __future__ import annotations

import random
from typing import Any

import pytest

from statemachine import ChangeSettings, CommandType, Retire, TaskState, Wanted, listing
from statemachine.live_order import LiveOrder
from statemachine.task import Task
from tests.unit.statemachine.player import Player, task_id

ALL = list(TaskState)


@pytest.fixture
def player() -> Player:
    return Player()


def page(player: Player, **changes: Any) -> tuple[list[dict[str, Any]], bytes]:
    asked: dict[str, Any] = {
        "namespace": "default",
        "queue": None,
        "states": ALL,
        "after": b"",
        "limit": 1000,
    }
    wanted = Wanted(**(asked | changes))
    told, followed = (one.machine.list_tasks(wanted) for one in (player.leader, player.follower))
    assert told == followed
    return told


def ids(player: Player, **changes: Any) -> list[bytes]:
    """All pages together."""
    found: list[bytes] = []
    after = b""
    while True:
        tasks, cursor = page(player, after=after, **changes)
        found += [one["task_id"] for one in tasks]
        if not cursor:
            return found
        assert cursor > after
        after = cursor


def one_of_each(player: Player) -> dict[int, str]:
    """Tasks in all seven states whose ids have nothing to do with their order of arrival."""
    session = player.register()
    order = [7, 2, 9, 4, 12, 1, 5, 11, 3, 8, 10, 6, 13, 0]
    for place, number in enumerate(order):
        id_ = task_id(number)
        player.submit(id_, delay_ms=60_000 if place % 7 == 0 else 0)
        if place % 7 == 1:
            player.ask(CommandType.CANCEL_TASK, id_, "not needed")
        elif place % 7 == 2:
            player.settle(*player.claim_one(session), result=b"done")
        elif place % 7 == 3:
            player.settle(*player.claim_one(session), outcome=1, error="again")
        elif place % 7 == 4:
            player.settle(*player.claim_one(session), outcome=2, error="never")
        elif place % 7 == 5:
            player.claim_one(session)
        if place == 6:
            player.checkpoint()
    states = {number: str(player.state_of(task_id(number))) for number in order}
    assert set(states.values()) == set(ALL)
    return states


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
@pytest.mark.parametrize("when", ["changed", "recorded", "restarted"])
def test_tasks_of_all_states_come_in_order_of_id(player: Player, when: str, limit: int) -> None:
    states = one_of_each(player)
    if when == "recorded":
        player.checkpoint()
    elif when == "restarted":
        player.restart()
    assert ids(player, limit=limit) == [task_id(number) for number in sorted(states)]
    for state in ALL:
        wanted = [task_id(number) for number in sorted(states) if states[number] == state]
        assert ids(player, limit=limit, states=[state]) == wanted


def test_a_page_holds_no_more_than_its_limit_and_ends_where_there_is_nothing_more(
    player: Player,
) -> None:
    for number in range(5):
        player.submit(task_id(number))
    tasks, after = page(player, limit=3)
    assert ([one["task_id"] for one in tasks], after) == ([*map(task_id, range(3))], task_id(2))
    tasks, after = page(player, limit=2, after=after)
    assert ([one["task_id"] for one in tasks], after) == ([task_id(3), task_id(4)], b"")
    assert page(player, after=task_id(4)) == ([], b"")


def test_a_task_that_moves_between_two_pages_is_listed_once(player: Player) -> None:
    session = player.register()
    for number in range(6):
        player.submit(task_id(number))
    player.checkpoint()
    first, after = page(player, limit=3)
    held = [player.claim_one(session) for _ in range(6)]
    for id_, token in held[1:5]:  # some that were listed, some that were not
        player.settle(id_, token)
    player.checkpoint()
    player.settle(*held[5])
    second, after = page(player, limit=3, after=after)
    assert after == b""
    assert [one["task_id"] for one in first + second] == [*map(task_id, range(6))]
    assert [one["state"] for one in second] == ["completed"] * 3


def test_what_comes_while_a_list_is_read_is_in_it_if_it_lies_ahead(player: Player) -> None:
    for number in (2, 4, 6):
        player.submit(task_id(number))
    _, after = page(player, limit=2)
    for number in (9, 1, 5):
        player.submit(task_id(number))
    tasks, _ = page(player, after=after)
    assert [one["task_id"] for one in tasks] == [*map(task_id, (5, 6, 9))]
    assert ids(player) == [*map(task_id, (1, 2, 4, 5, 6, 9))]


def test_another_namespace_and_other_queues_are_not_shown(player: Player) -> None:
    for number in range(6):
        namespace = ("default", "team")[number % 2]
        fields = [task_id(number), "mq"[number % 3 == 0], "task", b"", {}]
        player.ask(CommandType.SUBMIT_TASK, *fields, namespace=namespace)
    player.checkpoint()
    assert ids(player, namespace="team") == [*map(task_id, (1, 3, 5))]
    assert ids(player, namespace="team", queue="q") == [task_id(3)]
    assert ids(player, queue="m") == [task_id(2), task_id(4)]
    assert page(player, namespace="nobody") == ([], b"")


def test_a_task_that_was_dropped_is_not_listed(player: Player) -> None:
    session = player.register()
    for number in range(3):
        player.submit(task_id(number))
        player.settle(*player.claim_one(session))
    player.checkpoint()
    player.internal(ChangeSettings((("retention_ms", 0),)))
    player.internal(Retire((task_id(1),)))
    assert ids(player) == [task_id(0), task_id(2)]
    player.checkpoint()
    assert ids(player) == [task_id(0), task_id(2)]


def test_a_summary_is_the_status_without_history_and_long_results(player: Player) -> None:
    session = player.register()
    for number, size in enumerate((0, 1024, 1025)):
        player.submit(task_id(number))
        player.settle(*player.claim_one(session), result=b"x" * size)
    for recorded in (False, True):
        if recorded:
            player.checkpoint()
        tasks, _ = page(player)
        assert [one.pop("result_bytes") for one in tasks] == [0, 1024, 1025]
        shown = [b"", b"x" * 1024, None]
        for one, result in zip(tasks, shown, strict=True):
            status = player.machine.status("default", one["task_id"])
            assert status is not None
            assert status.pop("history") is not None
            assert one == status | {"result": result}


def test_a_page_looks_at_a_bounded_number_of_tasks(player: Player) -> None:
    session = player.register()
    rows = [[task_id(number), "q", "task", b"", {}] for number in range(600)]
    player.submit_batch(rows)
    asked = {"queue": "other"}
    tasks, after = page(player, **asked)
    assert (tasks, after) == ([], task_id(listing.WORK_MAX - 1))
    assert page(player, after=after, **asked) == ([], b"")
    assert len(page(player)[0]) == listing.WORK_MAX

    for number in range(600):
        if number % 10 == 0:
            player.claim(session, count=10)
        player.settle(task_id(number), player_token(player, number))
    player.checkpoint()
    reads: list[int] = []
    archive, scan = player.leader.archive, player.leader.archive.scan
    archive.scan = lambda *where: reads.append(len(found := scan(*where))) or found  # type: ignore[method-assign,func-returns-value]
    records = listing.WORK_MAX // listing.RECORD_WORK
    assert page(player, **asked)[1] == task_id(records - 1)
    assert sum(reads) <= records + 200
    assert ids(player) == [*map(task_id, range(600))]


def player_token(player: Player, number: int) -> int:
    return player.machine._state.live[task_id(number)].token


def test_a_page_holds_no_more_text_than_fits(player: Player) -> None:
    session = player.register()
    for number in range(200):
        player.submit(task_id(number))
        id_, token = player.claim_one(session)
        player.settle(id_, token, outcome=2, result=b"r" * 1000, error="e" * 8000)
    tasks, after = page(player)
    assert 100 < len(tasks) < 130
    assert after == tasks[-1]["task_id"]
    assert ids(player) == [*map(task_id, range(200))]


def test_the_ids_of_tasks_that_have_ended_are_forgotten_and_no_others() -> None:
    tasks = [Task(task_id(number), None, number, 0, None) for number in range(5000)]  # type: ignore[arg-type]  # of no kind
    live = {task.task_id: task for task in tasks}
    order = LiveOrder()
    assert order.after(live, b"", 5000) == [*live]
    for task in tasks[:4000]:
        del live[task.task_id]
    live[task_id(9000)] = Task(task_id(9000), None, 9000, 0, None)  # type: ignore[arg-type]  # of no kind
    assert order.after(live, b"", 5000) == [*live]
    assert len(order._ids) == len(live) == 1001


class Questions(dict[bytes, Task]):
    """Live tasks that count how often they are asked for one."""

    asked = 0

    def __contains__(self, task_id: object) -> bool:
        self.asked += 1
        return super().__contains__(task_id)


def test_ids_of_tasks_that_have_ended_are_passed_once_however_often_a_list_begins() -> None:
    tasks = [Task(task_id(number), None, number, 0, None) for number in range(3000)]  # type: ignore[arg-type]  # of no kind
    live = Questions((task.task_id, task) for task in tasks)
    order = LiveOrder()
    assert order.after(live, b"", 1) == [task_id(0)]
    for number in (*range(1400), 1401):
        del live[task_id(number)]
    assert order.after(live, b"", 2) == [task_id(1400), task_id(1402)]
    live.asked = 0
    for after in (b"", task_id(700)):
        assert order.after(live, after, 2) == [task_id(1400), task_id(1402)]
    assert live.asked == 4
    assert order.after(live, task_id(1400), 5000) == [*live][1:]
    assert order.after(live, b"", 5000) == [*live]


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_a_list_is_what_the_tasks_say_one_by_one(seed: int) -> None:
    player, rng = Player(), random.Random(seed)
    session = player.register()
    known: list[bytes] = []
    held: list[tuple[bytes, int]] = []
    for step in range(400):
        what = rng.randrange(8)
        if what < 3:
            id_ = task_id(rng.randrange(10**6))
            player.submit(id_, rng.choice("qr"), delay_ms=rng.choice([0, 0, 1000]))
            known.append(id_)
        elif what < 5:
            reply = player.claim(session, ["q", "r"], 2)
            held += [(one.task_id, one.token) for one in reply.grants]  # type: ignore[union-attr]  # never refused
        elif what < 7 and held:
            player.settle(*held.pop(rng.randrange(len(held))), outcome=rng.randrange(3))
        elif known:
            player.ask(CommandType.CANCEL_TASK, rng.choice(known), "")
        player.now_ms += rng.choice([0, 0, 700])
        if rng.random() < 0.03:
            player.checkpoint()
        if rng.random() < 0.01:
            player.restart()
        if step % 20 == 0:
            states = rng.sample(ALL, rng.randrange(1, 8))
            wanted = [one for one in sorted(set(known)) if player.state_of(one) in states]
            assert ids(player, states=states, limit=rng.choice([1, 7, 1000])) == wanted
