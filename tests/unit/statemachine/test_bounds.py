"""What one command, one worker and one task may cost is bounded."""

from __future__ import annotations

from statemachine import (
    LIMITS,
    POSITION_BITS,
    Accepted,
    Advance,
    ChangeSettings,
    Code,
    CommandType,
    Done,
    ExpireSessions,
    Granted,
    Refused,
    Retire,
    Settings,
    TaskOutcome,
    TaskState,
)
from statemachine.registering import LOST_PER_COMMAND_MAX
from tests.unit.statemachine.player import START_MS, Player, command, task_id

ROOMY = ChangeSettings((("claim_max", 1000),))


def fill(player: Player, count: int, **options: int) -> list[bytes]:
    ids = [task_id(number) for number in range(count)]
    for start in range(0, count, 1000):
        player.submit_batch([[id_, "q", "task", b"", options] for id_ in ids[start : start + 1000]])
    return ids


def test_an_entry_handles_at_most_a_thousand_timers_and_says_that_more_are_due() -> None:
    player = Player()
    fill(player, 2001, delay_ms=10)
    player.now_ms += 10
    for ready, advance_due in ((1000, True), (2000, True), (2001, False)):
        player.internal(Advance())
        assert player.machine.ready("default", "q") == ready
        assert player.outcome.advance_due is advance_due
    assert player.machine.next_due_at_ms() is None
    assert player.machine.depth("default", "q") == 2001


def test_a_session_holds_at_most_so_many_leases() -> None:
    player = Player()
    player.internal(ROOMY)
    fill(player, 4200)
    session = player.register()
    sizes = []
    for _ in range(5):
        reply = player.claim(session, count=1000)
        assert isinstance(reply, Granted)
        sizes.append(len(reply.grants))
    assert sizes == [1000, 1000, 1000, 1000, LIMITS.session_leases_max - 4000]


def test_a_session_that_holds_all_it_may_is_refused_rather_than_told_that_there_is_nothing() -> (
    None
):
    player = Player()
    player.internal(ROOMY)
    fill(player, 4200)
    session = player.register()
    for _ in range(5):
        player.claim(session, count=1000)
    refused = player.claim(session, count=1)
    assert isinstance(refused, Refused)
    assert refused.code is Code.RATE_LIMITED
    assert player.machine.ready("default", "q") == 4200 - LIMITS.session_leases_max


def test_ending_silent_sessions_stops_once_enough_leases_were_lost() -> None:
    player = Player()
    player.internal(ROOMY)
    fill(player, 2500)
    sessions = [player.register(bytes([n]) * 16) for n in range(4)]
    for session in sessions:
        player.claim(session, count=700)
    assert isinstance(player.internal(ExpireSessions(tuple(sessions))), Done)
    assert LOST_PER_COMMAND_MAX == 1000
    assert [session.session for session in player.machine.sessions()] == sessions[2:]
    player.internal(ExpireSessions(tuple(sessions)))
    assert list(player.machine.sessions()) == []
    assert player.machine.ready("default", "q") == 2500
    player.restart()


def test_so_many_workers_and_not_more() -> None:
    player = Player()
    for start in range(0, LIMITS.sessions_max, 1000):
        replies = player.apply(
            *(
                command(CommandType.REGISTER_WORKER, 1, n.to_bytes(16, "big"), "w", [], {})
                for n in range(start, start + 1000)
            )
        )
        assert not any(isinstance(reply, Refused) for reply in replies)
    refused = player.ask(CommandType.REGISTER_WORKER, b"x" * 16, "w", [], {})
    assert isinstance(refused, Refused)
    assert refused.code is Code.RATE_LIMITED
    again = player.ask(CommandType.REGISTER_WORKER, bytes(16), "w", [], {})
    assert not isinstance(again, Refused)


def test_the_history_keeps_the_latest_sixteen_events() -> None:
    player = Player()
    session = player.register()
    player.submit(task_id(1))
    for _ in range(20):
        player.ask(CommandType.RELEASE, *player.claim_one(session))
    status = player.machine.status("default", task_id(1))
    assert status is not None
    details = [detail for _, _, detail in status["history"]]  # type: ignore[attr-defined]
    assert details == [f"attempt {n}" for n in range(5, 21)]
    player.restart()


