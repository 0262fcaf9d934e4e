from __future__ import annotations

from typing import cast

import pytest

from cluster.faults import StartError
from node.leases import LeaseKeeper
from node.surroundings import Rules
from node.timekeeper import Timekeeper
from statemachine import (
    Advance,
    ChangeSettings,
    Expire,
    ExpireSessions,
    InternalCommand,
    Lease,
    Machine,
    Retire,
    decode_entry,
)
from tests.unit.node.world import World
from tq.protocol import Type


class StubMachine:
    def __init__(self) -> None:
        self.log_time_ms = 1000
        self.seeded = True
        self.due_ms: int | None = None
        self.archive = 0
        self.cursors: list[bytes] = []

    def next_due_at_ms(self) -> int | None:
        return self.due_ms

    def retirable(self, cursor: bytes, limit: int) -> tuple[list[bytes], bytes]:
        self.cursors.append(cursor)
        count = min(limit, self.archive)
        self.archive -= count
        return [b"i" * 16] * count, b"more" if self.archive else b""

    def session(self, _session: int) -> object | None:
        return None


def a_timekeeper(
    machine: StubMachine, *, compaction_s: float = 60.0, leases: dict[int, Lease] | None = None
) -> Timekeeper:
    known = leases or {}
    keeper = LeaseKeeper(lease_of=known.get, session_s=lambda: 30.0)
    keeper.take_over(known.values(), [], now_s=0.0)
    return Timekeeper(
        cast("Machine", machine),
        leases=keeper,
        rules=Rules(node_id=1, compaction_s=compaction_s, seed={"claim_max": 5}),
        started_s=0.0,
    )


def kinds(commands: list[InternalCommand]) -> list[type]:
    return [type(command) for command in commands]


def test_time_is_advanced_when_the_next_timer_is_due_and_once_at_a_time() -> None:
    machine = StubMachine()
    machine.due_ms = 5000
    keeper = a_timekeeper(machine)

    assert keeper.poll(now_s=1.0, wall_ms=lambda: 4999) == []
    assert keeper.poll(now_s=1.0, wall_ms=lambda: 5000) == [Advance()]
    assert keeper.poll(now_s=1.0, wall_ms=lambda: 5001) == []
    keeper.settled(Advance())
    assert keeper.poll(now_s=1.0, wall_ms=lambda: 5002) == [Advance()]


def test_time_is_advanced_again_while_an_entry_leaves_due_timers() -> None:
    machine = StubMachine()
    keeper = a_timekeeper(machine)
    keeper.advance_due()

    assert keeper.poll(now_s=1.0, wall_ms=lambda: 0) == [Advance()]
    keeper.settled(Advance())
    assert keeper.poll(now_s=1.0, wall_ms=lambda: 0) == []


def test_a_timer_that_log_time_has_reached_is_due_whatever_the_clock_says() -> None:
    machine = StubMachine()
    machine.log_time_ms = machine.due_ms = 9000
    keeper = a_timekeeper(machine)

    assert keeper.poll(now_s=1.0, wall_ms=lambda: 5) == [Advance()]


def test_records_retire_in_bounded_steps_until_none_is_left() -> None:
    machine = StubMachine()
    machine.archive = 2500
    keeper = a_timekeeper(machine, compaction_s=60.0)
    assert keeper.poll(now_s=0.0, wall_ms=lambda: 0) == []
    assert keeper.poll(now_s=59.0, wall_ms=lambda: 0) == []

    sizes = []
    for _ in range(4):
        for command in keeper.poll(now_s=60.0, wall_ms=lambda: 0):
            assert isinstance(command, Retire)
            sizes.append(len(command.task_ids))
            assert keeper.poll(now_s=60.0, wall_ms=lambda: 0) == [], "one at a time"
            keeper.settled(command)
    assert sizes == [1000, 1000, 500]
    assert machine.cursors == [b"", b"more", b"more"]

    machine.archive = 1
    assert keeper.poll(now_s=119.0, wall_ms=lambda: 0) == []
    assert kinds(keeper.poll(now_s=120.0, wall_ms=lambda: 0)) == [Retire]


