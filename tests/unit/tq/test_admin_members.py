"""`tq-admin cluster add`, `promote` and `remove`, and how `cluster status` shows learners."""

from __future__ import annotations

import json
from collections import deque
from typing import Any

import pytest
from click.testing import CliRunner, Result

import tq
from tests.unit.tq.test_admin import NODES, FakeClient, cluster, healthy, node
from tq.admin.cli import Settings, cli
from tq.admin.verdict import Answer, judge

WAIT = 0.001


def refusal(code: str, retry_after_s: float | None = None) -> tq.ChangeRefused:
    return tq.ChangeRefused(code, f"about node 4: {code}", retry_after_s)


class MembersClient:
    """Answers each change from a script: an index, or an error."""

    def __init__(self, *script: int | tq.TqError) -> None:
        self.script = deque(script)
        self.asked: list[tuple[Any, ...]] = []

    async def add_node(self, node_id: int, address: str, *, deadline: Any = None) -> int:
        return self._answer("add", node_id, address)

    async def promote_node(self, node_id: int, *, deadline: Any = None) -> int:
        return self._answer("promote", node_id)

    async def remove_node(self, node_id: int, *, deadline: Any = None) -> int:
        return self._answer("remove", node_id)

    async def close(self) -> None:
        """Nothing is open."""

    def _answer(self, *what: Any) -> int:
        self.asked.append(what)
        answer = self.script.popleft()
        if isinstance(answer, tq.TqError):
            raise answer
        return answer


def run(client: MembersClient, *arguments: str) -> Result:
    settings = Settings(make_client=lambda _: client)
    return CliRunner().invoke(cli, ["cluster", *arguments], obj=settings, catch_exceptions=False)


def test_each_verb_asks_for_its_change_and_says_what_it_means() -> None:
    for arguments, asked, text in [
        (["add", "4", "h:7400"], ("add", 4, "h:7400"), "node 4 is a learner now"),
        (["promote", "4"], ("promote", 4), "node 4 is a voter now"),
        (["remove", "4"], ("remove", 4), "node 4 is not a member any more"),
    ]:
        client = MembersClient(57)
        result = run(client, *arguments)
        assert (result.exit_code, client.asked) == (0, [asked])
        assert result.stdout.startswith(text)


def test_the_answer_for_programs_names_the_index() -> None:
    result = run(MembersClient(57), "promote", "4", "-o", "json")
    wanted = {"schema": 1, "node_id": 4, "role": "voter", "index": 57}
    assert json.loads(result.stdout) == wanted


def test_what_passes_is_waited_for_and_told_once() -> None:
    behind = refusal("NOT_CAUGHT_UP", WAIT)
    client = MembersClient(behind, behind, 57)
    result = run(client, "promote", "4")
    assert (result.exit_code, len(client.asked)) == (0, 3)
    assert result.stderr == "waiting: about node 4: NOT_CAUGHT_UP\n"


def test_the_wait_has_an_end() -> None:
    client = MembersClient(*[refusal("NOT_CAUGHT_UP", 60.0)] * 9)
    result = run(client, "promote", "4", "--timeout", "1s")
    assert (result.exit_code, len(client.asked)) == (5, 1)
    assert result.stderr.endswith("error: NOT_CAUGHT_UP: about node 4: NOT_CAUGHT_UP\n")


def test_what_is_done_already_is_no_error() -> None:
    result = run(MembersClient(refusal("ALREADY")), "promote", "4")
    assert (result.exit_code, result.stdout) == (0, "nothing to do: about node 4: ALREADY\n")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (refusal("NO_SUCH_MEMBER"), 3),
        (refusal("TOO_MANY_MEMBERS"), 5),
        (tq.Conflict("CONFLICT", "elsewhere"), 5),
        (tq.BadRequest("BAD_REQUEST", "address: must be HOST:PORT"), 2),
        (tq.Unavailable("nobody leads"), 7),
        (tq.UnknownOutcome("sent, never answered"), 8),
    ],
)
def test_what_stays_refused_has_its_exit_code(error: tq.TqError, code: int) -> None:
    client = MembersClient(error)
    result = run(client, "add", "4", "h:7400")
    assert (result.exit_code, len(client.asked)) == (code, 1)
    assert str(error) in result.stderr


@pytest.mark.parametrize("node_id", ["0", "65536", "four"])
def test_a_number_no_node_can_have_is_a_usage_error(node_id: str) -> None:
    assert run(MembersClient(), "remove", node_id).exit_code == 2


