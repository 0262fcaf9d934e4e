"""`tq-admin submit` when something is wrong, or its outcome unknown."""

from __future__ import annotations

import re

import tq
from tests.unit.tq.test_admin import TASK_ID, FakeClient, ended, run


def test_submit_takes_an_id_so_that_it_can_be_repeated() -> None:
    client = FakeClient()
    assert run(client, "submit", "x", "--id", str(TASK_ID)).exit_code == 0
    assert client.submitted[0]["task_id"] == TASK_ID
    assert run(client, "submit", "x", "--id", "no id").exit_code == 2


def test_a_submit_that_nobody_answered_names_the_id_to_repeat_it_with() -> None:
    client = FakeClient(errors={"submit": tq.UnknownOutcome("no answer")})
    result = run(client, "submit", "x")
    assert result.exit_code == 8
    [said] = re.findall(r"--id (\S+):", result.stderr)
    client.errors.clear()
    run(client, "submit", "x", "--id", said)
    assert client.submitted[0]["task_id"] == said


def test_a_timeout_that_is_none_is_refused_before_anything_is_sent() -> None:
    client = FakeClient(task=ended())
    assert run(client, "submit", "x", "--wait", "--timeout", "5x").exit_code == 2
    assert client.submitted == []