def test_records_retire_although_leaders_change_more_often_than_the_sweep_comes() -> None:
    machine = StubMachine()
    machine.archive = 1500
    keeper = a_timekeeper(machine, compaction_s=60.0)
    for now_s in (0.0, 30.0, 59.0):
        assert keeper.poll(now_s=now_s, wall_ms=lambda: 0) == []
        keeper.stand_down()
    assert kinds(keeper.poll(now_s=61.0, wall_ms=lambda: 0)) == [Retire]

    keeper.stand_down()  # in the middle of a sweep
    assert kinds(keeper.poll(now_s=62.0, wall_ms=lambda: 0)) == [Retire]
    assert machine.cursors == [b"", b""], "from the start: the command may have been dropped"
    assert keeper.poll(now_s=63.0, wall_ms=lambda: 0) == []


def test_a_node_that_is_elected_long_after_its_start_sweeps_at_once() -> None:
    machine = StubMachine()
    machine.archive = 1
    keeper = a_timekeeper(machine, compaction_s=60.0)
    assert kinds(keeper.poll(now_s=1000.0, wall_ms=lambda: 0)) == [Retire]


def test_a_node_that_does_not_count_leases_proposes_nothing() -> None:
    machine = StubMachine()
    machine.due_ms = 0
    keeper = LeaseKeeper(lease_of=lambda _: None, session_s=lambda: 1.0)
    timekeeper = Timekeeper(
        cast("Machine", machine),
        leases=keeper,
        rules=Rules(node_id=1, compaction_s=0.0),
        started_s=0.0,
    )

    assert timekeeper.poll(now_s=1e6, wall_ms=lambda: 10**12) == []


def test_expired_leases_are_named_by_task_and_token() -> None:
    lease = Lease(b"t" * 16, 99, 1, 1000)
    keeper = a_timekeeper(StubMachine(), leases={99: lease})

    assert keeper.poll(now_s=2.0, wall_ms=lambda: 0) == [Expire(((b"t" * 16, 99),))]


def test_only_a_machine_that_was_never_seeded_is_given_settings() -> None:
    machine = StubMachine()
    keeper = a_timekeeper(machine)
    assert keeper.bootstrap() is None
    machine.seeded = False
    assert keeper.bootstrap() == ChangeSettings((("claim_max", 5),), is_seed=True)


def test_an_expiry_takes_the_lease_away_through_the_log() -> None:
    world = World()
    client = world.client()
    session = client.register()
    task_id = client.submit(lease_ms=1000)
    [grant] = client.claim(session)
    world.pass_s(1.5)

    last = [
        command
        for proposal in world.consensus.proposals
        for command in decode_entry(proposal.entry)[1]
        if isinstance(command, Expire | ExpireSessions)
    ]
    assert last == [Expire(((task_id, grant[1]),))]
    assert client.nack(Type.TASK_RESULT, task_id, grant[1], 0, b"", "")[0] == "LEASE_LOST"


def test_a_lease_that_was_extended_after_a_dropped_expiry_lasts_its_new_time() -> None:
    world = World()
    client = world.client()
    session = client.register()
    client.submit(lease_ms=10_000)
    [grant] = client.claim(session)
    world.consensus.holds = True
    for _ in range(12):  # the session stays alive, the lease is in no heartbeat
        world.pass_s(1.0)
        client.send(Type.HEARTBEAT, session, [], {})
    assert any(isinstance(one, Expire) for one in decoded(world))
    world.consensus.drop("NOT_LEADER")
    world.consensus.holds = False
    client.answers()

    client.ack(Type.EXTEND, grant[0], grant[1], 10_000)
    for _ in range(9):
        world.pass_s(1.0)
        client.send(Type.HEARTBEAT, session, [], {})
    assert world.machine.lease_of(grant[1]) is not None


def decoded(world: World) -> list[object]:
    return [one for proposal in world.consensus.waiting for one in decode_entry(proposal.entry)[1]]


