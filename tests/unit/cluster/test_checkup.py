"""Acting on vitals: a wrong state stops its node, a wrong clock keeps it from leading."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from cluster.checkup import Checkup
from cluster.directory import DataDirectory
from cluster.events import Ready
from cluster.faults import DivergedError, StartError
from cluster.messages import PreVote, PreVoteReply, TimeoutNow, VoteReply, VoteRequest
from cluster.recovery import DIVERGED_FILE
from cluster.rim import AsyncioRim
from cluster.vitals import FAR_OFF_MS, Report
from tests.support.peer_counter import Cluster, CounterMachine

MakeCluster = Callable[..., Cluster]
T0_MS = 1_700_000_000_000


class ShiftedRim(AsyncioRim):
    """A node whose wall clock is wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.shift_ms = 0

    def wall_ms(self) -> int:
        return super().wall_ms() + self.shift_ms


# ------------------------------------------------------------------------------ replicas


@pytest.mark.parametrize("wrong", ["leader", "follower"])
async def test_a_node_whose_state_differs_stops_and_the_others_go_on(
    make_cluster: MakeCluster, caplog: pytest.LogCaptureFixture, wrong: str
) -> None:
    cluster = make_cluster()
    await cluster.start()
    leader = await cluster.leader()
    member = leader if wrong == "leader" else next(m for m in cluster.members if m is not leader)
    member.machine.flaw = b"a bit that flipped in memory"
    await cluster.submit(12)
    await cluster.until(lambda: member.heard.fatal_text, "the end of the node that differs")
    text = member.heard.fatal_text or ""
    assert f"the state of node {member.node_id} at entry" in text
    assert "move it aside; started with an empty directory" in text
    member.kill()

    cluster.acked.clear()
    await cluster.submit(15)
    await cluster.agree()
    assert [m.heard.fatal_text for m in cluster.up] == [None, None]

    with pytest.raises(DivergedError, match=f"the state of node {member.node_id} at entry"):
        await member.start()
    assert (member.directory / "identity").exists()

    member.directory.rename(member.directory.with_name("evidence"))
    await member.start()
    await cluster.submit(12)
    await cluster.agree()
    await cluster.until(lambda: not member.amnesiac, "the node filled up again")
    assert member.heard.fatal_text is None