# What `cluster status` shows.


def with_learner(client: FakeClient, **changes: Any) -> FakeClient:
    """Add node 4 as a learner that everyone knows of."""
    facts = {"voters": [1, 2, 3], "learners": [4], "configuration_index": 57}
    for status in client.nodes.values():
        status.update(facts)
        status["peers"].append(
            {"node_id": 4, "client_address": "n4:7401", "connected": True, "voter": False}
        )
    client.nodes["n4:7401"] = node(4, **facts) | changes
    return client


def test_a_learner_has_its_row_and_counts_for_nothing() -> None:
    code, report = cluster(with_learner(healthy()))
    assert (code, report["verdict"]) == (0, "HEALTHY")
    assert (report["members"], report["voters"], report["learners"]) == (4, 3, 1)
    assert (report["reachable"], report["can_lose"], report["configuration_index"]) == (3, 1, 57)
    row = report["nodes"][3]
    assert (row["node_id"], row["role"], row["voter"], row["state"]) == (
        *(4, "learner", False),
        "healthy",
    )


def test_the_head_of_the_table_counts_learners_apart() -> None:
    client = with_learner(healthy())
    settings = Settings(make_client=lambda _: client)
    servers = ",".join(NODES.values())
    result = CliRunner().invoke(cli, ["--servers", servers, "cluster", "status"], obj=settings)
    head = result.stdout.splitlines()[0]
    assert head.endswith("3/3 up, can lose 1; 1 learner; leader 1, term 8; members as of entry 57")


@pytest.mark.parametrize("changes", [{"applied_index": 0}, {"amnesiac": True}])
def test_a_learner_that_catches_up_is_no_trouble(changes: dict[str, Any]) -> None:
    code, report = cluster(with_learner(healthy(), **changes))
    assert (code, report["nodes"][3]["state"]) == (0, "catching up")


def test_a_learner_cannot_stand_in_for_a_voter() -> None:
    client = with_learner(healthy())
    del client.nodes["n3:7401"]
    code, report = cluster(client)
    assert (code, report["verdict"], report["can_lose"]) == (6, "DEGRADED", 0)


def test_two_lost_voters_of_three_are_no_quorum_whatever_the_learners_say() -> None:
    client = with_learner(healthy())
    del client.nodes["n2:7401"], client.nodes["n3:7401"]
    for peer in client.nodes["n1:7401"]["peers"]:
        peer["connected"] = peer["node_id"] == 4
    code, report = cluster(client)
    assert (code, report["verdict"]) == (7, "NO QUORUM")


def test_a_node_that_waits_to_be_added_is_shown_and_does_not_count() -> None:
    client = healthy()
    for status in client.nodes.values():
        status["voters"] = [1, 2, 3]
    waiting = node(4, voters=[], role="follower", leader_id=None, term=0, peers=[])
    client.nodes["n4:7401"] = waiting
    code, report = cluster(client, servers="n1:7401,n4:7401")
    assert (code, report["voters"], report["learners"]) == (0, 3, 0)
    assert (report["nodes"][3]["state"], report["nodes"][3]["member"]) == ("not a member", False)


def test_without_a_leader_the_latest_list_of_members_counts() -> None:
    older = node(2, role="follower", leader_id=None, voters=[1, 2, 3], configuration_index=0)
    newer = node(3, role="follower", leader_id=None, voters=[2, 3, 4], configuration_index=9)
    report = judge([Answer("n2:7401", older), Answer("n3:7401", newer)])
    assert [row.node_id for row in report.rows if row.member] == [2, 3]
    assert report.configuration_index == 9


def test_a_node_that_an_earlier_sending_removed_is_removed() -> None:
    done = refusal("NO_SUCH_MEMBER")
    done.repeated = True
    result = run(MembersClient(done), "remove", "4")
    assert result.exit_code == 0
    assert result.stdout.startswith("node 4 is not a member any more")


@pytest.mark.parametrize("arguments", [["remove", "4"], ["promote", "4"]])
def test_a_node_that_was_never_there_is_not_found(arguments: list[str]) -> None:
    result = run(MembersClient(refusal("NO_SUCH_MEMBER")), *arguments)
    assert result.exit_code == 3


def test_only_a_removal_is_done_when_the_node_is_not_there() -> None:
    gone = refusal("NO_SUCH_MEMBER")
    gone.repeated = True
    assert run(MembersClient(gone), "promote", "4").exit_code == 3