def test_a_leader_that_stood_still_takes_no_lease_whose_heartbeat_waits_to_be_read() -> None:
    world = World()
    client = world.client()
    session = client.register()
    client.submit()
    [grant] = client.claim(session)
    world.pass_s(0.5)

    world.clock.pass_s(31)  # longer than the lease, and than a session may be silent
    world.broker.tick()
    world.loop.run()

    assert client.ack(Type.HEARTBEAT, session, [grant[1]]) == [[]]
    world.pass_s(29)
    assert client.ack(Type.HEARTBEAT, session, [grant[1]]) == [[]]
    client.ack(Type.TASK_RESULT, grant[0], grant[1], 0, b"", "")


def test_a_leader_that_stood_still_renews_nothing_that_an_expiry_under_way_ends() -> None:
    """Seed 230983931142848: whoever was told that its session lives lost it 16 ms later."""
    world = World()
    client = world.client()
    session = client.register()
    client.submit()
    [grant] = client.claim(session)
    world.consensus.holds = True
    world.pass_s(30.5)
    assert {type(one) for one in decoded(world)} == {Expire, ExpireSessions}

    world.clock.pass_s(2)
    world.broker.tick()
    world.loop.run()
    assert client.nack(Type.HEARTBEAT, session, [grant[1]])[0] == "UNKNOWN_SESSION"


def test_stalls_that_come_again_and_again_end_leases_later_and_not_never() -> None:
    world = World()
    client = world.client()
    session = client.register()
    client.submit()
    [grant] = client.claim(session)
    for _ in range(5):
        world.pass_s(5)
        world.clock.pass_s(5)
        world.broker.tick()
        world.loop.run()
    assert world.machine.lease_of(grant[1]) is not None, "25 s of 30 have run"
    world.pass_s(6)
    assert world.machine.lease_of(grant[1]) is None


def test_a_short_stall_takes_no_short_lease_whose_heartbeat_waits_to_be_read() -> None:
    world = World()
    client = world.client()
    session = client.register()
    client.submit(lease_ms=1000)
    [grant] = client.claim(session)
    world.pass_s(0.3)
    assert client.ack(Type.HEARTBEAT, session, [grant[1]]) == [[]]
    world.pass_s(0.2)
    world.clock.pass_s(0.98)
    world.broker.tick()
    world.loop.run()
    assert client.ack(Type.HEARTBEAT, session, [grant[1]]) == [[]]
    assert world.machine.lease_of(grant[1]) is not None


def test_no_lease_ends_while_the_heartbeat_that_renews_it_waits_for_its_barrier() -> None:
    world = World()
    client = world.client()
    session = client.register()
    client.submit(lease_ms=1000)
    [grant] = client.claim(session)
    world.pass_s(0.5)
    world.consensus.holds_reads = True
    client.send(Type.HEARTBEAT, session, [grant[1]])
    world.loop.run()
    world.pass_s(0.7)
    world.consensus.holds_reads = False
    world.consensus.pass_reads()
    [(_, [_, lost])] = client.answers()
    assert lost == []
    assert world.machine.lease_of(grant[1]) is not None
    world.pass_s(1.1)
    assert world.machine.lease_of(grant[1]) is None, "and it is not waited for any longer"


def test_a_sweep_whose_command_was_dropped_begins_again_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(rules=Rules(node_id=1, compaction_s=60.0))
    monkeypatch.setattr(world.machine, "retirable", lambda _cursor, _limit: ([b"i" * 16], b""))
    world.consensus.holds = True
    world.pass_s(60.1)
    assert [Retire] == [type(one) for one in decoded(world)]
    world.consensus.drop("NOT_LEADER")
    world.pass_s(0.1)
    assert [Retire] == [type(one) for one in decoded(world)]


def test_an_archive_that_cannot_be_read_does_not_stop_the_tick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The archive has told of it, and the node ends; until then others have their answers."""
    world = World()
    asked: list[object] = []

    def unreadable(*arguments: object) -> object:
        asked.append(arguments)
        raise StartError("While pread offset 4096: Input/output error")

    monkeypatch.setattr(world.machine, "retirable", unreadable)
    world.pass_s(3600.0)
    assert asked
    world.client().submit()