def test_a_worker_that_repeats_a_late_call_does_not_push_out_the_history() -> None:
    player = Player()
    session = player.register()
    player.submit(task_id(1))
    id_, token = player.claim_one(session)
    player.ask(CommandType.RELEASE, id_, token)
    for _ in range(50):
        player.ask(CommandType.PROGRESS, id_, token, 5, "")
    status = player.machine.status("default", id_)
    assert status is not None
    events = [event for _, event, _ in status["history"]]  # type: ignore[attr-defined]
    assert events == ["released", "late_progress"]


def test_a_waiting_task_keeps_little_of_its_error_and_a_dead_letter_all_of_it() -> None:
    player = Player()
    session = player.register()
    error = "x" * LIMITS.error_bytes_max
    player.submit(task_id(1), retry_max=1, retry_base_ms=1)
    player.settle(*player.claim_one(session), outcome=TaskOutcome.FAILURE, error=error)
    status = player.machine.status("default", task_id(1))
    assert status is not None
    assert status["error"] == error[: LIMITS.live_error_chars_max]
    player.now_ms += 10
    player.settle(*player.claim_one(session), outcome=TaskOutcome.FAILURE, error=error)
    status = player.machine.status("default", task_id(1))
    assert status is not None
    assert status["error"] == f"failed 2 times, 1 retries allowed; {error}"


def test_positions_of_an_entry_run_out_without_running_into_the_next() -> None:
    player = Player()
    player.internal(ROOMY)
    session = player.register()
    fill(player, 3)
    begin = type(player.machine._state).begin
    for replica in (player.leader, player.follower):
        state = replica.machine._state

        def almost_full(index: int, now_ms: int, state: object = state) -> None:
            begin(state, index, now_ms)  # type: ignore[arg-type]
            state.next_token = ((index + 1) << POSITION_BITS) - 2  # type: ignore[attr-defined]

        state_class = type("Full", (type(state),), {"__slots__": (), "begin": None})
        replica.machine._state.__class__ = state_class
        state_class.begin = staticmethod(almost_full)  # type: ignore[attr-defined]
    replies = player.apply(
        command(CommandType.CLAIM_TASK, 90, session, ["q"], 5, 0),
        command(CommandType.SUBMIT_TASK, 91, task_id(9), "q", "task", b"", {}),
        command(CommandType.REGISTER_WORKER, 92, b"x" * 16, "w", [], {}),
        command(CommandType.CLAIM_TASK, 93, session, ["q"], 5, 0),
    )
    granted, submitted, registered, again = replies
    assert isinstance(granted, Granted)
    assert len(granted.grants) == 2
    assert {grant.token >> POSITION_BITS for grant in granted.grants} == {player.index}
    for reply in (submitted, registered):
        assert isinstance(reply, Refused)
        assert reply.code is Code.RATE_LIMITED
    assert Granted([]) == again


def test_an_empty_queue_leaves_nothing_behind() -> None:
    player = Player()
    session = player.register()
    player.submit(task_id(1), queue="a")
    player.submit(task_id(2), queue="b", delay_ms=5)
    player.submit(task_id(3), queue="c", retry_max=0)
    player.submit(task_id(4), queue="d", lost_max=0)
    player.settle(*player.claim_one(session, "a"))
    player.ask(CommandType.CANCEL_TASK, task_id(2), "")
    player.settle(*player.claim_one(session, "c"), outcome=TaskOutcome.FAILURE)
    player.claim_one(session, "d")
    player.internal(ExpireSessions((session,)))
    state = player.machine._state
    assert (state.live, state.queues, state.leased, len(state.timers)) == ({}, {}, {}, 0)


def test_a_task_that_uses_no_feature_has_no_story() -> None:
    player = Player()
    session = player.register()
    player.submit(task_id(1))
    id_, token = player.claim_one(session)
    task = player.machine._state.live[id_]
    player.settle(id_, token)
    assert task.state is TaskState.COMPLETED
    assert task.story is None


