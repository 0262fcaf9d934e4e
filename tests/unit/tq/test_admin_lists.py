"""`tq-admin tasks list`: what it asks for and what it shows."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner, Result

import tq
from tests.support.fake_cluster import a_status
from tq.admin.cli import Settings, cli
from tq.listing import TaskPage
from tq.status import TaskStatus

IDS = [tq.TaskId(f"019a8f3c-77e1-7000-8000-00000000000{number}") for number in range(4)]


def a_task(task_id: tq.TaskId, state: str = "completed", **changes: object) -> TaskStatus:
    return TaskStatus.from_map(a_status(task_id, state, **changes))


class Pages:
    """A client that gives pages of a script."""

    def __init__(self, *pages: TaskPage) -> None:
        self.pages = list(pages)
        self.asked: list[dict[str, Any]] = []

    async def list_tasks(self, **options: Any) -> TaskPage:
        self.asked.append(options)
        return self.pages.pop(0)

    async def close(self) -> None:
        """Nothing to close."""


def run(client: Pages, *arguments: str) -> Result:
    settings = Settings(make_client=lambda _: client)
    return CliRunner().invoke(cli, ["tasks", "list", *arguments], obj=settings)


def test_pages_are_joined_until_there_are_enough() -> None:
    client = Pages(
        TaskPage([a_task(IDS[0])], "aa", 9),
        TaskPage([], "bb", 9),
        TaskPage([a_task(IDS[1], "dead_letter", error="no\nmore", worker="w")], "cc", 9),
    )
    result = run(client, "--limit", "2", "--queue", "mail", "--state", "failed", "--stale")
    assert result.exit_code == 0
    header, first, second = result.stdout.splitlines()
    assert header.split() == [
        "TASK",
        "STATE",
        "QUEUE",
        "NAME",
        "PRIORITY",
        "ATTEMPT",
        "WORKER",
        "ERROR",
    ]
    assert first.split() == [str(IDS[0]), "completed", "default", "echo", "100", "1", "-", "-"]
    assert second.split() == [str(IDS[1]), "dead_letter", "default", "echo", "100", "1", "w", "no"]
    assert result.stderr == "there may be more: --after cc\n"
    asked = {"queue": "mail", "states": ("failed",), "consistency": "stale"}
    assert client.asked == [
        asked | {"after": None, "limit": 2},
        asked | {"after": "aa", "limit": 1},
        asked | {"after": "bb", "limit": 1},
    ]


def test_a_list_for_programs_says_where_it_goes_on() -> None:
    page = TaskPage([a_task(IDS[0], result=b"5", result_bytes=1)], None, 9)
    document = json.loads(run(Pages(page), "-o", "json").stdout)
    assert (document["schema"], document["after"]) == (1, None)
    [task] = document["tasks"]
    assert (task["task_id"], task["result"], task["result_bytes"]) == (str(IDS[0]), 5, 1)


def test_a_list_asks_for_no_more_than_a_page_may_hold() -> None:
    client = Pages(TaskPage([], None, 9))
    run(client, "--limit", "5000", "--after", str(IDS[2]))
    assert [(one["limit"], one["after"]) for one in client.asked] == [(1000, str(IDS[2]))]