async def test_a_node_whose_state_differs_stops_where_that_cannot_be_recorded_too(
    make_cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = DataDirectory.replace

    def refuse(directory: DataDirectory, name: str, content: bytes) -> None:
        if name == DIVERGED_FILE:
            raise StartError(f"{directory.path / name}: input/output error")
        replace(directory, name, content)

    cluster = make_cluster()
    await cluster.start()
    leader = await cluster.leader()
    leader.machine.flaw = b"a bit that flipped in memory"
    monkeypatch.setattr(DataDirectory, "replace", refuse)
    await cluster.submit(12)
    await cluster.until(lambda: leader.heard.fatal_text, "the end of the node that differs")
    text = leader.heard.fatal_text or ""
    assert f"the state of node {leader.node_id} at entry" in text
    assert "move it aside; started with an empty directory" in text
    assert "could not be recorded" in text
    assert "diverged: input/output error" in text


async def test_where_no_quorum_agrees_all_go_on_with_an_alarm(
    make_cluster: MakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = make_cluster()
    for member in cluster.members:
        member.flaw = b"%d" % member.node_id
    await cluster.start()
    await cluster.submit(12)
    await cluster.until(
        lambda: all(m.live.alarms().disagreement for m in cluster.members), "an alarm everywhere"
    )
    await cluster.submit(12)
    assert [m.heard.fatal_text for m in cluster.members] == [None, None, None]
    assert "no quorum is known to agree" in caplog.text


async def _start_with_clocks(cluster: Cluster) -> dict[int, ShiftedRim]:
    """Start a cluster that compares its clocks often; return where each can be shifted."""
    cluster.report_s = 0.05
    rims = {member.node_id: ShiftedRim() for member in cluster.members}
    for member in cluster.members:
        await member.start(rim=rims[member.node_id])
    return rims


async def test_a_leader_whose_clock_is_a_minute_off_hands_over_and_is_not_elected_again(
    make_cluster: MakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = make_cluster()
    rims = await _start_with_clocks(cluster)
    await cluster.submit(3)
    wrong = await cluster.leader()
    rims[wrong.node_id].shift_ms = 2 * FAR_OFF_MS
    await cluster.until(lambda: wrong.status.role != "leader", "another leader")
    assert f"the clock of node {wrong.node_id} is 120.0 s ahead" in caplog.text
    assert f"the clock of node {wrong.node_id} is so wrong that it will not lead" in caplog.text
    right = rims[(await cluster.leader()).node_id].wall_ms()
    assert abs(wrong.live.wall_ms() - right) < 1_000
    assert wrong.live.alarms().far_off
    await cluster.submit(3)
    roles = wrong.heard.roles
    assert [role for _, role in roles].count("leader") == 1, "elected again"


async def test_a_node_with_a_wrong_clock_leads_for_a_moment_if_nobody_else_can_be_elected(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster()
    rims = await _start_with_clocks(cluster)
    await cluster.submit(3)
    leader = await cluster.leader()
    wrong, *_ = [member for member in cluster.members if member is not leader]
    rims[wrong.node_id].shift_ms = 2 * FAR_OFF_MS
    await cluster.until(lambda: wrong.live.alarms().far_off, "a bar")
    engines = [member.live._driver.engine for member in cluster.members if member is not wrong]
    for engine in engines:
        assert engine is not None
        engine.gate_election = engine.reset_deadline  # type: ignore[method-assign]
        engine.become_follower(engine.term)  # as if its disk hung, or it were behind
    await cluster.until(lambda: "leader" in [role for _, role in wrong.heard.roles], "a leader")
    await cluster.until(lambda: wrong.status.role != "leader", "another leader")
    assert await cluster.leader() is not wrong
    await cluster.submit(3)


async def test_every_clock_a_little_off_is_an_alarm_and_no_more(
    make_cluster: MakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = make_cluster()
    cluster.report_s = 0.05
    for member in cluster.members:
        rim = ShiftedRim()
        rim.shift_ms = 5_000 * member.node_id
        await member.start(rim=rim)
    await cluster.until(
        lambda: "the clock of node 3 is 5.0 s ahead of the median" in caplog.text, "an alarm"
    )
    leader = await cluster.leader()
    await cluster.submit(3)
    assert await cluster.leader() is leader
    two = next(m for m in cluster.members if m.node_id == 2)
    for member in cluster.members:
        assert abs(member.live.wall_ms() - two.live.wall_ms()) < 1_000


# ------------------------------------------------------------------------------- decisions


class Owner:
    """A replica's part, written down."""

    def __init__(self) -> None:
        self.leads = True
        self.reports: list[Report] = []
        self.handovers = 0
        self.verdicts: list[str] = []

    def voters(self) -> tuple[int, ...]:
        return (1, 2, 3)

    def say_report(self, report: Report) -> None:
        self.reports.append(report)

    def give_up_leading(self) -> bool:
        self.handovers += self.leads
        return self.leads

    def diverged(self, text: str) -> None:
        self.verdicts.append(text)


class Clock:
    """Both clocks of node 1 and those of its peers."""

    def __init__(self) -> None:
        self.owner = Owner()
        self.machine = CounterMachine()
        self.now = 100.0
        self.shift_ms = 0
        self.checkup = Checkup(
            1, self.machine, wall_ms=self.wall_ms, interval_s=1.0, user=self.owner
        )

    def wall_ms(self) -> int:
        return T0_MS + int(self.now * 1000) + self.shift_ms

    def seconds(self, count: int) -> None:
        """Let time pass in ticks; the peers' clocks are right."""
        for _ in range(count):
            for peer in (2, 3):
                wall_ms = T0_MS + int(self.now * 1000)
                self.checkup.hear(peer, Report(wall_ms, 0, b"", disk_low=False), self.now)
            for _ in range(10):
                self.checkup.tick(self.now)
                self.now += 0.1


ASKING: list[Any] = [PreVote(2, 1, 0, 0), VoteRequest(2, 0, 0)]
OTHERS: list[Any] = [VoteReply(3, True), PreVoteReply(3, 1, True), TimeoutNow(1)]


def test_a_report_leaves_once_an_interval_and_at_each_checkpoint() -> None:
    clock = Clock()
    clock.seconds(3)
    assert len(clock.owner.reports) == 3
    clock.machine.digest_chain = (1000, b"x")
    clock.checkup.applied()
    clock.checkup.applied()
    assert [report.digest_index for report in clock.owner.reports] == [0, 0, 0, 1000]
    clock.checkup.soon()
    clock.checkup.tick(clock.now)
    assert len(clock.owner.reports) == 5


def test_one_far_off_keeps_silent_about_elections_until_its_clock_is_right() -> None:
    clock = Clock()
    clock.seconds(5)
    assert clock.checkup.admits(TimeoutNow(1))
    clock.shift_ms = FAR_OFF_MS + 1_000
    clock.seconds(2)
    assert not clock.checkup.far_off, "one look is not certain"
    clock.seconds(1)
    assert clock.checkup.alarms(clock.now).far_off
    assert not clock.checkup.admits(TimeoutNow(1))
    assert all(clock.checkup.admits(message) for message in ASKING), "it votes as ever"
    ready = Ready()
    ready.messages = [(2, message) for message in [*ASKING, *OTHERS]]
    ready.held = [(7, 2, message) for message in [*ASKING, *OTHERS]]
    clock.checkup.restrain(ready)
    assert ready.messages == [(2, message) for message in OTHERS]
    assert ready.held == [(7, 2, message) for message in OTHERS]
    clock.shift_ms = 0
    clock.seconds(1)
    assert not clock.checkup.far_off


def test_a_handover_that_did_not_happen_is_tried_again_after_a_pause() -> None:
    clock = Clock()
    clock.shift_ms = -2 * FAR_OFF_MS
    clock.seconds(12)
    assert clock.owner.handovers == 2
    clock.owner.leads = False
    clock.seconds(12)
    assert clock.owner.handovers == 2


def test_each_alarm_of_a_clock_is_logged_once_until_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    for _ in range(2):
        clock.shift_ms = 3_000
        clock.seconds(5)
        clock.shift_ms = 0
        clock.seconds(5)
    alarms = [text for text in caplog.messages if "3.0 s ahead of the median" in text]
    ends = [text for text in caplog.messages if "the clock of node 1 is right again" in text]
    assert (len(alarms), len(ends)) == (2, 2)
    assert clock.checkup.alarms(clock.now).skew_ms == 0


def test_a_disagreement_is_logged_once_and_again_when_a_quorum_is_found(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    clock.seconds(1)
    for index in (1000, 2000, 3000):
        clock.machine.digest_chain = (index, b"x")
        clock.checkup.applied()
        clock.checkup.hear(2, Report(T0_MS, index, b"y", disk_low=False), clock.now)
    assert [text.split(",")[0] for text in caplog.messages] == [
        "at entry 1000 the state of node 2 is not the one of node 1"
    ]
    clock.checkup.hear(3, Report(T0_MS, 3000, b"x", disk_low=False), clock.now)
    assert "a quorum agrees with this node" in caplog.messages[-1]
    assert len(caplog.messages) == 2
    assert clock.owner.verdicts == []


def test_a_disagreement_is_told_until_the_node_that_differs_is_gone() -> None:
    clock = Clock()
    clock.seconds(1)
    clock.machine.digest_chain = (1000, b"x")
    clock.checkup.applied()
    clock.checkup.hear(2, Report(T0_MS, 1000, b"y", disk_low=False), clock.now)
    assert "node 2" in clock.checkup.alarms(clock.now).disagreement
    clock.checkup.forget(2)
    assert clock.checkup.alarms(clock.now).disagreement == ""
    assert clock.owner.verdicts == []


def test_the_one_that_differs_from_a_quorum_is_told_to_stop() -> None:
    clock = Clock()
    clock.seconds(1)
    clock.machine.digest_chain = (1000, b"x")
    clock.checkup.applied()
    clock.checkup.hear(2, Report(T0_MS, 1000, b"y", disk_low=False), clock.now)
    clock.checkup.hear(3, Report(T0_MS, 1000, b"y", disk_low=False), clock.now)
    assert len(clock.owner.verdicts) == 1


def test_the_machine_restored_at_the_start_is_compared_without_another_entry() -> None:
    clock = Clock()
    clock.machine.digest_chain = (1000, b"x")
    clock.seconds(1)
    assert clock.owner.reports[-1].digest_index == 1000