def test_settings_not_named_stay_as_they_are() -> None:
    player = Player()
    player.internal(ChangeSettings((("claim_max", 5), ("retention_ms", 7))))
    player.internal(ChangeSettings((("claim_max", 6),)))
    assert Settings(claim_max=6, retention_ms=7) == player.machine.settings
    player.restart()
    assert Settings(claim_max=6, retention_ms=7) == player.machine.settings


def sweep(player: Player, limit: int) -> list[bytes]:
    """Run a whole sweep of the leader's, retiring as it goes; return what it retired."""
    cursor, found = b"", list[bytes]()
    for _ in range(1000):
        due, cursor = player.machine.retirable(cursor, limit)
        found += due
        player.internal(Retire(tuple(due)))
        if not cursor:
            return found
    raise AssertionError("the sweep does not end")


def test_the_retention_sweep_finds_what_is_due_and_ends() -> None:
    player = Player()
    player.internal(ChangeSettings((("idempotency_window_ms", 3_600_000), ("retention_ms", 1000))))
    session = player.register()
    ids = [task_id(n, at_ms=START_MS - 900_000 + n) for n in range(12)]
    for number, id_ in enumerate(ids):
        player.submit(id_, retry_max=0)
        claimed = player.claim_one(session)
        if number == 11:
            player.now_ms += 10
        player.settle(*claimed, outcome=TaskOutcome.FAILURE if number % 3 == 0 else 0)
    player.checkpoint()
    assert sweep(player, 4) == []
    player.now_ms += 990
    player.internal(Advance())
    due = [ids[n] for n in (1, 2, 4, 5, 7, 8, 10, 0, 3, 6, 9)]
    assert sweep(player, 4) == due
    # What was retired is not found again, before the checkpoint or after it.
    assert sweep(player, 4) == []
    player.restart()
    assert sweep(player, 4) == []
    assert player.machine.statistics()["states"] == dict.fromkeys(TaskState, 0) | {"completed": 1}
    # Stubs go when an id of their age would be refused anyway.
    player.now_ms = START_MS - 900_000 + 3_600_000 + 5
    player.internal(Advance())
    assert sweep(player, 4) == [ids[11], *ids[:5]]
    player.checkpoint()
    assert sweep(player, 4) == []
    assert not player.machine.knows(ids[4])
    assert player.machine.knows(ids[5])


def test_ids_are_known_while_a_submit_would_be_answered_as_before() -> None:
    player = Player()
    player.internal(ChangeSettings((("retention_ms", 0),)))
    session = player.register()
    assert not player.machine.knows(task_id(1))
    player.submit(task_id(1))
    assert player.machine.knows(task_id(1))
    player.settle(*player.claim_one(session))
    assert player.machine.knows(task_id(1))
    player.checkpoint()
    assert player.machine.knows(task_id(1))
    player.internal(Retire((task_id(1),)))
    assert player.machine.knows(task_id(1))
    player.checkpoint()
    assert player.machine.knows(task_id(1))
    assert isinstance(player.submit(task_id(1)), Accepted)


def test_a_long_payload_is_told_apart_by_its_digest_at_every_age() -> None:
    for size in (LIMITS.compared_payload_bytes_max, LIMITS.compared_payload_bytes_max + 1):
        player = Player()
        player.internal(ChangeSettings((("retention_ms", 0),)))
        session = player.register()
        same, other, shorter = b"x" * size, b"x" * (size - 1) + b"y", b"x" * (size - 1)

        def answers(
            player: Player = player, all_: tuple[bytes, ...] = (same, other, shorter)
        ) -> list[bool]:
            return [isinstance(player.submit(task_id(1), payload=one), Accepted) for one in all_]

        assert answers() == [True, False, False]
        player.checkpoint()
        assert answers() == [True, False, False]
        player.settle(*player.claim_one(session))
        player.checkpoint()
        assert answers() == [True, False, False]
        player.internal(Retire((task_id(1),)))
        player.checkpoint()
        assert answers() == [True, False, False]
