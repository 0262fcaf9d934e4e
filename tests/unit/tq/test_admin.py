"""`tq-admin`: what it prints, where, and with which exit code."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

import tq
from tq.admin.cli import Settings, cli
from tq.admin.output import span, table
from tq.admin.verdict import Answer, Verdict, judge
from tq.ids import TaskId
from tq.status import Event, TaskStatus

TASK_ID = TaskId("019a8f3c-77e1-7000-8000-000000000001")
NODES = {1: "n1:7401", 2: "n2:7401", 3: "n3:7401"}


def node(node_id: int, **changes: Any) -> dict[str, Any]:
    """Return what a healthy node of a cluster of three says of itself."""
    return {
        "node_id": node_id,
        "cluster_id": "ab12",
        "role": "leader" if node_id == 1 else "follower",
        "term": 8,
        "leader_id": 1,
        "commit_index": 48_211,
        "applied_index": 48_211 - (node_id == 2),
        "peers": [
            {
                "node_id": other,
                "client_address": address,
                "http_address": f"n{other}:7402",
                "connected": True,
            }
            for other, address in NODES.items()
            if other != node_id
        ],
    } | changes


@dataclass
class FakeClient:
    """Answers from a script.

    Attributes:
        nodes: Address to what the node there says; a missing one refuses connections.
        silent: Addresses that never answer.
        errors: Verb to the error it raises.
    """

    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    errors: dict[str, tq.TqError] = field(default_factory=dict)
    task: TaskStatus | None = None
    submitted: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    asking: int = 0
    asking_max: int = 0
    closed: bool = False

    async def node_status(self, address: str, *, deadline: object = "1s") -> dict[str, Any]:
        self.asked.append(address)
        self.asking += 1
        self.asking_max = max(self.asking_max, self.asking)
        try:
            await asyncio.sleep(0)
            if address in self.silent:
                await asyncio.Event().wait()
            if address not in self.nodes:
                raise tq.Unavailable("connection refused")
            return self.nodes[address]
        finally:
            self.asking -= 1

    async def submit(self, name: str, payload: bytes = b"", **options: Any) -> tq.Submitted:
        self._raise("submit")
        self.submitted.append({"name": name, "payload": payload, **options})
        return tq.Submitted(TASK_ID, 17)

    async def status(self, task_id: str, *, consistency: str = "linearizable") -> TaskStatus:
        self._raise("status")
        assert self.task is not None
        if consistency == "stale":
            return replace(self.task, applied_index=17)
        return self.task

    async def wait(self, task_id: str, **options: object) -> TaskStatus:
        self._raise("wait")
        assert self.task is not None
        return self.task

    async def stats(self) -> dict[str, Any]:
        self._raise("stats")
        queue = {"namespace": "default", "queue": "mail", "depth": 5, "ready": 4, "in_progress": 1}
        tiers = {"scheduled": 1, "failed": 0, "high": 0, "normal": 5, "low": 0}
        return {
            "states": {"pending": 4, "completed": 9},
            "queues": [queue | tiers],
            "totals": {"submitted": 14},
            "workers": 2,
        }

    async def workers(self) -> list[dict[str, Any]]:
        self._raise("workers")
        return []

    async def close(self) -> None:
        self.closed = True

    def _raise(self, verb: str) -> None:
        if verb in self.errors:
            raise self.errors[verb]


def run(client: FakeClient, *arguments: str, servers: str = "n1:7401,n2:7401,n3:7401") -> Result:
    settings = Settings(make_client=lambda _: client)
    result = CliRunner().invoke(
        cli, ["--servers", servers, *arguments], obj=settings, catch_exceptions=False
    )
    assert client.closed or result.exit_code == 2
    return result


def healthy(**changes: dict[str, Any]) -> FakeClient:
    return FakeClient(nodes={address: node(node_id) for node_id, address in NODES.items()})


def cluster(client: FakeClient, **options: Any) -> tuple[int, dict[str, Any]]:
    result = run(client, "-o", "json", "cluster", "status", **options)
    return result.exit_code, json.loads(result.stdout)


# ----------------------------------------------------------------------- cluster status


def test_a_healthy_cluster_is_a_table_and_exit_code_0() -> None:
    result = run(healthy(), "cluster", "status")

    head, why, *rows = result.stdout.splitlines()
    assert 0 == result.exit_code
    assert "cluster ab12  HEALTHY  3/3 up, can lose 1; leader 1, term 8" == head
    assert why.startswith("all 3 members answered and agree; observed from ")
    assert [
        "NODE  ROLE      STATE    TERM  COMMIT  APPLIED  LAG  CLIENT   HTTP",
        "   1  leader    healthy     8   48211    48211    0  n1:7401  n1:7402",
        "   2  follower  healthy     8   48211    48210    1  n2:7401  n2:7402",
        "   3  follower  healthy     8   48211    48211    0  n3:7401  n3:7402",
    ] == rows


def test_a_dead_member_keeps_its_row_with_the_reason_and_the_verdict_is_degraded() -> None:
    client = healthy()
    del client.nodes["n3:7401"]
    code, report = cluster(client)

    assert (6, "DEGRADED", 3, 2, 0) == (
        code,
        report["verdict"],
        report["members"],
        report["reachable"],
        report["can_lose"],
    )
    assert {
        "node_id": 3,
        "reachable": False,
        "role": None,
        "member": True,
        "voter": True,
        "state": "unreachable",
        "reason": "connection refused",
        "term": None,
        "commit_index": None,
        "applied_index": None,
        "lag": None,
        "client_address": "n3:7401",
        "http_address": "n3:7402",
    } == report["nodes"][2]


def test_members_that_nobody_listed_are_found_through_the_others() -> None:
    client = healthy()
    code, report = cluster(client, servers="n2:7401")
    assert (0, "HEALTHY", [1, 2, 3]) == (
        code,
        report["verdict"],
        [row["node_id"] for row in report["nodes"]],
    )
    assert sorted(NODES.values()) == sorted(client.asked)


def test_all_are_asked_at_once_and_a_silent_one_is_given_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tq.admin.cluster.NODE_DEADLINE_S", 0.01)
    client = healthy()
    client.silent = {"n2:7401", "n3:7401"}
    code, report = cluster(client)
    assert 3 == client.asking_max
    assert "no answer within 0.01 s" == report["nodes"][1]["reason"]
    assert (6, 3) == (code, len(report["nodes"]))


def test_without_a_leader_there_is_no_quorum() -> None:
    client = FakeClient(
        nodes={"n2:7401": node(2, role="candidate", leader_id=None, term=9, peers=node(2)["peers"])}
    )
    code, report = cluster(client)
    assert (7, "NO QUORUM", None, 9) == (
        code,
        report["verdict"],
        report["leader_id"],
        report["term"],
    )
    assert ["unreachable", "no leader", "unreachable"] == [r["state"] for r in report["nodes"]]


def test_a_leader_that_reaches_nobody_has_no_quorum() -> None:
    alone = node(1)
    for peer in alone["peers"]:
        peer["connected"] = False
    code, report = cluster(FakeClient(nodes={"n1:7401": alone}))
    assert (7, "NO QUORUM") == (code, report["verdict"])
    assert "no majority" in report["reason"]


def test_a_leader_that_has_its_majority_is_believed_when_only_it_can_be_seen() -> None:
    code, report = cluster(FakeClient(nodes={"n1:7401": node(1)}))
    assert (6, "DEGRADED") == (code, report["verdict"])


@pytest.mark.parametrize("deposed", [1, 3])
def test_a_deposed_leader_is_not_taken_for_the_leader(deposed: int) -> None:
    client = healthy()
    for node_id, address in NODES.items():
        role = "leader" if node_id == 2 else "follower"
        client.nodes[address] |= {"role": role, "term": 9, "leader_id": 2}
    client.nodes[NODES[deposed]] |= {"role": "leader", "term": 8, "leader_id": deposed}
    code, report = cluster(client)
    assert (6, 2) == (code, report["leader_id"])
    assert "outdated" == report["nodes"][deposed - 1]["state"]


def test_a_member_far_behind_is_not_healthy() -> None:
    client = healthy()
    client.nodes["n3:7401"]["applied_index"] = 40_000
    code, report = cluster(client)
    assert (6, "lagging", 8_211) == (code, report["nodes"][2]["state"], report["nodes"][2]["lag"])


def test_when_nobody_answers_nothing_is_claimed() -> None:
    code, report = cluster(FakeClient())
    assert (1, "UNKNOWN", None) == (code, report["verdict"], report["cluster_id"])
    assert ["n1:7401", "n2:7401", "n3:7401"] == [r["client_address"] for r in report["nodes"]]


def test_a_single_node_is_healthy() -> None:
    client = FakeClient(nodes={"n1:7401": node(1, peers=[])})
    code, report = cluster(client, servers="n1:7401")
    assert (0, "HEALTHY", 0) == (code, report["verdict"], report["can_lose"])


def test_a_member_never_seen_is_joined_with_the_one_address_that_is_silent() -> None:
    client = healthy()
    del client.nodes["n3:7401"]
    for status in client.nodes.values():
        for peer in status["peers"]:
            if peer["node_id"] == 3:
                peer |= {"client_address": "", "connected": False}
    _, report = cluster(client)
    assert [(1, "n1:7401"), (2, "n2:7401"), (3, "n3:7401")] == [
        (row["node_id"], row["client_address"]) for row in report["nodes"]
    ]


def test_an_address_that_is_no_members_has_a_row_but_no_say() -> None:
    code, report = cluster(healthy(), servers="n1:7401,typo:7401")
    assert (0, 3) == (code, report["members"])
    assert (None, "typo:7401") == (
        report["nodes"][3]["node_id"],
        report["nodes"][3]["client_address"],
    )


def test_json_and_yaml_say_the_same() -> None:
    as_json = run(healthy(), "-o", "json", "cluster", "status").stdout
    as_yaml = run(healthy(), "-o", "yaml", "cluster", "status").stdout
    assert json.loads(as_json) == yaml.safe_load(as_yaml)


def test_the_form_may_be_asked_for_before_or_after_the_command() -> None:
    before = run(healthy(), "-o", "json", "cluster", "status").stdout
    after = run(healthy(), "cluster", "status", "-o", "json").stdout
    assert before == after
    assert "HEALTHY" == json.loads(after)["verdict"]


def test_the_keys_of_the_json_document_are_part_of_the_interface() -> None:
    _, report = cluster(healthy())
    assert 1 == report["schema"]
    assert [
        *("schema", "verdict", "reason", "observed_by", "cluster_id", "leader_id", "term"),
        *("members", "voters", "learners", "configuration_index"),
        *("reachable", "can_lose", "nodes"),
    ] == list(report)


# -------------------------------------------------------------------------------- tasks


def ended(state: str = "completed", **changes: Any) -> TaskStatus:
    facts: dict[str, Any] = {
        "task_id": TASK_ID,
        "queue": "mail",
        "name": "shop:charge",
        "namespace": "default",
        "state": state,
        "priority": 100,
        "attempt": 2,
        "failures": 1,
        "lost": 0,
        "created_at_ms": 1_700_000_000_000,
        "result": b'{"cents": 500}',
        "history": (Event(1_700_000_000_000, "submitted", ""),),
    }
    return TaskStatus(**(facts | changes))


def test_submit_prints_the_id_and_nothing_else() -> None:
    client = FakeClient()
    result = run(client, "submit", "shop:charge", '["acme", 500]', "--priority", "200")
    assert (0, f"{TASK_ID}\n", "") == (result.exit_code, result.stdout, result.stderr)
    [sent] = client.submitted
    assert (b'{"args":["acme",500],"kwargs":{}}', 200, "default") == (
        sent["payload"],
        sent["priority"],
        sent["queue"],
    )


@pytest.mark.parametrize(
    ("arguments", "payload"),
    [
        ([], b'{"args":[],"kwargs":{}}'),
        (['{"to": "a"}'], b'{"args":[],"kwargs":{"to":"a"}}'),
        (["3"], b'{"args":[3],"kwargs":{}}'),
    ],
)
def test_arguments_may_be_left_out_named_or_single(arguments: list[str], payload: bytes) -> None:
    client = FakeClient()
    run(client, "submit", "x", *arguments)
    assert payload == client.submitted[0]["payload"]


def test_submit_and_wait_prints_the_result_on_stdout_and_words_on_stderr() -> None:
    result = run(FakeClient(task=ended()), "submit", "x", "--wait")
    assert (0, '{"cents": 500}\n') == (result.exit_code, result.stdout)
    assert f"submitted {TASK_ID}, waiting\n" == result.stderr


def test_waiting_for_a_task_that_fails_is_exit_code_1_and_says_why() -> None:
    task = ended("dead_letter", error="ValueError: no", result=b"Traceback")
    result = run(FakeClient(task=task), "submit", "x", "--wait")
    assert 1 == result.exit_code
    assert "error: dead_letter: ValueError: no" in result.stderr


def test_a_stale_status_says_as_of_when() -> None:
    arguments = ("status", str(TASK_ID), "--stale")
    assert "entry 17" in run(FakeClient(task=ended()), *arguments).stdout
    document = json.loads(run(FakeClient(task=ended()), "-o", "json", *arguments).stdout)
    assert document["task"]["applied_index"] == 17
    assert "as of" not in run(FakeClient(task=ended()), "status", str(TASK_ID)).stdout


def test_status_shows_a_task_in_words_and_in_json() -> None:
    page = run(FakeClient(task=ended()), "status", str(TASK_ID)).stdout
    assert f"task      {TASK_ID}\nname      shop:charge\n" in page
    assert "attempt   2 (1 failed, 0 lost)" in page
    assert "2023-11-14T22:13:20.000+00:00" in page
    document = json.loads(
        run(FakeClient(task=ended()), "-o", "json", "status", str(TASK_ID)).stdout
    )
    assert {"cents": 500} == document["task"]["result"]
    assert [{"at_ms": 1_700_000_000_000, "event": "submitted", "detail": ""}] == document["task"][
        "history"
    ]


def test_a_result_that_is_no_json_is_shown_as_base64() -> None:
    client = FakeClient(task=ended(result=b"\xff\x00"))
    document = json.loads(run(client, "-o", "json", "status", str(TASK_ID)).stdout)
    assert {"base64": "/wA="} == document["task"]["result"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (tq.NotFound("NOT_FOUND", "no such task"), 3),
        (tq.Unauthenticated("UNAUTHENTICATED", "who?"), 4),
        (tq.Conflict("CONFLICT", "other content"), 5),
        (tq.ConfigError("no task id"), 2),
        (tq.Unavailable("no leader"), 7),
        (tq.UnknownOutcome("?"), 8),
        (tq.TaskTimeout("60 s"), 8),
        (tq.ProtocolError("?"), 1),
    ],
)
def test_each_error_has_its_exit_code_and_goes_to_stderr(error: tq.TqError, code: int) -> None:
    result = run(FakeClient(errors={"status": error}), "status", str(TASK_ID))
    assert (code, "", f"error: {error}\n") == (result.exit_code, result.stdout, result.stderr)


def test_arguments_that_are_no_json_are_a_usage_error() -> None:
    result = run(FakeClient(), "submit", "x", "[1,")
    assert 2 == result.exit_code
    assert "not JSON" in result.stderr


# ------------------------------------------------------------------- stats and workers


def test_stats_shows_states_queues_and_totals() -> None:
    assert [
        "PENDING  COMPLETED",
        "      4          9",
        "",
        "QUEUE  DEPTH  READY  IN_PROGRESS  SCHEDULED  FAILED  HIGH  NORMAL  LOW",
        "mail       5      4            1          1       0     0       5    0",
        "",
        "workers          2",
        "total submitted  14",
    ] == run(FakeClient(), "stats").stdout.splitlines()


def test_no_workers_is_an_empty_list_for_programs() -> None:
    document = json.loads(run(FakeClient(), "-o", "json", "workers").stdout)
    assert {"schema": 1, "workers": []} == document


# -------------------------------------------------------------------------------- forms


def test_a_table_never_cuts_and_puts_numbers_to_the_right() -> None:
    assert "ID    N\nabcd  1\ne     -" == table(("ID", "N"), [("abcd", 1), ("e", None)])
    assert "ID  N" == table(("ID", "N"), [])


@pytest.mark.parametrize(
    ("passed_ms", "said"),
    [(0, "0s ago"), (200_000, "3m 20s ago"), (-7_500_000, "in 2h 5m"), (90_061_000, "1d 1h ago")],
)
def test_a_span_of_time_is_said_in_two_units(passed_ms: int, said: str) -> None:
    assert said == span(passed_ms)


def test_help_is_quick_because_it_imports_neither_the_client_nor_asyncio() -> None:
    script = (
        "import sys\n"
        "from tq.admin.cli import cli\n"
        "cli(['--help'], standalone_mode=False)\n"
        "print('heavy:', *{'asyncio', 'msgpack', 'yaml', 'tq.client'} & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (0, "") == (done.returncode, done.stderr)
    assert "cluster" in done.stdout
    assert "heavy:" == done.stdout.splitlines()[-1]


def test_a_member_that_forgot_is_up_but_does_not_count_for_a_majority() -> None:
    answers = [
        Answer("n1:7401", node(1)),
        Answer("n2:7401", node(2)),
        Answer("n3:7401", node(3, amnesiac=True)),
    ]
    report = judge(answers)

    assert (3, 0) == (report.reachable, report.can_lose)
    assert (Verdict.DEGRADED, "node 3 is amnesiac") == (report.verdict, report.reason)
